package run

import (
	"context"
	"time"
)

// Bell tells a loop that there is something to do. Many may ring it; rung again
// before the loop has heard it, it has been rung once. One loop waits, or receives.
type Bell chan struct{}

// NewBell returns a bell that nobody has rung.
func NewBell() Bell { return make(Bell, 1) }

// Ring never blocks.
func (b Bell) Ring() {
	select {
	case b <- struct{}{}:
	default: // the loop is about to hear it
	}
}

// Wait waits until the bell is rung or was since the last time, for d, or until
// ctx is done, whichever comes first.
func (b Bell) Wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-b:
	case <-t.C:
	}
}
