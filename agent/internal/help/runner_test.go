package help_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/consent"
	"github.com/ggfleet/ggfleet/agent/internal/help"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

var (
	tailAsk    = protocol.HelpAsk{Kind: protocol.HelpLogsTail, Of: protocol.HelpOfNucleus, Lines: 10}
	restartAsk = protocol.HelpAsk{Kind: protocol.HelpRestart, Of: protocol.HelpOfComponent, Component: "com.example.X"}
	bundleAsk  = protocol.HelpAsk{Kind: protocol.HelpBundle}
	diagAsk    = protocol.HelpAsk{Kind: protocol.HelpDiagnose, Diagnostic: "clock"}
)

func logFile(t *testing.T, text string) help.Log {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x.log"), []byte(text), 0o600))
	return help.FileLog(dir, "x.log")
}

func TestEachKindNeedsItsConsentAndSaysHowToGiveIt(t *testing.T) {
	all := map[consent.Permission][]protocol.HelpAsk{
		consent.Logs:        {tailAsk, {Kind: protocol.HelpLogsRange, Of: protocol.HelpOfNucleus, Length: 100}},
		consent.Bundle:      {bundleAsk},
		consent.Restart:     {restartAsk},
		consent.Diagnostics: {diagAsk},
	}
	for given, mine := range all {
		t.Run(string(given), func(t *testing.T) {
			d := &device{log: logFile(t, "a line\n")}
			f := start(t, d, given)
			want := map[string]protocol.HelpOutcome{}
			for p, asks := range all {
				for _, a := range asks {
					f.ask(string(a.Kind), a)
					want[string(a.Kind)] = protocol.HelpRefused
					if p == given {
						want[string(a.Kind)] = protocol.HelpDone
					}
				}
			}
			stop := f.serve(t)
			for id, outcome := range want {
				require.Eventually(t, func() bool { f.Wake(); _, ok := f.result(id); return ok }, time.Minute, time.Millisecond)
				r, _ := f.result(id)
				assert.Equal(t, outcome, r.Outcome, "%s: %s", id, r.Message)
				if outcome == protocol.HelpRefused {
					assert.Regexp(t, `'ggfleet-agent allow [a-z]+ --root /.*' does`, r.Message)
					assert.Zero(t, r.Size)
				}
			}
			stop()
			if given != consent.Restart {
				assert.Empty(t, d.restarts)
			} else {
				assert.Equal(t, []string{"component com.example.X"}, d.restarts)
			}
			_ = mine
		})
	}
}

func TestConsentThatIsTakenBackStopsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, &device{bundle: func(_ context.Context, w io.Writer) error {
			_, err := w.Write(bytes.Repeat([]byte("x"), 10*protocol.HelpPart))
			return err
		}}, consent.Bundle)
		f.part = func(n int) {
			if n == 2 {
				f.allow(t, false, consent.Bundle)
			}
		}
		f.ask("one", bundleAsk)
		stop := f.serve(t)
		time.Sleep(time.Minute)
		stop()
		r, ok := f.result("one")
		require.True(t, ok)
		assert.Equal(t, protocol.HelpRefused, r.Outcome)
		assert.NotContains(t, f.calls, "part 3", "nothing more is sent")
	})
}

func TestALineThatBreaksCostsAPartAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := strings.Repeat("0123456789abcde\n", 5*protocol.HelpPart/16) + "end\n"
		f := start(t, &device{bundle: func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}}, consent.Bundle)
		f.part = func(n int) {
			if n == 1 || n == 4 {
				f.away = 5 // the next calls, of whatever kind
			}
		}
		f.away, f.lose = 3, 2
		f.ask("one", bundleAsk)
		stop := f.serve(t)
		time.Sleep(10 * time.Minute)
		stop()
		assert.Equal(t, text, f.content(t, "one"))
		assert.Len(t, f.runs["one"], 1, "it goes on, it does not begin anew")
		n := 0
		for _, c := range f.calls {
			if strings.HasPrefix(c, "part") {
				n++
			}
		}
		assert.LessOrEqual(t, n, 6+10+2, "only what did not arrive is sent again")
	})
}

func TestNobodyWaitsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, &device{log: logFile(t, "a line\n")}, consent.Logs)
		f.ask("one", tailAsk)
		f.part = func(int) { f.withdraw = "one" } // deleted, or expired
		stop := f.serve(t)
		time.Sleep(time.Hour)
		assert.NotContains(t, f.results, "one", "what is over is not reported on")
		f.change(func(c *cloud) { c.away, c.part = 1<<30, nil })
		f.ask("two", tailAsk)
		time.Sleep(14 * 24 * time.Hour) // the control plane is gone for weeks
		f.change(func(c *cloud) { c.away = 0 })
		time.Sleep(10 * time.Minute)
		assert.Equal(t, "a line\n", f.content(t, "two"))
		stop()
	})
}

