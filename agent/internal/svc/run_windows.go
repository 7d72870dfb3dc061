package svc

import (
	"context"
	"fmt"
	"os"

	"github.com/kardianos/service"
)

// Run calls work. When the service control manager started this process, it is
// told that the service runs, and ctx of work is done when it asks for a stop.
func Run(ctx context.Context, work func(context.Context) error) error {
	if service.Interactive() {
		return work(ctx)
	}
	p := &program{ctx: ctx, work: work, done: make(chan error, 1)}
	s, err := service.New(p, &service.Config{Name: baseName})
	if err != nil {
		return err
	}
	return s.Run()
}

// program is the agent as the service control manager sees it.
type program struct {
	ctx  context.Context //nolint:containedctx // handed through the library to Start
	work func(context.Context) error
	stop context.CancelFunc
	done chan error
}

// Start implements service.Interface: it must not block.
func (p *program) Start(service.Service) error {
	var ctx context.Context
	ctx, p.stop = context.WithCancel(p.ctx)
	go func() {
		err := p.work(ctx)
		p.done <- err
		if ctx.Err() == nil {
			// It ended by itself: the manager is to see a failure, and start it again.
			fmt.Fprintln(os.Stderr, "ggfleet-agent:", err)
			os.Exit(1)
		}
	}()
	return nil
}

// Stop implements service.Interface.
func (p *program) Stop(service.Service) error {
	p.stop()
	return <-p.done
}
