package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// DefaultKeep is how long an agent that is gone is remembered.
const DefaultKeep = 7 * 24 * time.Hour

// Config of a View. The zero value is a good one.
type Config struct {
	Keep time.Duration // how long an agent that is gone is remembered; 0: DefaultKeep
	Log  *slog.Logger  // nil: nothing is logged
}

// View is what the agents reported. It holds one entry for each core whose agent
// was there since the start, less those forgotten. Safe for concurrent use.
type View struct {
	keep time.Duration
	log  *slog.Logger

	mu     sync.Mutex // guards what follows
	agents map[string]*agent
	counts Counts
}

// agent is what is known of the agent of one core or client device.
type agent struct {
	report  Report
	device  bool
	last    map[string]mark // by kind of report
	seen    time.Time       // when anything came, or the session ended
	refused bool            // its last message was; logged once
}

// mark tells how new a report is.
type mark struct {
	sequence uint64
	time     time.Time
}

// New returns an empty view.
func New(cfg Config) *View {
	if cfg.Keep <= 0 {
		cfg.Keep = DefaultKeep
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	return &View{keep: cfg.Keep, log: cfg.Log, agents: map[string]*agent{}}
}

// Run forgets the agents that are gone for long, until ctx is done.
func (v *View) Run(ctx context.Context) error {
	return run.Every(ctx, time.Hour, func(context.Context) error {
		now := time.Now()
		v.forget(now)
		v.judge(now)
		return nil
	}, func(error) {})
}

func (v *View) forget(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, a := range v.agents {
		if !a.report.Connected && now.Sub(a.seen) > v.keep {
			v.counts.add(a, -1)
			delete(v.agents, name)
		}
	}
}

// Observe takes what the agent of a core or client device published, or what the
// broker published as its last will. Messages of one agent come one after the
// other. Topics that are no agent's are passed over; a report that cannot be
// read is logged and changes nothing.
func (v *View) Observe(name, topic string, payload []byte) {
	kind, device, ours := kindOf(name, topic)
	if !ours {
		return
	}
	m, known, err := parse(name, device, kind, payload)
	if !known {
		return
	}
	v.mu.Lock()
	first := v.take(name, device, kind, m, err)
	v.mu.Unlock()
	if first {
		v.log.Warn("agent's report refused", logx.Thing, name, "kind", kind, logx.Err, err)
	}
}

// take applies m, or notes that it was refused with err; then first tells that
// the message before was not.
func (v *View) take(name string, device bool, kind string, m message, err error) (first bool) {
	a := v.agents[name]
	if a == nil {
		a = &agent{last: map[string]mark{}, device: device}
		v.agents[name] = a
	} else {
		v.counts.add(a, -1)
	}
	defer func() { v.counts.add(a, 1) }()
	first = err != nil && !a.refused
	a.seen, a.refused = time.Now(), err != nil
	switch {
	case err != nil:
	case m.gone:
		a.report.Connected = false
	default:
		// Whatever arrives comes over a live session, however old it is.
		a.report.Connected, a.report.LastReport = true, a.seen.UTC()
		if next := (mark{m.Sequence, m.Time}); next.after(a.last[kind]) {
			a.last[kind] = next
			m.apply(&a.report)
			a.report.Warnings = warnings(&a.report, a.seen)
		}
	}
	return first
}

// after tells whether m is news. Agents may send a report twice. One whose
// memory was lost counts from 1 again, which its clock tells from a repetition.
func (m mark) after(last mark) bool {
	return m.sequence > last.sequence || m.time.After(last.time)
}

// Disconnected tells that the agent's session ended, for whatever reason: a
// session that was taken away leaves no last will.
func (v *View) Disconnected(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if a := v.agents[name]; a != nil {
		v.counts.add(a, -1)
		a.report.Connected, a.seen = false, time.Now()
		v.counts.add(a, 1)
	}
}

// Moved forgets an agent that reports to another replica from now on.
func (v *View) Moved(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if a := v.agents[name]; a != nil {
		v.counts.add(a, -1)
		delete(v.agents, name)
	}
}

// Agent returns what the agent of a core or client device said last, and false
// when it never said anything.
func (v *View) Agent(name string) (Report, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.agents[name]
	if a == nil || !a.told() {
		return Report{}, false
	}
	return a.report, true
}

func (a *agent) told() bool { return !a.report.LastReport.IsZero() }
