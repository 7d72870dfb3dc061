package cli_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cli"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/fleetapitest"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestHelpFromTheCommandLine(t *testing.T) {
	content := strings.TrimSpace(fleetapitest.HelpContent)
	file := filepath.Join(t.TempDir(), "out")
	for line, want := range map[string]struct {
		out string
		ask protocol.HelpAsk
	}{
		"core logs press-07 --component com.example.Press --tail 5": {content, protocol.HelpAsk{Kind: protocol.HelpLogsTail, Of: "component", Component: "com.example.Press", Lines: 5}},
		"core logs press-07 --agent":                                {content, protocol.HelpAsk{Kind: protocol.HelpLogsTail, Of: "agent", Lines: 200}},
		"device logs gauge-1":                                       {content, protocol.HelpAsk{Kind: protocol.HelpLogsTail, Of: "nucleus", Lines: 200}},
		"core log-range press-07 --from AAAA --length 100":          {content, protocol.HelpAsk{Kind: protocol.HelpLogsRange, Of: "nucleus", From: "AAAA", Length: 100}},
		"core log-range press-07 --all -o " + file:                  {"", protocol.HelpAsk{Kind: protocol.HelpLogsRange, Of: "nucleus", Length: 1 << 20}},
		"core bundle press-07 -o " + file:                           {"", protocol.HelpAsk{Kind: protocol.HelpBundle}},
		"core restart press-07":                                     {"restarted", protocol.HelpAsk{Kind: protocol.HelpRestart, Of: "nucleus"}},
		"device restart gauge-1 --component a.B":                    {"restarted", protocol.HelpAsk{Kind: protocol.HelpRestart, Of: "component", Component: "a.B"}},
		"core diagnose press-07 network":                            {content, protocol.HelpAsk{Kind: protocol.HelpDiagnose, Diagnostic: "network"}},
	} {
		t.Run(line, func(t *testing.T) {
			o := newOperator(t)
			out, err := o.run(t, line)
			require.NoError(t, err)
			assert.Equal(t, want.out, out)
			assert.Equal(t, want.ask, o.LastHelp.HelpAsk)
			assert.Equal(t, 10*time.Minute, o.LastHelp.Wait)
			if strings.Contains(line, " -o ") {
				b, err := os.ReadFile(file)
				require.NoError(t, err)
				assert.Equal(t, fleetapitest.HelpContent, string(b))
				require.NoError(t, os.Remove(file))
			}
		})
	}
	o := newOperator(t)
	_, err := o.run(t, "core logs press-07")
	require.NoError(t, err)
	out, err := o.run(t, "core help-requests press-07")
	require.NoError(t, err)
	assert.Contains(t, out, "logs.tail   nucleus   ada   done")
}

func TestARefusalIsTheOwnersWord(t *testing.T) {
	o := newOperator(t)
	o.HelpRefusal = "the owner of this device does not allow logs; on the device, 'ggfleet-agent allow logs' does"
	file := filepath.Join(t.TempDir(), "out")
	for _, line := range []string{"core logs press-07", "core log-range press-07 -o " + file, "core bundle press-07 -o " + file, "core restart press-07", "core diagnose press-07 disk"} {
		_, err := o.run(t, line)
		require.ErrorContains(t, err, "press-07: "+o.HelpRefusal)
		assert.NotContains(t, err.Error(), "writing", "it is not the file's fault")
		assert.Equal(t, cli.ExitDenied, cli.ExitCode(err))
		assert.NoFileExists(t, file)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	assert.Empty(t, left)
	_, err = o.run(t, "core diagnose press-07 shell")
	assert.Equal(t, cli.ExitFailed, cli.ExitCode(err))
}

func TestNobodyIsAskedForWhatCannotBeWritten(t *testing.T) {
	o := newOperator(t)
	for _, line := range []string{"core log-range press-07 -o ", "core bundle press-07 -o "} {
		_, err := o.run(t, line+filepath.Join(t.TempDir(), "gone", "out"))
		require.ErrorContains(t, err, "--output")
		assert.Empty(t, o.LastHelp.Kind)
	}
}

func TestAnActivationWithoutUseIsRefused(t *testing.T) {
	o := newOperator(t)
	for line, want := range map[string]string{
		"activation create press-07 --valid-for 0s": "--valid-for", "activation create press-07 --valid-for 1ms": "--valid-for",
		"activation create press-07 --registrations 0": "--registrations",
	} {
		_, err := o.run(t, line)
		require.ErrorContains(t, err, want, line)
		assert.Equal(t, cli.ExitUsage, cli.ExitCode(err))
	}
}

func TestAnActivationForANameThatNobodyHasIsMadeWithAWarning(t *testing.T) {
	o := newOperator(t)
	_, err := o.run(t, "core create press-07")
	require.NoError(t, err)
	for name, want := range map[string]string{"press-07": "", "pres-07": "there is no core or client device pres-07 yet"} {
		var out, notes bytes.Buffer
		c := cli.New("1.2.3", nil)
		c.SetOut(&out)
		c.SetErr(&notes)
		c.SetArgs([]string{"--server", o.url, "--data-dir", o.dir, "activation", "create", name})
		require.NoError(t, c.ExecuteContext(t.Context()))
		assert.Equal(t, "ggf1.example\n", out.String(), "nothing but what the device is given")
		if want == "" {
			assert.Empty(t, notes.String())
		}
		assert.Contains(t, notes.String(), want)
	}
}

// until is a writer that ends a command when a text has come n times.
type until struct {
	text string
	n    int
	end  func()

	mu  sync.Mutex
	buf bytes.Buffer
}

func (u *until) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.buf.Write(p)
	if strings.Count(u.buf.String(), u.text) >= u.n {
		u.end()
	}
	return len(p), nil
}

func TestFollowingGoesOnUntilInterruptedAndSaysWhatIsLost(t *testing.T) {
	o := newOperator(t)
	o.HelpLost = true
	ctx, cancel := context.WithCancel(t.Context())
	out := &until{text: "another", n: 4, end: cancel}
	var notes bytes.Buffer
	c := cli.New("1.2.3", nil)
	c.SetOut(out)
	c.SetErr(&notes)
	c.SetArgs([]string{"--server", o.url, "--data-dir", o.dir, "core", "logs", "press-07", "-f"})
	require.NoError(t, c.ExecuteContext(ctx), "an interrupted command has not failed")
	assert.Equal(t, protocol.HelpAsk{Kind: protocol.HelpLogsRange, Of: "nucleus", Length: 1 << 20, WaitSeconds: 25}, o.LastHelp.HelpAsk)
	assert.Equal(t, fleetapitest.HelpID, o.LastHelp.Follows)
	assert.Contains(t, notes.String(), "some lines were lost")
}
