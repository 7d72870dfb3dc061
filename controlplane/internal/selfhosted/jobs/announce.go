package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Devices reaches the things that are connected to this replica.
type Devices interface {
	// Connected reports whether the thing has a session here.
	Connected(thing string) bool
	// Notify hands m to the sessions of the thing that subscribed to its topic, and
	// does not wait for them.
	// tooLarge is the maximum packet size, in bytes, of a session that cannot
	// take it, else 0.
	Notify(thing string, m Message) (tooLarge int)
}

// Announcer tells connected things when their pending jobs changed. It follows
// the store, so it announces changes of any replica; what it already sent for
// a thing is remembered until the thing goes, so that nothing is said twice.
type Announcer struct {
	jobs    *Service
	devices Devices
	seed    maphash.Seed
	shards  [64]announcerShard
	views   views
	// oversized are the executions that no packet can carry to their thing, by
	// <thing>/<job>: there are never more than executions.
	oversized backlog
}

type announcerShard struct {
	mu      sync.Mutex // held over one thing's change and its announcement
	said    map[string]announced
	backlog backlog
}

// announced is what a thing was last told.
type announced struct {
	set  string // the ids and numbers of its pending executions
	next string // the first of them
}

// NewAnnouncer returns an Announcer; Run starts it.
func NewAnnouncer(jobs *Service, devices Devices) *Announcer {
	a := &Announcer{jobs: jobs, devices: devices, seed: maphash.MakeSeed()}
	a.views.clear()
	a.oversized.init()
	for i := range a.shards {
		a.shards[i].said = map[string]announced{}
		a.shards[i].backlog.init()
	}
	return a
}

func (a *Announcer) shard(thing string) *announcerShard {
	return &a.shards[maphash.String(a.seed, thing)%uint64(len(a.shards))]
}

func (a *Announcer) lock(thing string) (unlock func()) {
	s := a.shard(thing)
	s.mu.Lock()
	return s.mu.Unlock
}

// Gone forgets what the thing was told: it has no session here any more.
func (a *Announcer) Gone(thing string) {
	s := a.shard(thing)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.said, thing)
	a.views.forget(thing)
}

// Behind is how many things are still to be told something.
func (a *Announcer) Behind() int {
	n := 0
	for i := range a.shards {
		n += int(a.shards[i].backlog.left.Load())
	}
	return n
}

// Run announces until ctx is done.
func (a *Announcer) Run(ctx context.Context) error {
	loops := []run.Loop{{Name: "watch", Run: a.watch}, {Name: "oversized jobs", Run: a.oversized.each(a.fail)}}
	for i := range a.shards {
		loops = append(loops, run.Loop{Name: "announcements", Run: a.shards[i].backlog.each(a.announce)})
	}
	return run.All(ctx, loops...)
}

func (a *Announcer) watch(ctx context.Context) error {
	for {
		from, err := a.catchUp(ctx)
		if err != nil {
			return err
		}
		err = a.jobs.store.Watch(ctx, pendingAll(), from, func(events []state.Event) error {
			for _, e := range events {
				thing := thingOf(e.Key)
				if err := a.views.put(thing, e); err != nil {
					return err
				}
				a.changed(thing)
			}
			return nil
		})
		if !errors.Is(err, state.ErrCompacted) {
			return err
		}
	}
}

// changed has the thing told soon. The watch goes on meanwhile: a thing waits
// for the commits of its own reports, and nobody else shall wait with it.
func (a *Announcer) changed(thing string) { a.shard(thing).backlog.add(thing) }

// catchUp announces what changed while nobody watched, and returns the revision
// to watch from.
func (a *Announcer) catchUp(ctx context.Context) (state.Rev, error) {
	things := map[string]struct{}{}
	for i := range a.shards {
		s := &a.shards[i]
		s.mu.Lock()
		for thing := range s.said {
			things[thing] = struct{}{}
		}
		s.mu.Unlock()
	}
	var from state.Rev
	for after := ""; ; {
		page, err := a.jobs.store.List(ctx, pendingAll(), after, 1000)
		if err != nil {
			return 0, fmt.Errorf("list pending executions: %w", err)
		}
		if from == 0 {
			from = page.At // what changes from here on, the watch tells
			a.views.clear()
		}
		for _, e := range page.Entries {
			things[thingOf(e.Key)] = struct{}{}
			after = e.Key
		}
		if !page.More {
			break
		}
	}
	for thing := range things {
		a.changed(thing)
	}
	return from, nil
}

func thingOf(pendingKey string) string {
	thing, _, _ := strings.Cut(strings.TrimPrefix(pendingKey, pendingAll()), "/")
	return thing
}

// announceAgain is how long a thing waits that could not be told: a device that stays
// connected never asks.
const announceAgain = 5 * time.Second

