package command

import (
	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/agent/app"
)

const allowed = `patches      run Ansible playbooks on this device
logs         read logs of the agent, the nucleus and components
bundle       fetch a support bundle (without secrets)
restart      restart the nucleus or a component
diagnostics  run the doctor and the named diagnostics

LIST is some of these words with commas between, or "all". Nothing is allowed
unless it is said here. It takes effect at once, also while the agent runs.`

func (o *options) allow() *cobra.Command {
	return &cobra.Command{
		Use: "allow LIST", Short: "Let the control plane do something on this device", Long: "Lets the control plane do something on this device:\n\n" + allowed,
		Args: cobra.ExactArgs(1), RunE: o.consent(true),
	}
}

func (o *options) forbid() *cobra.Command {
	return &cobra.Command{
		Use: "forbid LIST", Short: "Take back what was allowed", Long: "Takes back what was allowed:\n\n" + allowed,
		Args: cobra.ExactArgs(1), RunE: o.consent(false),
	}
}

func (o *options) consent(allow bool) func(*cobra.Command, []string) error {
	return work(func(cmd *cobra.Command, args []string) error {
		if err := app.Allow(o.root, args[0], allow); err != nil {
			return err
		}
		return app.PrintConsent(cmd.OutOrStdout(), o.root)
	})
}
