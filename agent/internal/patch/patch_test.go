//go:build unix

package patch_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/consent"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/patch"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const (
	patience = 2 * time.Minute
	tick     = 10 * time.Millisecond
	playbook = "- hosts: all\n"
)

// fake is a control plane with one patch.
type fake struct {
	mu      sync.Mutex // guards all below
	order   protocol.PatchOrder
	away    map[string]int   // call → how often it fails
	refuse  map[string]error // call → how it is refused
	runs    []string
	results []protocol.PatchResult
	lists   int
	over    bool
}

func newFake() *fake {
	sum := sha256.Sum256([]byte(playbook))
	return &fake{
		order: protocol.PatchOrder{ID: "p", PlaybookDigest: hex.EncodeToString(sum[:]), ExtraVars: map[string]string{"a": "1 é", "b": ""}, TimeoutSeconds: 60},
		away:  map[string]int{}, refuse: map[string]error{},
	}
}

func (f *fake) fails(call string) error {
	if f.away[call] > 0 {
		f.away[call]--
		return fault.New(fault.Unavailable, "away")
	}
	if err := f.refuse[call]; err != nil {
		f.over = true
		return err
	}
	return nil
}

func (f *fake) Patches(context.Context) (protocol.PatchList, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	if err := f.fails("list"); err != nil || f.over {
		return protocol.PatchList{}, err
	}
	return protocol.PatchList{Patches: []protocol.PatchOffer{{ID: "p", Attempt: 3}}}, nil
}

func (f *fake) TakePatch(_ context.Context, _ string, t protocol.PatchTake) (protocol.PatchOrder, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fails("take"); err != nil {
		return protocol.PatchOrder{}, err
	}
	if len(f.runs) == 0 || f.runs[len(f.runs)-1] != t.Run {
		f.runs = append(f.runs, t.Run)
	}
	return f.order, nil
}

func (f *fake) PatchPlaybook(context.Context, string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []byte(playbook), f.fails("playbook")
}

func (f *fake) ReportPatch(ctx context.Context, _ string, r protocol.PatchResult) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := errors.Join(ctx.Err(), f.fails("report")); err != nil {
		return err
	}
	f.results, f.over = append(f.results, r), true
	return nil
}

func (f *fake) result() (protocol.PatchResult, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.results) == 0 {
		return protocol.PatchResult{}, false
	}
	return f.results[0], true
}

// ansible puts a fake ansible-playbook on the path, which runs script.
func ansible(t *testing.T, script string) {
	t.Helper()
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "ansible-playbook"), []byte("#!/bin/sh\n"+script), 0o700))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

// device is an agent's folder in which a runner runs.
type device struct {
	t    *testing.T
	root string
	dir  *localstate.Dir
}

func newDevice(t *testing.T) *device {
	t.Helper()
	d := &device{t: t, root: t.TempDir()}
	var err error
	d.dir, err = localstate.Open(d.root, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.dir.Close() })
	require.NoError(t, consent.Allow(d.dir.Path(""), consent.Patches, true))
	return d
}

// start runs a runner until stop.
func (d *device) start(f *fake) (r *patch.Runner, stop func()) {
	d.t.Helper()
	r, err := patch.New(patch.Config{Dir: d.dir, Cloud: f, CAPEM: "OUR CA", MinWait: time.Millisecond, Grace: time.Second})
	require.NoError(d.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(d.t, <-done)
	})
	d.t.Cleanup(stop)
	return r, stop
}

// run plays the patch to its end.
func (d *device) run(f *fake) protocol.PatchResult {
	d.t.Helper()
	_, stop := d.start(f)
	require.Eventually(d.t, func() bool { _, ok := f.result(); return ok }, patience, tick)
	stop()
	for _, name := range []string{"patch", "patch.json"} {
		_, err := os.Lstat(d.dir.Path(name))
		assert.ErrorIs(d.t, err, fs.ErrNotExist, "%s is left", name)
	}
	r, _ := f.result()
	assert.Equal(d.t, 3, r.Attempt)
	assert.Len(d.t, f.results, 1)
	return r
}

