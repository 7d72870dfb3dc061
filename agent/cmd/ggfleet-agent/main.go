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
	"syscall"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/agent/internal/command"
)

// collectAt makes the garbage collector run twice as often as it would: an agent
// has little to do, and its device little memory.
const collectAt = 50

func main() {
	debug.SetGCPercent(collectAt)
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, append(handOver, os.Interrupt, syscall.SIGTERM)...)
	go func() {
		if s := <-signals; s == os.Interrupt || s == syscall.SIGTERM {
			cancel(nil)
		} else {
			cancel(app.ErrHandOver)
		}
		signal.Stop(signals) // a second one ends this process at once
	}()
	err := command.New().ExecuteContext(ctx)
	if errors.Is(err, app.ErrHandOver) {
		err = errors.Join(err, becomeNext()) // does not return when it works
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ggfleet-agent:", err)
	}
	os.Exit(command.ExitCode(err))
}
