// Package assignment tells agents that their assignment may be another, so that
// an idle agent need not ask: it follows the records that assignments depend on.
// A notice is best effort and says nothing itself: the agent asks when it gets
// one, when it connects, and now and then.
//
// What concerns every agent is told at a pace, so that a fleet does not come at
// once. The package knows neither MQTT nor what an assignment holds.
package assignment

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// DefaultPace is the time between two agents that are told of what concerns all.
const DefaultPace = 10 * time.Millisecond

// Config is what New needs. All but Pace and Log are required.
type Config struct {
	Store state.Store
	All   []string        // prefixes of records that every assignment depends on
	One   []string        // prefixes of records that one does: that of the device named behind the prefix
	Names func() []string // the devices whose agents have a session with this process
	Tell  func(device string)

	Pace time.Duration // 0: DefaultPace
	Log  *slog.Logger
}

// Notices tells agents of this process.
type Notices struct {
	cfg   Config
	round run.Bell // everybody is to be told
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Notices, error) {
	if cfg.Store == nil || cfg.Names == nil || cfg.Tell == nil || len(cfg.All)+len(cfg.One) == 0 {
		return nil, errors.New("assignment: Store, Names, Tell and prefixes are required")
	}
	if cfg.Pace <= 0 {
		cfg.Pace = DefaultPace
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	return &Notices{cfg: cfg, round: run.NewBell()}, nil
}

// Run follows the records until ctx is done.
func (n *Notices) Run(ctx context.Context) error {
	loops := []run.Loop{{Name: "rounds", Run: n.rounds}}
	for _, p := range n.cfg.All {
		loops = append(loops, run.Loop{Name: p, Run: func(ctx context.Context) error { return n.follow(ctx, p, n.everybody) }})
	}
	for _, p := range n.cfg.One {
		loops = append(loops, run.Loop{Name: p, Run: func(ctx context.Context) error { return n.follow(ctx, p, n.tell(p)) }})
	}
	return run.All(ctx, loops...)
}

// follow hands over the changes below prefix from now on. What changed before,
// or while the watch was interrupted, agents learn by themselves.
func (n *Notices) follow(ctx context.Context, prefix string, handle func([]state.Event) error) error {
	return state.Follow(ctx, n.cfg.Store, prefix, handle, func(err error) {
		n.cfg.Log.WarnContext(ctx, "records of assignments not watched", "prefix", prefix, logx.Err, err)
	})
}

func (n *Notices) everybody([]state.Event) error {
	n.round.Ring()
	return nil
}

func (n *Notices) tell(prefix string) func([]state.Event) error {
	return func(events []state.Event) error {
		for _, e := range events {
			if device, err := url.PathUnescape(strings.TrimPrefix(e.Key, prefix)); err == nil {
				n.cfg.Tell(device)
			}
		}
		return nil
	}
}

// rounds tells everybody, one after the other, whenever something concerns all.
func (n *Notices) rounds(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.round:
		}
		for _, device := range n.cfg.Names() {
			n.cfg.Tell(device)
			if run.Sleep(ctx, n.cfg.Pace) != nil {
				return nil
			}
		}
	}
}
