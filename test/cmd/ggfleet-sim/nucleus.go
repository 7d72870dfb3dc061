package main

import (
	"context"
	"flag"
	"io"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/test/simulator"
)

// runNucleus is one core that lives in an installation's folder. It ends without
// an error when it is told to stop.
func runNucleus(ctx context.Context, args []string, errOut io.Writer) error {
	var b behaviour
	f := flag.NewFlagSet("nucleus", flag.ContinueOnError)
	root := f.String("root", "", "folder of the installation; its configuration is config/config.yaml or installerConfig.yml (mandatory)")
	interval := f.Duration("status-interval", 0, "how often to send the whole fleet status; default: as configured, else a day")
	b.add(f)
	if err := parse(f, args, errOut); err != nil {
		return err
	}
	if *root == "" {
		return fault.New(fault.Invalid, "nucleus: --root is missing")
	}
	cfg, err := simulator.FromRoot(*root)
	if err != nil {
		return err
	}
	log := b.logger(errOut)
	b.apply(&cfg, log)
	if *interval > 0 {
		cfg.StatusInterval = *interval
	}
	// A demo on one machine comes back soon after the control plane did.
	cfg.ReconnectMin, cfg.ReconnectMax = time.Second, 30*time.Second
	cfg.OnEvent = func(e simulator.Event) {
		log.InfoContext(ctx, "nucleus event", logx.Thing, e.Thing, "kind", string(e.Kind), logx.Job, e.Job, logx.Deployment, e.Deployment, "detail", e.Detail, logx.Err, e.Err)
	}
	c, err := simulator.New(cfg)
	if err != nil {
		return err
	}
	return c.Run(ctx)
}
