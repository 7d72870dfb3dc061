// Command ggfleet-agent is the service on each core device and client device:
// it enrols the device, installs and supervises the nucleus, and reports.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/agent/internal/command"
	"github.com/ggfleet/ggfleet/agent/internal/selfupdate"
)

// collectAt makes the garbage collector run twice as often as it would: an agent
// has little to do, and its device little memory.
const collectAt = 50

// stopVar tells the program that comes next that it is to stop: somebody said so
// while it took over, and what runs beside us is now its to end.
const stopVar = "GGFLEET_AGENT_STOP"

func main() {
	debug.SetGCPercent(collectAt)
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, append(handOver, os.Interrupt, syscall.SIGTERM)...)
	var stop atomic.Bool
	if os.Getenv(stopVar) != "" {
		stop.Store(true)
		cancel(nil)
	}
	go func() {
		for s := range signals {
			switch {
			case s != os.Interrupt && s != syscall.SIGTERM:
				cancel(app.ErrHandOver)
			case stop.Swap(true):
				os.Exit(command.ExitFailed) // asked twice
			default:
				cancel(nil)
			}
		}
	}()
	c, err := command.New().ExecuteContextC(ctx)
	if errors.Is(err, app.ErrHandOver) {
		var tell []string
		if stop.Load() {
			tell = []string{stopVar + "=1"}
		}
		err = errors.Join(err, selfupdate.Again(tell...)) // does not return when it works
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ggfleet-agent:", command.Text(c, err))
	}
	os.Exit(command.ExitCode(err))
}
