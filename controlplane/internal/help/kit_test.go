package help_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/help"
	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// kit is the service in memory, with a clock of its own and a store that can
// die.
type kit struct {
	*help.Service
	t       testing.TB
	ctx     context.Context
	cfg     help.Config
	store   *mortal
	objects *objects.Store

	mu      sync.Mutex // guards all below
	now     time.Time
	agents  map[string]bool // devices; true: with an agent
	noticed []string
}

func newKit(t testing.TB) *kit {
	t.Helper()
	k := &kit{
		t: t, ctx: t.Context(), store: &mortal{Store: memory.New()}, objects: objects.New("acme"), now: time.Date(2026, 5, 1, 9, 30, 0, 0, time.UTC),
		agents: map[string]bool{"gw-1": true, "gw-2": true, "bare": false},
	}
	k.cfg = help.Config{Store: k.store, Objects: k.objects, Devices: k, Notices: k, Now: k.clock}
	k.restart()
	return k
}

// restart is another process over the same data.
func (k *kit) restart() {
	var err error
	k.store.dieAfter(0)
	k.Service, err = help.NewService(k.cfg)
	require.NoError(k.t, err)
}

func (k *kit) clock() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now
}

func (k *kit) pass(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = k.now.Add(d)
}

// HasAgent implements help.Devices.
func (k *kit) HasAgent(_ context.Context, s protocol.Subject) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	has, known := k.agents[s.Name]
	if !known {
		return false, fault.New(fault.NotFound, "core %q does not exist", s.Name)
	}
	return has, nil
}

// HelpWaits implements help.Notices.
func (k *kit) HelpWaits(s protocol.Subject) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.noticed = append(k.noticed, protocol.HelpTopic(s))
}

func (k *kit) notices() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.noticed...)
}

func tail() help.New {
	return help.New{
		Subject: protocol.Subject{Role: protocol.RoleCore, Name: "gw-1"}, By: "anna",
		HelpAsk: protocol.HelpAsk{Kind: protocol.HelpLogsTail, Of: protocol.HelpOfNucleus, Lines: 100},
	}
}

func of(kind protocol.HelpKind) help.New {
	n := tail()
	n.HelpAsk = protocol.HelpAsk{Kind: kind}
	switch kind {
	case protocol.HelpRestart:
		n.Of = protocol.HelpOfNucleus
	case protocol.HelpDiagnose:
		n.Diagnostic = "disk"
	case protocol.HelpLogsRange:
		n.Of, n.Length = protocol.HelpOfNucleus, 1000
	case protocol.HelpLogsTail, protocol.HelpBundle:
	}
	return n
}

func (k *kit) ask(n help.New) help.Request {
	k.t.Helper()
	r, err := k.Create(k.ctx, n)
	require.NoError(k.t, err)
	return r
}

func (k *kit) request(id string) help.Request {
	k.t.Helper()
	r, err := k.Request(k.ctx, id)
	require.NoError(k.t, err)
	return r
}

func (k *kit) waiting(device string) (out []string) {
	k.t.Helper()
	l, err := k.Open(k.ctx, device)
	require.NoError(k.t, err)
	for _, o := range l.Requests {
		out = append(out, o.ID)
	}
	return out
}

// answer plays the agent of gw-1: it takes, sends content in parts and reports.
func (k *kit) answer(id, run, content string) error {
	if _, err := k.Take(k.ctx, "gw-1", id, protocol.HelpTake{Run: run}); err != nil {
		return err
	}
	for n := 0; n*protocol.HelpPart < len(content); n++ {
		part := content[n*protocol.HelpPart : min(len(content), (n+1)*protocol.HelpPart)]
		if err := k.Part(k.ctx, "gw-1", id, run, n, int64(len(part)), strings.NewReader(part)); err != nil {
			return err
		}
	}
	return k.Report(k.ctx, "gw-1", id, done(run, content))
}

func done(run, content string) protocol.HelpResult {
	sum := sha256.Sum256([]byte(content))
	return protocol.HelpResult{Run: run, Outcome: protocol.HelpDone, Size: int64(len(content)), Digest: hex.EncodeToString(sum[:]), Next: "pos-1"}
}

func (k *kit) content(id string) string {
	k.t.Helper()
	r, _, err := k.Content(k.ctx, id)
	require.NoError(k.t, err)
	b, err := io.ReadAll(r)
	require.NoError(k.t, err)
	require.NoError(k.t, r.Close())
	return string(b)
}

// events returns what was put into the outbox: type, status and asker.
func (k *kit) events() (out []string) {
	k.t.Helper()
	p, err := k.store.List(k.ctx, state.Root+"event/", "", 0)
	require.NoError(k.t, err)
	for _, e := range p.Entries {
		var ev event.Event
		var d struct{ Status, By, CoreName, DeviceName string }
		require.NoError(k.t, json.NewDecoder(bytes.NewReader(e.Value)).Decode(&ev))
		require.NoError(k.t, json.Unmarshal(ev.Detail, &d))
		out = append(out, strings.Join([]string{string(ev.Type), d.CoreName + d.DeviceName, d.Status, d.By}, " "))
	}
	return out
}

// keys returns what is stored but for events.
func (k *kit) keys() (out []string) {
	k.t.Helper()
	p, err := k.store.List(k.ctx, state.Root+"help/", "", 0)
	require.NoError(k.t, err)
	for _, e := range p.Entries {
		out = append(out, e.Key)
	}
	return out
}

func (k *kit) stored() (out []string) {
	k.t.Helper()
	list, err := k.objects.List(k.ctx, "", "", 0)
	require.NoError(k.t, err)
	for _, o := range list {
		out = append(out, o.Key)
	}
	return out
}

func kind(t *testing.T, err error, want fault.Kind, what string) {
	t.Helper()
	require.ErrorIs(t, err, want)
	require.Contains(t, fault.Message(err), what)
}

// mortal is a store whose process dies: from some commit on all fail. half lets
// the fatal one be applied without an answer.
type mortal struct {
	*memory.Store
	mu    sync.Mutex
	count int // commits until it dies; 0: never
	half  bool
	dead  bool
}

var errDead = fault.New(fault.Unavailable, "the process is dead")

func (m *mortal) dieAfter(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count, m.dead = n, false
}

func (m *mortal) Commit(ctx context.Context, b *state.Batch) (state.Rev, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return 0, errDead
	}
	if m.count > 0 {
		if m.count--; m.count == 0 {
			m.dead = true
			if m.half {
				_, _ = m.Store.Commit(ctx, b)
			}
			return 0, errDead
		}
	}
	return m.Store.Commit(ctx, b)
}
