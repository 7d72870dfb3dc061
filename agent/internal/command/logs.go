package command

import (
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/agent/app"
)

func (o *options) logs() *cobra.Command {
	var r app.LogRequest
	c := &cobra.Command{
		Use: "logs", Short: "Show the log of the agent, the nucleus or a component",
		Long: `Shows the last lines of a log, wherever it is: a file below the root, files of the
nucleus, systemd's journal. Secrets are taken out, as they are for the control plane.`,
		Args: cobra.NoArgs,
		RunE: work(func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return app.Logs(ctx, cmd.OutOrStdout(), o.absRoot(), r)
		}),
	}
	f := c.Flags()
	f.StringVar(&r.Component, "component", "", "`name` of a component")
	f.BoolVar(&r.Nucleus, "nucleus", false, "the nucleus's")
	f.IntVarP(&r.Lines, "tail", "n", 200, "how many lines, at most 10000")
	f.DurationVar(&r.Since, "since", 0, "none older than this, such as 2h30m")
	f.BoolVarP(&r.Follow, "follow", "f", false, "go on with what comes, until interrupted")
	c.MarkFlagsMutuallyExclusive("component", "nucleus")
	return c
}
