package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/agent/internal/svc"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (o *options) run() *cobra.Command {
	c := &cobra.Command{Use: "run", Short: "Work until stopped; the service does this", Args: cobra.NoArgs}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := o.config(cmd)
		if err != nil {
			return err
		}
		return work(func(cmd *cobra.Command, _ []string) error {
			return svc.Run(cmd.Context(), func(ctx context.Context) error { return app.Run(ctx, cfg) })
		})(cmd, args)
	}
	return c
}

// services are the commands about the service of this system.
func (o *options) services() []*cobra.Command {
	simple := func(use, short string, do func(cmd *cobra.Command) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs, RunE: work(func(cmd *cobra.Command, _ []string) error { return do(cmd) }),
		}
	}
	return []*cobra.Command{
		simple("install", "Make it a service of this system that starts with the machine, and start it", func(cmd *cobra.Command) error {
			return app.InstallService(cmd.OutOrStdout(), o.root)
		}),
		o.uninstall(),
		simple("start", "Start the service", func(*cobra.Command) error { return app.StartService(o.root) }),
		simple("stop", "Stop the service, and a nucleus that the agent runs as a process", func(*cobra.Command) error { return app.StopService(o.root) }),
	}
}

func (o *options) uninstall() *cobra.Command {
	var purge, yes bool
	c := &cobra.Command{
		Use: "uninstall", Short: "Stop the service and remove it; --purge: and all that the agent keeps", Args: cobra.NoArgs,
		Long: `Stops the service and removes it. What the agent keeps stays, and a service
that is installed again goes on with it. --purge removes that as well: identity
and keys, and the nucleus that the agent installed, with its services. The device
must be enrolled again then. A nucleus that was there before the agent is not
touched; the configuration, certificates and components' data of classic and lite
stay where they have them.`,
	}
	c.Flags().BoolVar(&purge, "purge", false, "remove the root of the agent with all that is in it, and the nucleus that it installed")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.RunE = work(func(cmd *cobra.Command, _ []string) error {
		if purge {
			root, err := app.PurgeCheck(o.root)
			if err != nil {
				return err
			}
			if !yes && !agreed(cmd, "remove "+root+" with keys, identity and nucleus?") {
				return errors.New("nothing was removed")
			}
		}
		if err := app.UninstallService(cmd.OutOrStdout(), o.root); err != nil && (!purge || !errors.Is(err, fault.Unsupported)) {
			return err
		}
		if !purge {
			return nil
		}
		cfg, err := o.config(cmd)
		if err != nil {
			return err
		}
		return app.Purge(cmd.Context(), cmd.OutOrStdout(), cfg)
	})
	return c
}

// agreed asks on the command's output; only a yes on its input agrees.
func agreed(cmd *cobra.Command, question string) bool {
	fmt.Fprintf(cmd.OutOrStdout(), "%s [y/N] ", question)
	answer, _ := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 100)).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
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
