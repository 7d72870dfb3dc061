package patching_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/patching"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const (
	playbook = "- hosts: all\n  tasks: []\n"
	bucket   = "acme-artifacts"
	certsZip = "greengrass2/artifacts/gw-1/gw-1/certs.zip"
)

// TB is what a kit needs of a test or of a property test's run.
type TB interface {
	require.TestingT
	Helper()
}

// kit is a patcher in memory, with a clock of its own and a store whose commits
// can be refused, or lose their answers.
type kit struct {
	*patching.Service
	t       TB
	ctx     context.Context
	cfg     patching.Config
	store   *breakable
	objects *objects.Store

	mu      sync.Mutex // guards all below
	now     time.Time
	devices map[string]bool // activated devices; true: enrolled
	noticed []string
}

func newKit(t TB) *kit {
	t.Helper()
	k := &kit{
		t: t, ctx: context.Background(), store: &breakable{Store: memory.New()}, objects: objects.New(bucket),
		now: time.Date(2026, 5, 1, 9, 30, 0, 0, time.UTC), devices: map[string]bool{"gw-1": true, "gw-2": true, "waiting": false},
	}
	k.cfg = patching.Config{
		Store: k.store, Objects: k.objects, Devices: k, Links: k, Notices: k, ArtifactPrefix: "greengrass2/artifacts/",
		AllowPrefixes: []string{"public/"}, Now: k.clock,
	}
	k.restart()
	return k
}

// restart is another process over the same data.
func (k *kit) restart() {
	var err error
	k.Service, err = patching.New(k.cfg)
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

// PatchDevice implements patching.Devices.
func (k *kit) PatchDevice(_ context.Context, device string) (known, enrolled bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	enrolled, known = k.devices[device]
	return known, enrolled, nil
}

// Link implements patching.Links.
func (k *kit) Link(_ context.Context, key string, life time.Duration) (string, error) {
	if key == "public/missing" {
		return "", fault.New(fault.NotFound, "object %s does not exist", key)
	}
	return fmt.Sprintf("https://link/%s?at=%d&for=%d", key, k.clock().Unix(), int(life.Seconds())), nil
}

// PatchWaits implements patching.Notices.
func (k *kit) PatchWaits(device string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.noticed = append(k.noticed, device)
}

func (k *kit) template(name string, vars map[string]string) patching.Template {
	k.t.Helper()
	t, err := k.CreateTemplate(k.ctx, patching.NewTemplate{
		Name: name, PatchType: patching.AgentBased, PlaybookFileContents: encoded(playbook), ExtraVars: vars,
	})
	require.NoError(k.t, err)
	return t
}

// task makes a task and returns its patches.
func (k *kit) task(list ...patching.NewPatch) []patching.Patch {
	k.t.Helper()
	id, err := k.CreateTask(k.ctx, patching.NewTask{Patches: list}, "")
	require.NoError(k.t, err)
	out, next, err := k.TaskPatches(k.ctx, id, patching.Page{})
	require.NoError(k.t, err)
	require.Empty(k.t, next)
	return out
}

func (k *kit) patch(id string) patching.Patch {
	k.t.Helper()
	p, err := k.Patch(k.ctx, id)
	require.NoError(k.t, err)
	return p
}

// run plays the agent of device: it takes the oldest patch and reports.
func (k *kit) run(device string, success bool, message string) protocol.PatchOrder {
	k.t.Helper()
	w, err := k.Waiting(k.ctx, device)
	require.NoError(k.t, err)
	require.NotEmpty(k.t, w.Patches)
	offer, run := w.Patches[0], names.NewUUID()
	order, err := k.Take(k.ctx, device, offer.ID, protocol.PatchTake{Attempt: offer.Attempt, Run: run})
	require.NoError(k.t, err)
	require.NoError(k.t, k.Report(k.ctx, device, offer.ID, protocol.PatchResult{Attempt: offer.Attempt, Run: run, Success: success, Message: message}))
	return order
}

func (k *kit) waiting(device string) (out []string) {
	k.t.Helper()
	w, err := k.Waiting(k.ctx, device)
	require.NoError(k.t, err)
	for _, p := range w.Patches {
		out = append(out, p.ID)
	}
	return out
}

// keys returns what is stored but for the memory of idempotency keys.
func (k *kit) keys() (out []string) {
	k.t.Helper()
	p, err := k.store.List(k.ctx, "", "", 0)
	require.NoError(k.t, err)
	for _, e := range p.Entries {
		out = append(out, e.Key)
	}
	return out
}

func (k *kit) object(key string) string {
	k.t.Helper()
	r, _, err := k.objects.Open(k.ctx, key)
	require.NoError(k.t, err)
	b, err := io.ReadAll(r)
	require.NoError(k.t, err)
	return string(b)
}

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func ptr[T any](v T) *T { return &v }

// kind asserts the kind of an error and that it names what.
func kind(t *testing.T, err error, want fault.Kind, what string) {
	t.Helper()
	require.ErrorIs(t, err, want)
	require.Contains(t, fault.Message(err), what)
}

// breakable is a store whose commits can fail, before or after they are applied.
type breakable struct {
	*memory.Store
	mu    sync.Mutex
	fates []byte // of the next commits: 'x' fails, 'a' its answer is lost, '.' fine
	dead  bool   // every commit fails: the process has died
	count int    // commits until dead; 0: never
}

var errAway = fault.New(fault.Unavailable, "the store is away")

func (b *breakable) Commit(ctx context.Context, batch *state.Batch) (state.Rev, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fate := byte('.')
	if len(b.fates) > 0 {
		fate, b.fates = b.fates[0], b.fates[1:]
	}
	if b.count > 0 {
		if b.count--; b.count == 0 {
			b.dead = true
		}
	}
	if fate == 'x' || b.dead {
		return 0, errAway
	}
	rev, err := b.Store.Commit(ctx, batch)
	if err == nil && fate == 'a' {
		return 0, errAway
	}
	return rev, err
}

// dieAfter lets n-1 more commits succeed.
func (b *breakable) dieAfter(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead, b.count = false, n
}
