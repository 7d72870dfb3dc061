package command

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/agent/app"
)

func (o *options) enroll() *cobra.Command {
	var allow string
	c := &cobra.Command{
		Use: "enroll STRING", Short: "Enrol with the string of an activation",
		Long: `Enrols this device with the string of an activation. "-" reads the string from
standard input, which keeps it out of the process list. Done again with the same
string it says so, and makes good what is missing.`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&allow, "allow", "", "what the control plane may do here, see 'allow'")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := o.config(cmd)
		if err != nil {
			return err
		}
		return work(func(cmd *cobra.Command, args []string) error {
			if err := app.Allow(o.root, allow, true); err != nil {
				return err
			}
			text := args[0]
			if text == "-" {
				b, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 8<<10))
				if err != nil {
					return err
				}
				text = string(b)
			}
			e, err := app.Enroll(cmd.Context(), cfg, text)
			if err != nil {
				return err
			}
			already := ""
			if !e.Fresh {
				already = "already "
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%senrolled as %s for core %s at %s\n", already, e.AgentThing, e.Core, e.URL)
			return err
		})(cmd, args)
	}
	return c
}
