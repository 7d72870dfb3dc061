package nucleus

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// ErrUnproven is the error of a nucleus that did not pass the health gate.
var ErrUnproven = errors.New("the nucleus did not pass the health gate")

// ErrHandOver says, as the cause of the end of Run's context, that another agent is
// about to take this one's place.
var ErrHandOver = errors.New("another agent takes over")

// maxEnds is how often a nucleus on trial may end by itself.
const maxEnds = 3

// Spec is one nucleus that can run.
type Spec struct {
	Version  nucleus.Version
	Manifest nucleus.Manifest
	Launch   nucleus.Launch
	Root     string // absolute, as this process sees it; a process's logs, ready and state file lie below it

	// Instead are units of systemd that must not run beside it: those of the
	// version that it takes the place of, when they are others.
	Instead []string

	// Intact, when not nil, is asked when it would be proven. An error says that what
	// runs is not what was switched to: classic goes back to its old version by
	// itself.
	Intact func(ctx context.Context) error
}

// Config is what a Supervisor needs. Zero times get their defaults.
type Config struct {
	Dir      *localstate.Dir         // required
	System   nucleus.System          // the host whose services run it; nil: there are none
	OnStatus func(telemetry.Nucleus) // required; called on the supervisor's goroutine, must not block

	UpFor     time.Duration // a process without a ready file is proven when up so long; default 10 s
	ServiceUp time.Duration // the same for services, whose own loader may hide an end or two; default 30 s
	Gate      time.Duration // a nucleus on trial has so long to be proven; default 2 min
	Stop      time.Duration // between SIGTERM and SIGKILL; default 15 s
	MinWait   time.Duration // before a nucleus that ended is started again; default 1 s
	MaxWait   time.Duration // default 5 min
	Look      time.Duration // between looks at a nucleus that is not proven; default 250 ms, services 1 s
	LogSize   int64         // bytes of nucleus.log before it is rotated; default 5 MiB
	Log       *slog.Logger
}

// Between looks at a nucleus that is proven: a device that idles should sleep. Of
// a process the end is noticed at once anyway; only its log may grow.
const (
	quietProcess = 10 * time.Second
	quietService = 30 * time.Second
)

func (c Config) withDefaults() (Config, error) {
	if c.Dir == nil || c.OnStatus == nil {
		return c, fault.New(fault.Invalid, "a supervisor needs a state folder and somebody to tell")
	}
	if c.ServiceUp <= 0 && c.UpFor > 0 {
		c.ServiceUp = c.UpFor
	}
	for _, d := range []struct {
		at   *time.Duration
		dflt time.Duration
	}{
		{&c.UpFor, 10 * time.Second},
		{&c.ServiceUp, 30 * time.Second},
		{&c.Gate, 2 * time.Minute},
		{&c.Stop, 15 * time.Second},
		{&c.MinWait, time.Second},
		{&c.MaxWait, 5 * time.Minute},
		{&c.Look, 250 * time.Millisecond},
	} {
		if *d.at <= 0 {
			*d.at = d.dflt
		}
	}
	if c.LogSize <= 0 {
		c.LogSize = 5 << 20
	}
	if c.Log == nil {
		c.Log = logx.Discard()
	}
	return c, nil
}
