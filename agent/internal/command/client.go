package command

import (
	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/agent/app"
)

func (o *options) client() *cobra.Command {
	c := &cobra.Command{
		Use: "client", Short: "Show what the application of a client device is told", Args: cobra.NoArgs,
		RunE: work(func(cmd *cobra.Command, _ []string) error { return app.PrintClient(cmd.OutOrStdout(), o.root) }),
	}
	var s app.ClientSettings
	set := &cobra.Command{
		Use: "set", Short: "Say what is particular to this client device", Args: cobra.NoArgs,
		Long: "Says what is particular to this client device. The running agent must be started again to see it.",
		RunE: work(func(*cobra.Command, []string) error { return app.SetClient(o.root, s) }),
	}
	set.Flags().StringVar(&s.Group, "group", "", "`group` of the operating system that may read the device's private key; empty: none")
	c.AddCommand(set)
	return c
}
