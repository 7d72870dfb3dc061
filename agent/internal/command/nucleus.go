package command

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (o *options) nucleus() *cobra.Command {
	c := &cobra.Command{
		Use: "nucleus", Short: "Plan, install, remove or roll back the nucleus by hand, without the control plane",
		Long: `Does to the nucleus what the control plane would have the agent do. An enrolled
agent that reaches its control plane goes on to the version that is offered there;
'ggfleet nucleus pin' at the control plane keeps a device on one.`,
	}
	c.AddCommand(
		o.byHand("plan", "Show what installing an archive would do", app.PlanNucleus),
		o.byHand("install", "Install an archive; go back when it does not work", app.InstallNucleus),
		o.byHand("remove", "Stop the nucleus and take it off this device; data and certificates stay", app.RemoveNucleus),
		o.byHand("rollback", "Go back to the version before", app.RollbackNucleus),
		o.nucleusSet(),
	)
	return c
}

func (o *options) byHand(use, short string, do func(context.Context, app.Config, app.NucleusByHand) error) *cobra.Command {
	var h app.NucleusByHand
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
	f := c.Flags()
	if use == "plan" || use == "install" {
		f.StringVar(&h.Archive, "archive", "", "`file` of the nucleus: AWS's zip, a deb or rpm, or a tar.gz (required)")
		f.StringVar(&h.Config, "config", "", "`file` of the installer configuration (default: the one that is stored)")
	}
	if use == "install" || use == "remove" {
		f.BoolVar(&h.DryRun, "dry-run", false, "only show what would be done")
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := o.config(cmd)
		if err != nil {
			return err
		}
		h.Out = cmd.OutOrStdout()
		return work(func(cmd *cobra.Command, _ []string) error { return do(cmd.Context(), cfg, h) })(cmd, args)
	}
	return c
}

// nucleusSet changes how the nucleus is installed on this device.
func (o *options) nucleusSet() *cobra.Command {
	var s app.NucleusSettings
	c := &cobra.Command{
		Use: "set", Short: "Set how the nucleus is installed on this device", Args: cobra.NoArgs,
		Long: `Sets how the nucleus is installed on this device. What is not named stays as it
is; it holds from the agent's next start on.`,
	}
	f := c.Flags()
	f.StringVar(&s.Root, "nucleus-root", "", "root `folder` of a classic nucleus")
	f.StringVar(&s.Classic.Java, "java", "", "`path` of the java program of a classic nucleus")
	f.StringVar(&s.Classic.DefaultUser, "component-default-user", "", "`user:group` that components run as")
	f.StringSliceVar(&s.Classic.JVMOptions, "jvm-option", nil, "`option` of the JVM, such as -Xmx128m; several")
	f.StringSliceVar(&s.Classic.TrustedPlugins, "trusted-plugin", nil, "`jar` of a plugin; several")
	f.BoolVar(&s.Classic.NoSystemService, "as-process", false, "run a classic nucleus as a process of the agent, not as a service")
	f.StringVar(&s.Lite.ComponentUser, "lite-component-user", "", "`user:group` that components of nucleus lite run as")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := o.config(cmd)
		if err != nil {
			return err
		}
		return work(func(cmd *cobra.Command, _ []string) error {
			now, err := app.ReadNucleusSettings(cfg.Root)
			if err != nil && !errors.Is(err, fault.Invalid) { // what is damaged is written anew
				return err
			}
			for name, take := range map[string]func(){
				"nucleus-root":           func() { now.Root = s.Root },
				"java":                   func() { now.Classic.Java = s.Classic.Java },
				"component-default-user": func() { now.Classic.DefaultUser = s.Classic.DefaultUser },
				"jvm-option":             func() { now.Classic.JVMOptions = s.Classic.JVMOptions },
				"trusted-plugin":         func() { now.Classic.TrustedPlugins = s.Classic.TrustedPlugins },
				"as-process":             func() { now.Classic.NoSystemService = s.Classic.NoSystemService },
				"lite-component-user":    func() { now.Lite.ComponentUser = s.Lite.ComponentUser },
			} {
				if cmd.Flags().Changed(name) {
					take()
				}
			}
			return app.StoreNucleusSettings(cfg, now)
		})(cmd, args)
	}
	return c
}
