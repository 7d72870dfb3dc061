// Command ggfleet-agent is the service on each core device and client device:
// it enrols the device, installs and supervises the nucleus, and reports.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/ggfleet/ggfleet/agent/internal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command.New().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ggfleet-agent:", err)
	}
	os.Exit(command.ExitCode(err))
}
