package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/agent/app"
)

// errUnwell makes the exit status of a doctor that found something.
var errUnwell = errors.New("the device is not well")

func (o *options) doctor() *cobra.Command {
	var output, explain string
	c := &cobra.Command{
		Use: "doctor", Short: "Find out why this device does not work, and what to do",
		Long: `Looks at everything that can keep this device from working: the host, the
enrolment, the network, the nucleus, the agent. It changes nothing, and works beside a
running agent. Exit status 1: something failed.`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	c.Flags().StringVar(&explain, "explain", "", "say what a `code` means and do nothing else")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if output != "text" && output != "json" {
			return fmt.Errorf("--output %q: want text or json", output)
		}
		return work(func(cmd *cobra.Command, _ []string) error {
			if explain != "" {
				return app.ExplainCheck(cmd.OutOrStdout(), explain)
			}
			well, err := app.Doctor(cmd.Context(), cmd.OutOrStdout(), o.root, output == "json")
			if err == nil && !well {
				err = errUnwell
			}
			return err
		})(cmd, args)
	}
	return c
}
