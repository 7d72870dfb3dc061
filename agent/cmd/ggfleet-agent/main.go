// Command ggfleet-agent is the service on each core device: it enrols the
// device, installs and supervises the nucleus, and reports.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
	"github.com/ggfleet/ggfleet/shared/logx"
)

const usage = `ggfleet-agent looks after one core device.

  ggfleet-agent enroll STRING [--root DIR]   enrol with the string of an activation ("-": read it from standard input)
  ggfleet-agent run [--root DIR]             work until stopped
  ggfleet-agent install [--root DIR]         make it a system service; also uninstall, start, stop
  ggfleet-agent patches on|off [--root DIR]  let the control plane run Ansible playbooks here, or not (as it is unless told)
  ggfleet-agent status [--root DIR]          say what is enrolled, installed and running
  ggfleet-agent version

Flags:
`

// errUsage is an error of the command line: exit status 2.
var errUsage = errors.New("see 'ggfleet-agent help'")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "ggfleet-agent:", err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

type options struct {
	root, logLevel, logFormat string
	allowPatches              bool
}

// parse reads flags before and after the arguments.
func parse(args []string, stderr io.Writer) (options, []string, error) {
	var o options
	fs := flag.NewFlagSet("ggfleet-agent", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.root, "root", app.DefaultRoot, "`folder` of this agent and its core; one agent each")
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&o.logFormat, "log-format", "text", "text or json")
	fs.BoolVar(&o.allowPatches, "allow-patches", false, "with enroll or install: let the control plane run Ansible playbooks on this device")
	fs.Usage = func() {
		fmt.Fprint(stderr, usage)
		fs.PrintDefaults()
	}
	var rest []string
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			return o, nil, err
		}
		if args = fs.Args(); len(args) > 0 {
			rest, args = append(rest, args[0]), args[1:]
		}
	}
	if len(rest) == 0 || rest[0] == "help" {
		fs.Usage()
		return o, []string{"help"}, nil
	}
	return o, rest, nil
}

func command(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	o, rest, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	want := 1
	if rest[0] == "enroll" || rest[0] == "patches" {
		want = 2
	}
	if len(rest) != want {
		return fmt.Errorf("%s takes %d arguments, not %d: %w", rest[0], want-1, len(rest)-1, errUsage)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: %w", o.logLevel, errUsage)
	}
	if o.allowPatches {
		if rest[0] != "enroll" && rest[0] != "install" {
			return fmt.Errorf("--allow-patches goes with enroll and install, not with %s: %w", rest[0], errUsage)
		}
		if err := app.AllowPatches(o.root, true); err != nil {
			return err
		}
	}
	cfg := app.Config{Root: o.root, Log: logx.New(stderr, level, o.logFormat)}
	switch rest[0] {
	case "help":
		if len(args) == 0 {
			return errUsage
		}
		return nil
	case "enroll":
		return enroll(ctx, cfg, rest[1], stdin, stdout)
	case "run":
		return app.Run(ctx, cfg)
	case "install", "uninstall", "start", "stop":
		if err := app.Service(o.root, rest[0]); err != nil {
			return err
		}
		_, err := fmt.Fprintf(stdout, "%s: done\n", rest[0])
		return err
	case "patches":
		if rest[1] != "on" && rest[1] != "off" {
			return fmt.Errorf("patches takes on or off, not %q: %w", rest[1], errUsage)
		}
		if err := app.AllowPatches(o.root, rest[1] == "on"); err != nil {
			return err
		}
		_, err := fmt.Fprintf(stdout, "patches: %s\n", rest[1])
		return err
	case "status":
		return app.Status(stdout, o.root)
	case "version":
		_, err := fmt.Fprintln(stdout, strings.TrimSpace("ggfleet-agent "+buildinfo.Version+" "+buildinfo.Commit()))
		return err
	}
	return fmt.Errorf("%q is not a command: %w", rest[0], errUsage)
}

func enroll(ctx context.Context, cfg app.Config, text string, stdin io.Reader, stdout io.Writer) error {
	if text == "-" { // keeps the secret out of the process list
		b, err := io.ReadAll(io.LimitReader(stdin, 8<<10))
		if err != nil {
			return err
		}
		text = string(b)
	}
	e, err := app.Enroll(ctx, cfg, text)
	if err != nil {
		return err
	}
	if !e.Fresh {
		_, err = fmt.Fprintf(stdout, "already enrolled as %s for core %s at %s\n", e.AgentThing, e.Core, e.URL)
		return err
	}
	_, err = fmt.Fprintf(stdout, "enrolled as %s for core %s at %s\n", e.AgentThing, e.Core, e.URL)
	return err
}