func (a *Announcer) announce(ctx context.Context, thing string) {
	if !a.devices.Connected(thing) {
		return
	}
	// Under the lock until it is on its way: what is said later arrives later.
	defer a.lock(thing)()
	notices, err := a.noticesLocked(ctx, thing, false)
	if err != nil {
		a.jobs.log.WarnContext(ctx, "pending jobs could not be announced; trying again", logx.Thing, thing, logx.Err, err)
		time.AfterFunc(announceAgain, func() {
			if ctx.Err() == nil {
				a.changed(thing)
			}
		})
		return
	}
	for _, m := range notices {
		if limit := a.devices.Notify(thing, m); limit > 0 {
			a.TooLarge(thing, m, limit)
		}
	}
}

// TooLarge has the execution that m carries end soon: a session of the thing
// takes at most limit bytes a packet, so the deployment could never arrive there.
func (a *Announcer) TooLarge(thing string, m Message, limit int) {
	if m.Job == "" {
		return
	}
	a.jobs.log.Warn("deployment is too large for the device", logx.Thing, thing, logx.Job, m.Job, "bytes", len(m.Payload), "limit", limit)
	a.oversized.add(thing + "/" + m.Job)
}

func (a *Announcer) fail(ctx context.Context, execution string) {
	thing, job, _ := strings.Cut(execution, "/")
	cause := "The deployment document does not fit the core's maximum packet size; deploy fewer components or less configuration at once."
	if err := a.jobs.Fail(ctx, thing, job, cause); err != nil {
		a.jobs.log.ErrorContext(ctx, "oversized job could not be failed", logx.Thing, thing, logx.Job, job, logx.Err, err)
	}
}

// noticesLocked returns what the thing has to be told since it was last told
// something, and remembers it as said. With always set it is told in any case:
// classic fetches its next job only when a notify follows the end of the last
// (trap 10).
func (a *Announcer) noticesLocked(ctx context.Context, thing string, always bool) ([]Message, error) {
	list, known := a.views.get(thing)
	if always || !known { // after a report of the thing itself the watch may be behind
		var err error
		if list, err = a.views.load(ctx, a.jobs, thing); err != nil {
			return nil, err
		}
	}
	now := announcedOf(list)
	jobs := map[protocol.JobStatus][]protocol.JobExecutionSummary{}
	for _, e := range list[:min(len(list), maxNotice)] {
		jobs[e.Status] = append(jobs[e.Status], summary(e))
	}
	said := a.shard(thing).said
	before, told := said[thing]
	always = always || !told
	if !always && before == now {
		return nil, nil
	}
	var out []Message
	ts := a.jobs.now().Unix()
	if always || before.set != now.set {
		b, err := json.Marshal(protocol.JobNotice{Timestamp: ts, Jobs: jobs})
		if err != nil {
			return nil, err
		}
		for _, topic := range []string{protocol.JobsNotify(thing), protocol.PlainJobsNotify(thing)} {
			out = append(out, Message{Topic: topic, Payload: b, Notice: true})
		}
	}
	if always || before.next != now.next {
		m, err := a.nextNotice(ctx, thing, list, ts)
		if err != nil {
			return nil, err
		}
		out = append(out, m...)
	}
	said[thing] = now
	return out, nil
}

// saidLocked remembers that an answer told the thing what stands now, unless
// it is known to have been told something: then a difference is still owed.
func (a *Announcer) saidLocked(thing string, list []Execution) {
	if said := a.shard(thing).said; said[thing] == (announced{}) {
		said[thing] = announcedOf(list)
	}
}

func announcedOf(list []Execution) announced {
	ids := make([]string, len(list))
	for i, e := range list {
		ids[i] = executionID(e)
	}
	// The set in an order that a change of status alone does not touch.
	a := announced{next: "-"}
	if len(ids) > 0 {
		a.next = ids[0]
	}
	slices.Sort(ids)
	a.set = strings.Join(ids, " ")
	return a
}

// maxNotice is how many executions a notify lists (iot-api §19).
const maxNotice = 10

func (a *Announcer) nextNotice(ctx context.Context, thing string, list []Execution, ts int64) ([]Message, error) {
	answer, job := protocol.JobAnswer{Timestamp: ts}, ""
	if len(list) > 0 {
		x, err := a.jobs.wire(ctx, list[0], true)
		if err != nil {
			return nil, err
		}
		answer.Execution, job = x, x.JobID
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return []Message{
		{Topic: protocol.JobsNotifyNext(thing), Payload: b, Notice: true, Job: job},
		{Topic: protocol.PlainJobsNotifyNext(thing), Payload: b, Notice: true},
	}, nil
}

func executionID(e Execution) string {
	return e.JobID + "/" + strconv.FormatInt(e.Number, 10)
}
