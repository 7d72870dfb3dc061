package jobs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Whatever is deployed, moved, timed out and reported, in whatever order, while
// devices come and go: what is pending and what ended agree, nothing goes back,
// no target has two executions waiting on one core, an empty notice is true, and
// a device that follows its notices, as classic or as lite does, comes to an end
// of its work.
func TestEveryDeviceComesToAnEndOfItsWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { rapid.Check(struct{ testing.TB }{t}, drains) }) // rapid asks a *testing.T for what a bubble does not have
}

func drains(t *rapid.T) {
	ctx, stop := context.WithCancel(context.Background())
	f := &fleet{kit: newKit(t, ctx), t: t, revision: map[string]int{}, seen: map[string]jobs.Execution{}, newest: map[string]jobs.Execution{}}
	f.devices.hear = f.hear
	f.things = append(f.things, []*device{{name: "classic"}, {name: "lite", lite: true}, {name: "other"}}...)
	done := make(chan error, 1)
	go func() { done <- f.announce.Run(ctx) }()

	group := func() string { return rapid.SampledFrom([]string{"g", "h", "i"}).Draw(t, "group") }
	thing := func() *device { return rapid.SampledFrom(f.things).Draw(t, "thing") }
	// A clock that is set back by minutes, and a deletion then, is more than is
	// promised: what a deleted thing had last is kept for a minute only.
	times := []time.Duration{0, time.Second, time.Hour}
	deletes := rapid.Bool().Draw(t, "things are deleted")
	if !deletes {
		times = append(times, -time.Minute)
	}
	t.Repeat(map[string]func(*rapid.T){
		"delete": func(*rapid.T) {
			if deletes {
				f.delete(thing())
			}
		},
		"deploy": func(*rapid.T) { f.deploy(group()) },
		"join":   func(*rapid.T) { f.give(thing(), group(), false) },
		"again":  func(*rapid.T) { f.give(thing(), group(), true) },
		"leave":  func(*rapid.T) { f.leave(thing(), group()) },
		"come":   func(*rapid.T) { f.come(thing()) },
		"go":     func(*rapid.T) { f.goAway(thing()) },
		"work":   func(*rapid.T) { f.work(thing(), rapid.SampledFrom(results).Draw(t, "result")) },
		"time": func(*rapid.T) {
			f.pass(rapid.SampledFrom(times).Draw(t, "time"))
		},
		"expire": func(*rapid.T) {
			_, err := f.jobs.Expire(f.ctx)
			require.NoError(t, err)
		},
		"": func(*rapid.T) {
			synctest.Wait()
			f.check()
		},
	})
	for _, d := range f.things {
		f.come(d)
		for n := 0; f.work(d, protocol.JobSucceeded); n++ {
			synctest.Wait()
			require.Less(t, n, 200, "%s works for ever", d.name)
		}
		require.Empty(t, f.pending(d.name), "%s was not told of all its work", d.name)
	}
	stop()
	require.NoError(t, <-done)
	synctest.Wait()
}

var results = []protocol.JobStatus{protocol.JobSucceeded, protocol.JobFailed, protocol.JobRejected}

type fleet struct {
	*kit
	t        *rapid.T
	things   []*device
	revision map[string]int            // of each group's job
	seen     map[string]jobs.Execution // by thing, job and number: the last version seen
	newest   map[string]jobs.Execution // by thing: the latest that was ever queued
	untrue   bool                      // a device heard of an empty list that was not
}

// device follows the rules of one of the runtimes (nucleus-contract §2.2).
type device struct {
	name   string
	lite   bool
	online bool
	inbox  []jobs.Message
	queue  []protocol.JobExecution
	run    *protocol.JobExecution
	last   protocol.JobExecution
}

func (f *fleet) jobOf(group string) string { return fmt.Sprintf("%s-%d", group, f.revision[group]) }

// deploy makes the group's next job and cancels the one before, for everybody
// who is in the middle of it or not.
func (f *fleet) deploy(group string) {
	if f.revision[group] > 0 {
		b := state.NewBatch(state.StepDeployment)
		require.NoError(f.t, f.jobs.CancelBatch(f.ctx, b, f.jobOf(group), jobs.Reason{}))
		f.commit(b)
	}
	f.revision[group]++
	f.job(f.jobOf(group), group, 1)
}

func (f *fleet) give(d *device, group string, again bool) {
	if f.revision[group] == 0 {
		return
	}
	j, err := f.jobs.Job(f.ctx, f.jobOf(group))
	require.NoError(f.t, err)
	b := state.NewBatch(state.StepExecutions)
	require.NoError(f.t, f.jobs.ClearBatch(f.ctx, b, d.name, names.TargetThingGroup, group, j.Value.ID, protocol.JobCanceled))
	_, err = f.jobs.StartBatch(f.ctx, b, j, d.name, jobs.Start{Again: again})
	require.NoError(f.t, err)
	f.commit(b)
}

func (f *fleet) leave(d *device, group string) {
	b := state.NewBatch(state.StepMove)
	require.NoError(f.t, f.jobs.ClearBatch(f.ctx, b, d.name, names.TargetThingGroup, group, "", protocol.JobRemoved))
	f.commit(b)
}

