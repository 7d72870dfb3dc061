package greengrass_test

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// T is what testing.T and rapid.T have in common.
type T interface {
	require.TestingT
	Helper()
}

// kit is the service over a store in memory, with a clock of its own.
type kit struct {
	*greengrass.Service
	t        T
	ctx      context.Context
	store    *memory.Store
	registry *iot.Registry
	jobs     *jobs.Service
	commits  atomic.Int64 // that changed something or tried to
	kill     atomic.Int64 // commits until everything fails; negative: never
	onLeave  bool         // Config.DeployOnLeave, from the next restart on

	live bool // the clock is that of the bubble
	mu   sync.Mutex
	now  time.Time
}

type components struct{}

func (components) Deployable(_ context.Context, name, version string) error {
	if name == "com.example.Unknown" {
		return fault.New(fault.NotFound, "component %s version %s does not exist", name, version)
	}
	return nil
}

func newKit(t T, ctx context.Context, things ...string) *kit { //nolint:revive // t comes first in a test
	t.Helper()
	k := &kit{t: t, ctx: ctx, store: memory.New(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	k.kill.Store(-1)
	root, err := pki.NewRoot("test", k.now, time.Hour)
	require.NoError(t, err)
	k.registry, err = iot.New(iot.Config{
		Store: k.store, Realm: names.Realm{Region: "us-east-1", Account: "000000000000"}, CA: &iot.CA{ID: "ca", Root: root.Cert, Issuer: root}, Now: k.clock,
	})
	require.NoError(t, err)
	k.jobs, err = jobs.New(jobs.Config{Store: k.store, Now: k.clock})
	require.NoError(t, err)
	k.Service, err = greengrass.New(greengrass.Config{Store: k.store, Registry: k.registry, Jobs: k.jobs, Components: components{}, Now: k.clock})
	require.NoError(t, err)
	k.things(things...)
	k.store.FailCommit = k.count
	return k
}

// restart is a new service over what is stored.
func (k *kit) restart() {
	k.t.Helper()
	k.kill.Store(-1)
	var err error
	k.Service, err = greengrass.New(greengrass.Config{
		Store: k.store, Registry: k.registry, Jobs: k.jobs, Components: components{}, DeployOnLeave: k.onLeave, Now: k.clock,
	})
	require.NoError(k.t, err)
	k.drive()
}

// drive does all that is due for rollouts.
func (k *kit) drive() {
	k.t.Helper()
	_, err := k.Drive(k.ctx)
	require.NoError(k.t, err)
}

// Create creates a deployment and does all that is due then.
func (k *kit) Create(ctx context.Context, n greengrass.NewDeployment) (greengrass.Deployment, error) {
	d, err := k.Service.Create(ctx, n)
	if err == nil {
		_, err = k.Drive(ctx)
	}
	return d, err
}

// Cancel cancels a deployment and does all that is due then.
func (k *kit) Cancel(ctx context.Context, id string) error {
	err := k.Service.Cancel(ctx, id, jobs.Reason{})
	if err == nil {
		_, err = k.Drive(ctx)
	}
	return err
}

type killedError struct{}

func (killedError) Error() string { return "killed" }

// count is asked before each commit.
func (k *kit) count(*state.Batch) error {
	k.commits.Add(1)
	if left := k.kill.Load(); left >= 0 {
		if left == 0 {
			return killedError{}
		}
		k.kill.Add(-1)
	}
	return nil
}

func (k *kit) clock() time.Time {
	if k.live {
		return time.Now()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now
}

func (k *kit) pass(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = k.now.Add(d)
}

func (k *kit) things(all ...string) {
	k.t.Helper()
	for _, name := range all {
		b := state.NewBatch(state.StepCoreRegister)
		_, err := k.registry.RegisterBatch(k.ctx, b, cloud.Registration{Thing: name})
		require.NoError(k.t, err)
		_, err = k.store.Commit(k.ctx, b)
		require.NoError(k.t, err)
	}
}

func (k *kit) groups(all ...string) {
	k.t.Helper()
	for _, g := range all {
		_, err := k.registry.EnsureGroup(k.ctx, g, "", nil)
		require.NoError(k.t, err)
	}
}

func group(name, version string) greengrass.NewDeployment {
	return greengrass.NewDeployment{
		Kind: names.TargetThingGroup, Target: name, Policies: greengrass.DefaultPolicies(),
		Components: map[string]greengrass.Component{"com.example.App": {Version: version}},
	}
}

func merge(text string) *greengrass.ConfigurationUpdate {
	return &greengrass.ConfigurationUpdate{Merge: &text}
}

func (k *kit) create(n greengrass.NewDeployment) greengrass.Deployment {
	k.t.Helper()
	d, err := k.Create(k.ctx, n)
	require.NoError(k.t, err)
	return d
}

// move puts the thing into group and out of all others.
func (k *kit) move(thing, join string, again bool) jobs.Execution {
	k.t.Helper()
	e, err := k.tryMove(thing, join, again)
	require.NoError(k.t, err)
	return e
}

func (k *kit) tryMove(thing, join string, again bool) (out jobs.Execution, err error) {
	k.t.Helper()
	err = k.Move(k.ctx, thing, func(string) bool { return true }, join, jobs.Start{Again: again}, func(b *state.Batch, e jobs.Execution) error {
		out = e
		_, err := k.store.Commit(k.ctx, b)
		return err
	})
	return out, err
}

func (k *kit) pending(thing string) []jobs.Execution {
	k.t.Helper()
	list, err := k.jobs.Pending(k.ctx, thing)
	require.NoError(k.t, err)
	return list
}

// jobIDs are the jobs that wait on the thing, first first.
func (k *kit) jobIDs(thing string) []string {
	k.t.Helper()
	out := []string{}
	for _, e := range k.pending(thing) {
		out = append(out, e.JobID)
	}
	return out
}

func (k *kit) report(thing, job string, s protocol.JobStatus) {
	k.t.Helper()
	_, err := k.jobs.Apply(k.ctx, jobs.Update{Thing: thing, JobID: job, Status: s})
	require.NoError(k.t, err)
}

// last is what became of the group's current deployment on the thing.
func (k *kit) last(thing string, d greengrass.Deployment) protocol.JobStatus {
	k.t.Helper()
	e, ok, err := k.jobs.Last(k.ctx, thing, d.JobID, d.Kind, d.Target)
	require.NoError(k.t, err)
	if !ok || e.JobID != d.JobID {
		return ""
	}
	return e.Status
}

// dump is the whole store.
func (k *kit) dump() []state.Entry {
	k.t.Helper()
	p, err := k.store.List(k.ctx, "", "", 0)
	require.NoError(k.t, err)
	return p.Entries
}
