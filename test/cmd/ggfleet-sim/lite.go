package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/test/simulator"
)

// liteConfig is where nucleus lite reads its configuration at every start.
const liteConfig = "/etc/greengrass/config.yaml"

// runLite is one of nucleus lite's daemons: iotcored is the whole core, the
// others only run.
func runLite(ctx context.Context, args []string, errOut io.Writer) error {
	f := flag.NewFlagSet("lite", flag.ContinueOnError)
	broken := f.String("broken", "", "exit (iotcored ends at once) or hang (runs, never connects)")
	file := f.String("config", liteConfig, "the configuration")
	f.SetOutput(errOut)
	if err := f.Parse(args); err != nil {
		return fault.New(fault.Invalid, "%v", err)
	}
	if f.Arg(0) == "" {
		return fault.New(fault.Invalid, "lite: which daemon?")
	}
	if f.Arg(0) != "iotcored" || *broken == brokenHang {
		<-ctx.Done()
		return nil
	}
	if *broken == brokenExit {
		return errors.New("iotcored is broken")
	}
	b, err := os.ReadFile(*file)
	if err != nil {
		return fmt.Errorf("reading lite's configuration: %w", err)
	}
	system, err := config.ReadSystem(b)
	if err != nil {
		return err
	}
	cfg, err := simulator.FromFile(*file, system.RootPath)
	if err != nil {
		return err
	}
	cfg.Runtime = simulator.Lite
	return runInstalled(ctx, cfg, logx.New(errOut, slog.LevelInfo, "text"))
}