// delete removes the thing. The device starts anew, but it knows what it had last.
func (f *fleet) delete(d *device) {
	f.goAway(d)
	d.queue, d.run = nil, nil
	f.forget(d.name)
	for key := range f.seen {
		if strings.HasPrefix(key, d.name+"/") {
			delete(f.seen, key)
		}
	}
}

func (f *fleet) come(d *device) {
	if d.online {
		return
	}
	d.online = true
	f.devices.connect(d.name, true)
	f.fetch(d)
}

func (f *fleet) goAway(d *device) {
	d.online, d.inbox = false, nil
	f.devices.connect(d.name, false)
	f.announce.Gone(d.name)
}

// hear is called with what the announcer says.
func (f *fleet) hear(thing string, m jobs.Message) {
	for _, d := range f.things {
		if d.name == thing && d.online {
			d.inbox = append(d.inbox, m)
			if strings.HasSuffix(m.Topic, "/notify-namespace-"+protocol.Namespace) && strings.HasSuffix(string(m.Payload), `"jobs":{}}`) {
				list, err := f.jobs.Pending(f.ctx, thing)
				f.untrue = f.untrue || err != nil || len(list) > 0
			}
		}
	}
}

// work lets the device do one thing and reports whether there was one.
func (f *fleet) work(d *device, result protocol.JobStatus) bool {
	switch {
	case !d.online:
		return false
	case len(d.inbox) > 0:
		m := d.inbox[0]
		d.inbox = d.inbox[1:]
		f.read(d, m)
	case d.run != nil:
		job := d.run.JobID
		d.run = nil
		f.report(d, job, result)
	case len(d.queue) > 0:
		next := d.queue[0]
		d.queue, d.run = d.queue[1:], &next
		f.report(d, next.JobID, protocol.JobInProgress)
	default:
		return false
	}
	return true
}

func (f *fleet) report(d *device, job string, s protocol.JobStatus) {
	out := f.update(d.name, job, s)
	for _, m := range out[1:] {
		require.True(f.t, m.Notice)
		f.hear(d.name, m)
	}
}

func (f *fleet) read(d *device, m jobs.Message) {
	topic := strings.TrimPrefix(m.Topic, protocol.ThingPrefix(d.name)+"jobs/")
	switch {
	case !d.lite && topic == "notify-namespace-"+protocol.Namespace:
		if n := read[protocol.JobNotice](f.t, m.Payload); len(n.Jobs[protocol.JobQueued]) > 0 {
			f.fetch(d)
		}
	case d.lite && topic == "notify-next-namespace-"+protocol.Namespace:
		f.enqueue(d, read[protocol.JobAnswer](f.t, m.Payload).Execution)
	}
}

func (f *fleet) fetch(d *device) { f.enqueue(d, f.next(d.name).Execution) }

func (f *fleet) enqueue(d *device, e *protocol.JobExecution) {
	if e == nil {
		return
	}
	require.True(f.t, json.Valid(e.JobDocument))
	if d.lite && e.JobID == d.last.JobID && e.QueuedAt <= d.last.QueuedAt {
		return
	}
	if !d.lite && (e.QueuedAt < d.last.QueuedAt || e.QueuedAt == d.last.QueuedAt && e.JobID == d.last.JobID) {
		return
	}
	d.last = *e
	d.queue = append(d.queue, *e)
}

// check holds after every step.
func (f *fleet) check() {
	require.False(f.t, f.untrue, "an empty notice cancels what runs on classic")
	for _, d := range f.things {
		waiting := map[string]bool{}
		for _, e := range f.pending(d.name) {
			if e.Status == protocol.JobQueued {
				require.False(f.t, waiting[e.Target], "two executions of %s wait on %s", e.Target, d.name)
				waiting[e.Target] = true
			}
			require.False(f.t, e.Status.Terminal())
			f.grows(e)
		}
	}
	_, err := f.jobs.AllResults(f.ctx, func(e jobs.Execution) error {
		if !e.Status.Terminal() {
			require.Equal(f.t, protocol.JobInProgress, e.Status)
			return nil
		}
		for _, p := range f.pending(e.Thing) {
			require.False(f.t, p.JobID == e.JobID && p.Number <= e.Number, "job %s of %s is pending and ended", e.JobID, e.Thing)
		}
		f.grows(e)
		return nil
	})
	require.NoError(f.t, err)
}

func (f *fleet) grows(e jobs.Execution) {
	key := fmt.Sprint(e.Thing, "/", e.JobID, "/", e.Number)
	before, known := f.seen[key]
	require.GreaterOrEqual(f.t, e.Version, before.Version)
	if known {
		require.False(f.t, e.Status != before.Status && e.Version == before.Version, "%s changed without a new version", key)
		require.False(f.t, before.Status.Terminal() && e.Status != before.Status, "%s left a final status", key)
	} else {
		last := f.newest[e.Thing]
		require.GreaterOrEqual(f.t, e.QueuedAt, last.QueuedAt)
		require.Greater(f.t, e.Stamp, last.Stamp)
		f.newest[e.Thing] = e
	}
	f.seen[key] = e
}
