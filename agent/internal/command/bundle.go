package command

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/agent/app"
)

// bundleTime is how long a support bundle may take.
const bundleTime = 10 * time.Minute

func (o *options) supportBundle() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "support-bundle", Short: "Write what support needs into a zip, without secrets",
		Long: `Writes a zip with the agent's status, the diagnostics, the known members of the
configurations, the states of the units and the ends of the logs. Nothing else is in it,
and no secret: keys, passwords and tokens are taken out of every line.`,
		Args: cobra.NoArgs,
		RunE: work(func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), bundleTime)
			defer cancel()
			name, err := app.SupportBundle(ctx, cmd.OutOrStdout(), o.absRoot(), output)
			if err == nil && name != "-" {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), name)
			}
			return err
		}),
	}
	c.Flags().StringVarP(&output, "output", "o", "", "`file` to write, which must not exist; - for standard output")
	return c
}

// absRoot is the root as the rest of the agent names it.
func (o *options) absRoot() string {
	if root, err := filepath.Abs(o.root); err == nil {
		return root
	}
	return o.root
}