func TestThePlaybookRunsWithItsVariables(t *testing.T) {
	seen := filepath.Join(t.TempDir(), "seen")
	ansible(t, `echo "args $*"; env; pwd; stat -c '%a' vars.json playbook.yml; cat playbook.yml; cp vars.json `+seen+`; grep -c "OUR CA" "$SSL_CERT_FILE"; echo warn >&2`)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hidden")
	f, d := newFake(), newDevice(t)
	f.away = map[string]int{"list": 2, "take": 2, "playbook": 2, "report": 2}
	r := d.run(f)
	assert.True(t, r.Success, r.Message)
	assert.Equal(t, []string{r.Run}, f.runs, "one run, although every call failed twice")
	for _, want := range []string{"args --inventory localhost, --connection local --extra-vars @vars.json playbook.yml", d.dir.Path("patch"), "600\n600\n", playbook, "\n1\n", "warn"} {
		assert.Contains(t, r.Message, want)
	}
	assert.NotContains(t, r.Message, "hidden", "nothing of the agent's own environment")
	b, err := os.ReadFile(seen)
	require.NoError(t, err)
	var vars map[string]string
	require.NoError(t, json.Unmarshal(b, &vars))
	assert.Equal(t, map[string]string{"a": base64.StdEncoding.EncodeToString([]byte("1 é")), "b": ""}, vars, "every value in base64")
}

func TestHowARunFails(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		setup  func(t *testing.T, f *fake, d *device)
		want   string
	}{
		"the playbook fails":  {script: "echo because; exit 2", want: "ansible-playbook ended with exit status 2\nbecause"},
		"it is killed":        {script: "kill -9 $$", want: "ansible-playbook ended with signal: killed"},
		"it is no program":    {script: "", setup: func(t *testing.T, _ *fake, _ *device) { notExecutable(t) }, want: "NOT_RUN: ansible-playbook does not start"},
		"there is no ansible": {setup: func(t *testing.T, _ *fake, _ *device) { t.Setenv("PATH", t.TempDir()) }, want: "ANSIBLE_NOT_FOUND: "},
		"the device does not allow it": {setup: func(t *testing.T, _ *fake, d *device) {
			require.NoError(t, consent.Allow(d.dir.Path(""), consent.Patches, false))
		}, want: "PATCHES_NOT_ALLOWED: "},
		"the playbook is another":              {setup: func(_ *testing.T, f *fake, _ *device) { f.order.PlaybookDigest = "x" }, want: "NOT_RUN: the playbook is not"},
		"it takes too long":                    {script: "trap '' TERM; echo begun; sleep 100 & wait; sleep 100", setup: func(_ *testing.T, f *fake, _ *device) { f.order.TimeoutSeconds = 1 }, want: "TIMED_OUT: the playbook was stopped after 1s\nbegun"},
		"the playbook is gone from the server": {setup: func(_ *testing.T, f *fake, _ *device) { f.refuse["playbook"] = fault.New(fault.NotFound, "gone") }, want: "NOT_RUN: the control plane has no playbook"},
		"what it says is long and no text":     {script: `printf 'begin'; head -c 100000 /dev/zero | tr '\0' '<'; printf '\033[1mé\377\001end'; exit 1`, want: "ansible-playbook ended with exit status 1\n…<<"},
	} {
		t.Run(name, func(t *testing.T) {
			f, d := newFake(), newDevice(t)
			ansible(t, c.script)
			if c.setup != nil {
				c.setup(t, f, d)
			}
			r := d.run(f)
			assert.False(t, r.Success)
			assert.True(t, strings.HasPrefix(r.Message, c.want), r.Message)
			b, err := json.Marshal(r)
			require.NoError(t, err)
			assert.Less(t, len(b), 64<<10, "the control plane takes it")
			if strings.Contains(c.want, "<<") {
				assert.True(t, strings.HasSuffix(r.Message, "<[1méend"), "the end is kept")
			}
		})
	}
}

