package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	ExitFailed      = 1
	ExitUsage       = 2
	ExitNotFound    = 3
	ExitDenied      = 4
	ExitUnreachable = 5
	ExitTaskFailed  = 6
)

// exitError is an error with its exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func failure(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// ExitCode returns the exit code for what a command returned; 0 for nil.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return ExitUsage // cobra's own: an unknown command or flag
}

// Text is what is said about err, which is not nil: a wrong command line names the
// command whose help tells the right one.
func Text(c *cobra.Command, err error) string {
	if _, ok := errors.AsType[*exitError](err); ok {
		return err.Error()
	}
	return fmt.Sprintf("%s\nsee \"%s --help\"", strings.TrimSpace(err.Error()), c.CommandPath())
}

// app is what every command shares.
type app struct {
	server, token, dataDir, format string
	key                            string        // Idempotency-Key of POSTs
	ifMatch                        string        // ETag, or a version
	wait                           time.Duration // between two looks at a task
}

// Groups of commands in the help of the root command.
const (
	groupFleet     = "fleet"
	groupProvision = "provision"
	groupEvents    = "events"
	groupServer    = "server"
)

// New returns the root command. server holds the commands that are no clients of
// the API, such as serve; a nil in it is left out.
func New(version string, server ...*cobra.Command) *cobra.Command {
	a := &app{wait: time.Second}
	root := &cobra.Command{
		Use:           "ggfleet",
		Short:         "Provision and control fleets of AWS IoT Greengrass V2 devices",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Long: `Provision and control fleets of AWS IoT Greengrass V2 devices.

"ggfleet serve" is the control plane. All other commands ask a running one.

Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 not found,
4 not allowed, 5 server not reachable, 6 a task ended in Failure.`,
	}
	f := root.PersistentFlags()
	f.StringVar(&a.server, "server", os.Getenv("GGFLEET_SERVER"), "address of the fleet API (GGFLEET_SERVER; default: that of the data directory's server, else http://127.0.0.1:8080)")
	f.StringVar(&a.token, "token", "", "token (GGFLEET_TOKEN; default: admin.token of the data directory)")
	f.StringVar(&a.dataDir, "data-dir", env("GGFLEET_DATA_DIR", ".ggfleet"), "data directory of the server, for token and CA (GGFLEET_DATA_DIR)")
	f.StringVarP(&a.format, "output", "o", "table", "table, json, yaml, or env where it makes sense")
	root.AddGroup(
		&cobra.Group{ID: groupFleet, Title: "The fleet and what runs on it:"},
		&cobra.Group{ID: groupProvision, Title: "What a device is given:"},
		&cobra.Group{ID: groupEvents, Title: "What happens:"},
		&cobra.Group{ID: groupServer, Title: "The server and access to it:"},
	)
	in := func(id string, commands ...*cobra.Command) {
		for _, c := range commands {
			if c != nil {
				c.GroupID = id
				root.AddCommand(c)
			}
		}
	}
	in(groupFleet, a.core(), a.device(), a.component(), a.template(), a.deploy(), a.fleet(), a.patchTemplate(), a.patch())
	in(groupProvision, a.provisioningTemplate(), a.thing(), a.activation(), a.enrollment(), a.nucleus(), a.agentRelease(), a.ca())
	in(groupEvents, a.events(), a.webhook())
	in(groupServer, a.tokens(), a.accessKey(), versionCommand(version))
	in(groupServer, server...)
	root.SetHelpCommandGroupID(groupServer)
	root.SetCompletionCommandGroupID(groupServer)
	return root
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func versionCommand(version string) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		_, err := fmt.Fprintln(c.OutOrStdout(), version)
		return err
	}}
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(commands...)
	return c
}

// action is the body of a command: what it returns is printed.
type action func(ctx context.Context, c *client, args []string) (result, error)

// command makes a command that connects, acts and prints.
func (a *app) command(use, short string, args cobra.PositionalArgs, act action) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, argv []string) error {
		c, err := a.connect(cmd.OutOrStdout(), cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		r, err := act(cmd.Context(), c, argv)
		if perr := a.print(cmd.OutOrStdout(), r); perr != nil {
			return perr
		}
		return err
	}}
}

// Failed gives the error of a command that was handed in its exit code: 1, not
// that of a wrong command line.
func Failed(c *cobra.Command) *cobra.Command {
	act := c.RunE
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := act(cmd, args); err != nil {
			return &exitError{ExitFailed, err}
		}
		return nil
	}
	return c
}

// posting gives commands that send a POST a flag for its Idempotency-Key.
func (a *app) posting(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&a.key, "idempotency-key", "", "name of this request: sent again with it, it is not done again")
	return c
}

// conditional gives commands that change something a flag for If-Match.
func (a *app) conditional(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&a.ifMatch, "if-match", "", "only if this is still its version (or ETag)")
	return c
}
