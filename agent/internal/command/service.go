package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
)

func (o *options) run() *cobra.Command {
	c := &cobra.Command{Use: "run", Short: "Work until stopped; the service does this", Args: cobra.NoArgs}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := o.config(cmd)
		if err != nil {
			return err
		}
		return work(func(cmd *cobra.Command, _ []string) error { return app.Run(cmd.Context(), cfg) })(cmd, args)
	}
	return c
}

func (o *options) service(action, short string) *cobra.Command {
	return &cobra.Command{
		Use: action, Short: short, Args: cobra.NoArgs,
		RunE: work(func(cmd *cobra.Command, _ []string) error {
			if err := app.Service(o.root, action); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: done\n", action)
			return err
		}),
	}
}

func (o *options) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say what is enrolled, installed and running", Args: cobra.NoArgs,
		RunE: work(func(cmd *cobra.Command, _ []string) error { return app.Status(cmd.OutOrStdout(), o.root) }),
	}
}

func version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: work(func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace("ggfleet-agent "+buildinfo.Version+" "+buildinfo.Commit()))
			return err
		}),
	}
}
