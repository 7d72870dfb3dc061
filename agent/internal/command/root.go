package command

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// Exit codes.
const (
	ExitFailed = 1
	ExitUsage  = 2
)

// failure marks an error of the work itself; every other error of a command is
// one of the command line.
type failure struct{ err error }

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// ExitCode returns the exit status for what a command returned; 0 for nil.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return ExitFailed
	}
	return ExitUsage
}

// Text is what is said about err, which is not nil: a wrong command line names the
// command whose help tells the right one.
func Text(c *cobra.Command, err error) string {
	if ExitCode(err) != ExitUsage {
		return err.Error()
	}
	return fmt.Sprintf("%s\nsee '%s --help'", strings.TrimSpace(err.Error()), c.CommandPath())
}

// options is what every command shares.
type options struct {
	root, logLevel, logFormat string
}

// config returns the agent's configuration; its log goes to the command's
// standard error.
func (o *options) config(cmd *cobra.Command) (app.Config, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return app.Config{}, fmt.Errorf("--log-level %q: want debug, info, warn or error", o.logLevel)
	}
	return app.Config{Root: o.root, Log: logx.New(cmd.ErrOrStderr(), level, o.logFormat)}, nil
}

// Groups of commands in the help.
const (
	groupSetup   = "setup"
	groupLook    = "look"
	groupService = "service"
)

// New returns the root command.
func New() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use: "ggfleet-agent", Short: "Looks after one device of a ggfleet fleet",
		Long: `ggfleet-agent looks after one core device or client device: it enrols the
device, keeps its certificates, installs and watches the nucleus, and reports.

Exit status: 0 done, 1 it failed, 2 wrong command line.`,
		Version: buildinfo.Version, SilenceUsage: true, SilenceErrors: true,
	}
	f := root.PersistentFlags()
	f.StringVar(&o.root, "root", app.DefaultRoot, "`folder` of this agent and its device; one agent each")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	root.AddGroup(&cobra.Group{ID: groupSetup, Title: "Set up this device:"}, &cobra.Group{ID: groupLook, Title: "Look at it:"},
		&cobra.Group{ID: groupService, Title: "The service:"})
	for group, list := range map[string][]*cobra.Command{
		groupSetup:   {o.enroll(), o.allow(), o.forbid(), o.nucleus(), o.client(), o.update(), o.updateKey()},
		groupLook:    {o.status(), o.doctor(), o.logs(), o.supportBundle(), version()},
		groupService: append(o.services(), o.run()),
	} {
		for _, c := range list {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	return root
}

// work makes f the body of a command: what it returns is a failure, not an error
// of the command line.
func work(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := f(cmd, args); err != nil {
			return &failure{err}
		}
		return nil
	}
}
