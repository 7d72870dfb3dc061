package app

import (
	"context"
	"errors"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/shared/logx"
)

// Command returns `ggfleet serve`. Records go to logs.
func Command(logs io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: "Run the control plane: registry, certificate authority, MQTT gateway, artifact store and fleet API in one process.\n" +
			"Settings come from the file named by --config, from the environment (GGFLEET_HTTP_ADDR for --http-addr) and from flags; a later one wins.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := Load(cmd.Flags())
			if err != nil {
				return err
			}
			return Serve(cmd.Context(), cfg, logs)
		},
	}
	Flags(c.Flags())
	return c
}

// Serve runs a control plane until ctx is done or the process is told to stop.
func Serve(ctx context.Context, cfg Config, logs io.Writer) error {
	level, err := cfg.level()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := logx.New(logs, level, cfg.LogFormat)
	a, err := New(ctx, cfg, log)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	err = a.Run(ctx)
	log.InfoContext(context.WithoutCancel(ctx), "stopped")
	return err
}
