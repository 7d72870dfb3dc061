package event

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/seal"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Config is what a Service works with.
type Config struct {
	Store     state.Store
	Sealer    seal.Sealer // of the webhooks' secrets
	Sender    Sender      // to webhooks
	Publisher Publisher   // nil: no MQTT
	Bus       Bus         // nil: none

	// Retain is how many events the log keeps; 0: 100,000.
	Retain int
	// GiveUp is how long one event is tried before it becomes a dead letter; 0: an
	// hour.
	GiveUp time.Duration

	Log *slog.Logger     // nil: none
	Now func() time.Time // nil: time.Now
}

const (
	defaultRetain = 100_000
	defaultGiveUp = time.Hour

	leaderTTL = 10 * time.Second
)

// Service keeps the log of events and delivers them. Make it with New.
type Service struct {
	cfg  Config
	log  *slog.Logger
	now  func() time.Time
	tail *tail

	webhooks *state.Mirror[webhookRecord]
	changed  run.Bell // a webhook was made, changed or removed

	count counters
}

type counters struct {
	delivered, retried, deadLetters, lost, published, unpublished, outbox atomic.Int64
}

// Metrics are counts since the start of this process. Webhooks are delivered and
// events numbered by one replica at a time: sum over the replicas.
type Metrics struct {
	Delivered   int64 // events that a webhook or the bus took
	Retried     int64 // attempts that failed and were or will be made again
	DeadLetters int64 // events given up
	Lost        int64 // events that left the log before a subscriber was reached
	Published   int64 // messages handed to the MQTT gateway
	Unpublished int64 // messages that it refused, or that were overtaken by the log's end
	Outbox      int64 // events without a place in the log when this replica last looked
	Sequence    int64 // of the newest event known here
}

// Metrics returns the counts of now.
func (s *Service) Metrics() Metrics {
	c := &s.count
	return Metrics{
		Delivered: c.delivered.Load(), Retried: c.retried.Load(), DeadLetters: c.deadLetters.Load(), Lost: c.lost.Load(),
		Published: c.published.Load(), Unpublished: c.unpublished.Load(), Outbox: c.outbox.Load(), Sequence: s.tail.last(),
	}
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Service, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("event service needs a store")
	case cfg.Sealer == nil:
		return nil, errors.New("event service needs a sealer for the secrets of webhooks")
	case cfg.Sender == nil:
		return nil, errors.New("event service needs a sender to webhooks")
	case cfg.Retain < 0:
		return nil, errors.New("event service: Retain is negative")
	}
	if cfg.Retain == 0 {
		cfg.Retain = defaultRetain
	}
	if cfg.GiveUp <= 0 {
		cfg.GiveUp = defaultGiveUp
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Service{cfg: cfg, log: cfg.Log, now: cfg.Now, tail: newTail(), changed: run.NewBell()}
	s.webhooks = state.NewMirror(cfg.Store, webhookPrefix, func(string, *webhookRecord, *webhookRecord) { s.changed.Ring() })
	return s, nil
}

// Run keeps the log and delivers from it until ctx is done. Of all replicas one
// numbers the events and delivers to webhooks and bus; each publishes on MQTT.
func (s *Service) Run(ctx context.Context) error {
	loops := []run.Loop{
		{Name: "event log", Run: s.follow},
		{Name: "webhooks", Run: s.webhooks.Run},
		{Name: "event leader", Run: s.stand},
	}
	if s.cfg.Publisher != nil {
		loops = append(loops, run.Loop{Name: "events on mqtt", Run: s.publish})
	}
	return run.All(ctx, loops...)
}

// Release ends the claim of a process that was killed, for a process that knows
// itself to be alone on this store.
func (s *Service) Release(ctx context.Context) error { return s.election().Depose(ctx) }

func (s *Service) election() state.Election {
	return state.Election{Store: s.cfg.Store, Step: state.StepEvent, Key: leaderKey, TTL: leaderTTL}
}

// stand waits to be the leader and is it, again and again.
func (s *Service) stand(ctx context.Context) error {
	wait := run.Backoff{Max: 5 * time.Second}
	for ctx.Err() == nil {
		err := s.election().Run(ctx, func(ctx context.Context) error {
			return run.All(ctx,
				run.Loop{Name: "sequence", Run: s.sequence},
				run.Loop{Name: "deliver", Run: s.deliver},
				run.Loop{Name: "sweep", Run: s.sweep},
			)
		})
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "leading of the event log ended; standing for it again", logx.Err, err)
			_ = run.Sleep(ctx, wait.Next()) // the loop looks at ctx
		}
	}
	return nil
}