func notExecutable(t *testing.T) {
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "ansible-playbook"), []byte("#!/no/such/interpreter\n"), 0o700))
	t.Setenv("PATH", bin)
}

func TestW118APatchThatIsOverIsForgotten(t *testing.T) {
	for _, k := range []fault.Kind{fault.Conflict, fault.NotFound} {
		ansible(t, "echo run >> "+filepath.Join(t.TempDir(), "never"))
		f, d := newFake(), newDevice(t)
		f.refuse["take"] = fault.New(k, "over")
		r, stop := d.start(f)
		taken := func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.over }
		require.Eventually(t, taken, patience, tick)
		r.Wake()
		require.Eventually(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.lists == 2 }, patience, tick, "it looks again when told, not at once")
		stop()
		_, err := os.Lstat(d.dir.Path("patch.json"))
		require.ErrorIs(t, err, fs.ErrNotExist)
		assert.Empty(t, f.results)
	}
}

// crash leaves a journal as an agent that was killed would.
func (d *device) crash(state string) {
	require.NoError(d.t, d.dir.WriteJSON("patch.json", map[string]any{"patchId": "p", "attempt": 3, "run": "before", "state": state}))
}

func TestAfterAKill(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	ansible(t, "echo run >> "+count)
	t.Run("before the playbook began it goes on with the same run", func(t *testing.T) {
		f, d := newFake(), newDevice(t)
		d.crash("taking")
		r := d.run(f)
		assert.True(t, r.Success)
		assert.Equal(t, []string{"before"}, f.runs)
		b, err := os.ReadFile(count)
		require.NoError(t, err)
		assert.Equal(t, "run\n", string(b))
	})
	t.Run("while it may have run it is reported as interrupted and does not run again", func(t *testing.T) {
		require.NoError(t, os.Remove(count))
		f, d := newFake(), newDevice(t)
		d.crash("running")
		r := d.run(f)
		assert.False(t, r.Success)
		assert.Equal(t, "before", r.Run)
		assert.Contains(t, r.Message, "INTERRUPTED: ")
		_, err := os.Lstat(count)
		assert.ErrorIs(t, err, fs.ErrNotExist)
	})
	t.Run("a damaged journal stops nothing", func(t *testing.T) {
		f, d := newFake(), newDevice(t)
		require.NoError(t, d.dir.Write("patch.json", []byte("{")))
		assert.True(t, d.run(f).Success)
	})
}

func TestAnAgentThatStopsStopsThePlaybook(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	ansible(t, `echo $$ > `+pidFile+`.new; mv `+pidFile+`.new `+pidFile+`; sleep 100 & wait`)
	f, d := newFake(), newDevice(t)
	_, stop := d.start(f)
	var pid int
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(pidFile)
		return err == nil && json.Unmarshal(b, &pid) == nil
	}, patience, tick)
	stop()
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "it is gone")
	require.Empty(t, f.results, "there was no time to report")
	r := d.run(f) // the next agent
	assert.Contains(t, r.Message, "INTERRUPTED: ")
	assert.Len(t, f.runs, 1)
}

func TestANoticeIsHeededAtOnce(t *testing.T) {
	ansible(t, "echo done")
	f, d := newFake(), newDevice(t)
	f.over = true
	r, stop := d.start(f)
	defer stop()
	require.Eventually(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.lists == 1 }, patience, tick)
	f.mu.Lock()
	f.over = false
	f.mu.Unlock()
	for range 10 {
		r.Wake() // never blocks
	}
	require.Eventually(t, func() bool { _, ok := f.result(); return ok }, patience, tick, "long before the next look")
}
