package command

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
)

func (o *options) update() *cobra.Command {
	var file string
	var dryRun bool
	c := &cobra.Command{
		Use: "update", Short: "Say how updates of the agent stand, or bring one",
		Long: `Says which agent runs and how its updates stand.

With --file it gives the agent a release without a control plane: the binary, and
beside it its signature with .minisig at the end. Version, platform, digest and
signature are checked as for any other release, and it has to prove itself.`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&file, "file", "", "`binary` of a release")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "with --file: only say whether it is good")
	c.PreRunE = func(*cobra.Command, []string) error {
		if dryRun && file == "" {
			return errors.New("--dry-run is about --file; name the binary of a release with --file")
		}
		return nil
	}
	c.RunE = work(func(cmd *cobra.Command, _ []string) error {
		if file == "" {
			return app.UpdateStatus(cmd.OutOrStdout(), o.root, buildinfo.Version)
		}
		return app.Update(cmd.OutOrStdout(), o.root, file, dryRun)
	})
	return c
}

func (o *options) updateKey() *cobra.Command {
	c := &cobra.Command{
		Use: "update-key", Short: "Whose releases may replace the agent",
		Long: `Keeps the public keys that releases of the agent may be signed with, in minisign's
format. Without one the agent never updates itself. Keys may also be built into
the agent and lie in /etc/ggfleet-agent/update-keys.`,
	}
	c.AddCommand(
		&cobra.Command{
			Use: "add KEY", Short: "Trust a public key, given itself or as a file", Args: cobra.ExactArgs(1),
			RunE: work(func(cmd *cobra.Command, args []string) error {
				return app.AddUpdateKey(cmd.OutOrStdout(), o.root, args[0])
			}),
		},
		&cobra.Command{
			Use: "list", Short: "List the keys that are trusted", Args: cobra.NoArgs,
			RunE: work(func(cmd *cobra.Command, _ []string) error { return app.UpdateKeys(cmd.OutOrStdout(), o.root) }),
		},
		&cobra.Command{
			Use: "remove ID", Short: "Trust a key no more", Args: cobra.ExactArgs(1),
			RunE: work(func(cmd *cobra.Command, args []string) error {
				return app.RemoveUpdateKey(cmd.OutOrStdout(), o.root, args[0])
			}),
		},
	)
	return c
}