func TestASlowBundleHoldsUpNoLog(t *testing.T) {
	hold := make(chan struct{})
	f := start(t, &device{log: logFile(t, "a line\n"), bundle: func(ctx context.Context, _ io.Writer) error {
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return ctx.Err()
	}}, consent.Bundle, consent.Logs)
	f.ask("bundle", bundleAsk)
	stop := f.serve(t)
	f.ask("log", tailAsk)
	require.Eventually(t, func() bool { f.Wake(); _, ok := f.result("log"); return ok }, time.Minute, time.Millisecond)
	_, ended := f.result("bundle")
	assert.False(t, ended)
	close(hold)
	require.Eventually(t, func() bool { _, ok := f.result("bundle"); return ok }, time.Minute, time.Millisecond)
	stop()
	assert.Len(t, f.runs["bundle"], 1, "what is under way is not begun again")
}

func TestWhatFailsSaysWhyWithoutSecrets(t *testing.T) {
	for name, c := range map[string]struct {
		ask    protocol.HelpAsk
		device *device
		want   string
	}{
		"an unknown kind":      {protocol.HelpAsk{Kind: "shell"}, &device{}, `does not do what was asked: kind: "shell"`},
		"a path":               {protocol.HelpAsk{Kind: protocol.HelpRestart, Of: protocol.HelpOfComponent, Component: "../x"}, &device{}, "component"},
		"a log that is none":   {tailAsk, &device{logErr: fault.New(fault.NotFound, "there is no log")}, "there is no log"},
		"a restart that fails": {restartAsk, &device{err: errors.New("it says password=hunter2secret")}, "it says password=[removed]"},
		"no such diagnostic":   {diagAsk, &device{err: fault.New(fault.Unsupported, "not here")}, "not here"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, c.device, consent.Permissions()...)
				f.ask("one", c.ask)
				stop := f.serve(t)
				time.Sleep(time.Minute)
				stop()
				r, _ := f.result("one")
				assert.Equal(t, protocol.HelpFailed, r.Outcome)
				assert.Contains(t, r.Message, c.want)
				assert.Zero(t, r.Size)
			})
		})
	}
}

// Whatever a control plane sends, the device reads only below its own folder of
// logs, restarts only what has the name of a component, and answers within
// bounds.
func FuzzOrders(f *testing.F) {
	for _, s := range []string{
		`{"kind":"logs.tail","of":"component","component":"com.example.X","lines":10}`,
		`{"kind":"logs.range","of":"agent","from":"ZgAAAAAAAAAA","length":5,"waitSeconds":1}`,
		`{"kind":"restart","of":"component","component":"../../etc/passwd"}`,
		`{"kind":"restart","of":"component","component":"--help"}`,
		`{"kind":"diagnose","diagnostic":"clock"}`,
	} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	require.NoError(f, os.MkdirAll(filepath.Join(dir, "logs"), 0o700))
	require.NoError(f, os.WriteFile(filepath.Join(dir, "secret.log"), []byte("the secret of another folder\n"), 0o600))
	require.NoError(f, os.WriteFile(filepath.Join(dir, "logs", "nucleus.log"), []byte("a line\n"), 0o600))
	require.NoError(f, os.Symlink("../secret.log", filepath.Join(dir, "logs", "link.log")))
	host, err := help.NewHost(help.HostConfig{Root: dir, Nucleus: func() help.Nucleus { return help.Nucleus{Runtime: "simulated", Root: dir} }})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := help.DecodeOrder(raw)
		if err != nil {
			return
		}
		a.WaitSeconds = 0
		d := &recorder{Host: host}
		var out bytes.Buffer
		_ = help.Do(t.Context(), d, a, &out)
		for _, r := range d.restarted {
			require.NotContains(t, r, "/")
			require.NotContains(t, r, "*")
			require.False(t, strings.HasPrefix(r, "-") || strings.HasPrefix(r, "."), r)
		}
		require.NotContains(t, out.String(), "the secret of another folder")
	})
}

// recorder restarts nothing.
type recorder struct {
	*help.Host
	restarted []string
}

func (r *recorder) Restart(_ context.Context, _, component string) error {
	if component != "" {
		r.restarted = append(r.restarted, component)
	}
	return nil
}

func (r *recorder) Bundle(context.Context, io.Writer) error           { return nil }
func (r *recorder) Diagnose(context.Context, string, io.Writer) error { return nil }
