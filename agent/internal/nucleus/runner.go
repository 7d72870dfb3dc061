package nucleus

import (
	"context"
	"time"
)

// runner is one way to run the nucleus of a Spec.
type runner interface {
	// find returns what runs already, started by whomever: same tells that it is the
	// nucleus of the spec. nil: nothing runs.
	find(ctx context.Context) (r running, same bool, err error)
	// start starts it. What it returns together with an error was started, but must
	// not be kept.
	start(ctx context.Context) (running, error)
	// upFor is how long it must be up to be proven when it says nothing itself.
	upFor() time.Duration
	// look is how often it is looked at, not proven and proven.
	look() (unproven, proven time.Duration)
	// remains reports whether it goes on when the agent ends.
	remains() bool
}

// running is a nucleus that was started or found.
type running interface {
	// gone is closed when it has ended and only a start brings it back. nil: only
	// look tells.
	gone() <-chan struct{}
	look(ctx context.Context) sight
	// stop ends it and everything that belongs to it.
	stop(ctx context.Context) error
}

// sight is what a look at a running nucleus shows.
type sight struct {
	pid    int
	up     bool          // it runs
	ready  bool          // it says itself that it works; false when it says nothing
	silent bool          // it says nothing: being up is the proof
	age    time.Duration // since it was started or found, or was last brought back
	ends   int           // how often something else than the agent has brought it back, since it was started or found
	err    error         // why it is not up
	again  bool          // it ended because it wants to be started again
}

// stopLeft stops a process that an earlier agent has left.
func (s *Supervisor) stopLeft(ctx context.Context) error {
	p, err := newProcesses(&s.cfg, Spec{})
	if err != nil {
		return nil //nolint:nilerr // a system without them
	}
	left, _, err := p.find(ctx)
	if err != nil || left == nil {
		return nil //nolint:nilerr // nothing that could be stopped
	}
	return left.stop(ctx)
}
