package jobs_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// T is what testing.T and rapid.T have in common.
type T interface {
	require.TestingT
	Helper()
}

// kit is a jobs service over a store in memory, with a clock of its own and
// devices that write down what they are told.
type kit struct {
	t        T
	ctx      context.Context
	store    *memory.Store
	jobs     *jobs.Service
	announce *jobs.Announcer
	devices  *devices

	mu  sync.Mutex
	now time.Time
}

func newKit(t T, ctx context.Context) *kit { //nolint:revive // t comes first in a test
	t.Helper()
	k := &kit{t: t, ctx: ctx, store: memory.New(), now: time.Date(2026, 3, 1, 12, 0, 0, 250e6, time.UTC), devices: &devices{online: map[string]bool{}}}
	var err error
	k.jobs, err = jobs.New(jobs.Config{Store: k.store, Now: k.clock})
	require.NoError(t, err)
	k.announce = jobs.NewAnnouncer(k.jobs, k.devices)
	return k
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

const document = `{"schemaDate":"2021-05-17","deploymentId":"d","configurationArn":"arn:aws:greengrass:us-east-1:000000000000:configuration:thinggroup/g:1","components":{}}`

// job stores a job for a group.
func (k *kit) job(id, group string, minutes int) {
	k.t.Helper()
	b := state.NewBatch(state.StepDeployment)
	k.jobs.PutBatch(b, jobs.Job{
		ID: id, Kind: names.TargetThingGroup, Target: group, DeploymentID: "d-" + id, Document: json.RawMessage(document), TimeoutMinutes: minutes, CreatedAt: k.clock(),
	})
	k.commit(b)
}

func (k *kit) commit(b *state.Batch) {
	k.t.Helper()
	_, err := k.store.Commit(k.ctx, b)
	require.NoError(k.t, err)
}

// start gives the thing an execution of the job.
func (k *kit) start(id, thing string, again bool) jobs.Execution {
	k.t.Helper()
	j, err := k.jobs.Job(k.ctx, id)
	require.NoError(k.t, err)
	b := state.NewBatch(state.StepExecutions)
	e, err := k.jobs.StartBatch(k.ctx, b, j, thing, jobs.Start{Again: again})
	require.NoError(k.t, err)
	k.commit(b)
	return e
}

func (k *kit) remove(thing, job string) {
	k.t.Helper()
	b := state.NewBatch(state.StepMove)
	_, err := k.jobs.RemoveBatch(k.ctx, b, thing, job, 0, protocol.JobRemoved)
	require.NoError(k.t, err)
	k.commit(b)
}

// forget forgets the thing, one small batch after the other.
func (k *kit) forget(thing string) {
	k.t.Helper()
	require.NoError(k.t, k.jobs.Forget(k.ctx, thing, func(b *state.Batch) error {
		_, err := k.store.Commit(k.ctx, b)
		return err
	}))
}

// ask serves one request and returns the answers.
func (k *kit) ask(thing, topic, payload string) []jobs.Message {
	k.t.Helper()
	out, err := k.announce.Serve(k.ctx, thing, topic, []byte(payload))
	require.NoError(k.t, err)
	return out
}

// next asks for $next and returns the answer.
func (k *kit) next(thing string) protocol.JobAnswer {
	k.t.Helper()
	topic := protocol.JobGet(thing, protocol.NextJob)
	out := k.ask(thing, topic, `{}`)
	require.Len(k.t, out, 1)
	require.Equal(k.t, protocol.Accepted(topic), out[0].Topic)
	return read[protocol.JobAnswer](k.t, out[0].Payload)
}

func (k *kit) update(thing, job string, s protocol.JobStatus) []jobs.Message {
	k.t.Helper()
	return k.ask(thing, protocol.JobUpdate(thing, job), `{"status":"`+string(s)+`"}`)
}

func (k *kit) pending(thing string) []jobs.Execution {
	k.t.Helper()
	list, err := k.jobs.Pending(k.ctx, thing)
	require.NoError(k.t, err)
	return list
}

func read[V any](t T, b []byte) (v V) {
	t.Helper()
	require.NoError(t, json.Unmarshal(b, &v), "%s", b)
	return v
}

// devices are the connected things; limit is their maximum packet size.
type devices struct {
	mu     sync.Mutex
	online map[string]bool
	limit  int
	told   []jobs.Message
	hear   func(thing string, m jobs.Message)
}

func (d *devices) connect(thing string, on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.online[thing] = on
}

func (d *devices) Connected(thing string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.online[thing]
}

func (d *devices) Notify(thing string, m jobs.Message) int {
	d.mu.Lock()
	limit, hear := d.limit, d.hear
	over := limit > 0 && len(m.Topic)+len(m.Payload) > limit
	if !over {
		d.told = append(d.told, m)
	}
	d.mu.Unlock()
	if over {
		return limit
	}
	if hear != nil {
		hear(thing, m)
	}
	return 0
}

// take returns what was said on topics with a namespace, and forgets it.
func (d *devices) take() (topics []string, list []jobs.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	topics, list = spoken(d.told)
	d.told = nil
	return topics, list
}

// spoken leaves the copies for clients without namespace out.
func spoken(in []jobs.Message) (topics []string, list []jobs.Message) {
	for _, m := range in {
		if short := m.Topic[strings.Index(m.Topic, "/jobs/")+len("/jobs/"):]; short != "notify" && short != "notify-next" {
			topics, list = append(topics, strings.TrimSuffix(short, "-namespace-"+protocol.Namespace)), append(list, m)
		}
	}
	return topics, list
}

var _ T = (*testing.T)(nil)
