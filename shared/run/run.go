package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Loop is one part of a program.
type Loop struct {
	Name string
	Run  func(ctx context.Context) error
}

// errStopped is the cause of the context that All gives its loops once one of
// them ended without an error: a part that ends early ends the program.
var errStopped = errors.New("stopped")

// All runs every loop until one ends or ctx is done, then stops the others and
// waits for all of them. It returns nil after an orderly stop, else the first
// failure with the loop's name. A panic in a loop counts as its failure.
func All(ctx context.Context, loops ...Loop) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	var wg sync.WaitGroup
	for _, l := range loops {
		wg.Go(func() {
			err := guard(ctx, l)
			if err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil {
				cancel(errStopped)
				return
			}
			cancel(fmt.Errorf("%s: %w", l.Name, err))
		})
	}
	wg.Wait()

	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errStopped) {
		return err
	}
	return nil
}

func guard(ctx context.Context, l Loop) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return l.Run(ctx)
}

// Every calls step at once and then each interval until ctx is done. A failing
// step is handed to onErr and tried again at the next tick.
func Every(ctx context.Context, interval time.Duration, step func(context.Context) error, onErr func(error)) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		if err := step(ctx); err != nil && ctx.Err() == nil {
			onErr(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Sleep waits for d or until ctx is done, whichever comes first, and returns
// ctx.Err().
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
