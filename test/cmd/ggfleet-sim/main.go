// Command ggfleet-sim runs simulated Greengrass core devices: many in one process
// (fleet), or one in the place of an installed nucleus (nucleus), for which it
// packs itself as a distribution (pack). Called java, it is the Java runtime of a
// classic nucleus that was packed so; as lite, nucleus lite's daemons.
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
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ggfleet/ggfleet/shared/buildinfo"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/test/simulator"
)

const usage = `ggfleet-sim simulates Greengrass core devices.

  ggfleet-sim fleet --dir DIR [flags]       run every core whose identity lies in DIR
  ggfleet-sim nucleus --root ROOT [flags]   be the nucleus that is installed in ROOT
  ggfleet-sim pack --out FILE --version V   write this program as a nucleus distribution
  ggfleet-sim plan VERB [flags]             carry out an installation's plan on this host (for tests): show, prepare, switch, back, ...
  ggfleet-sim lite DAEMON                   be a daemon of an installed nucleus lite
  ggfleet-sim version

Each command explains its flags with -h.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	run := command
	if filepath.Base(os.Args[0]) == "java" {
		run = runJava
	}
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if exit, ok := errors.AsType[exitError](err); ok {
		os.Exit(int(exit))
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, fault.Invalid):
		fmt.Fprintln(os.Stderr, "ggfleet-sim:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "ggfleet-sim:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, out, errOut io.Writer) error {
	name := ""
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	switch name {
	case "fleet":
		return runFleet(ctx, args, out, errOut)
	case "nucleus":
		return runNucleus(ctx, args, errOut)
	case "lite":
		return runLite(ctx, args, errOut)
	case "plan":
		return runPlan(ctx, args, out, errOut)
	case "pack":
		return runPack(args, out, errOut)
	case "version":
		_, err := fmt.Fprintln(out, buildinfo.Version)
		return err
	case "", "help", "-h", "--help":
		_, err := fmt.Fprint(out, usage)
		return err
	}
	return fault.New(fault.Invalid, "unknown command %q; see ggfleet-sim help", name)
}

// behaviour are the flags that both ways of running share.
type behaviour struct {
	runtime string
	mqtt3   bool
	pause   float64
	fail    failures
	level   slog.Level
}

func (b *behaviour) add(f *flag.FlagSet) {
	b.fail = failures{}
	b.level = slog.LevelInfo
	f.StringVar(&b.runtime, "runtime", "lite", "whose habits: lite or classic")
	f.BoolVar(&b.mqtt3, "mqtt3", false, "speak MQTT 3.1.1 instead of 5")
	f.Float64Var(&b.pause, "pause-scale", 0, "scale of the runtime's built-in pauses; 1 is about 15 s a deployment, 0 none")
	f.Var(b.fail, "fail", "COMPONENT=dies or COMPONENT=install: let this component break; may be repeated")
	f.TextVar(&b.level, "log-level", slog.LevelInfo, "debug, info, warn or error; records go to standard error")
}

func (b *behaviour) apply(cfg *simulator.Config, log *slog.Logger) {
	cfg.Runtime, cfg.PauseScale, cfg.Fail, cfg.Log = simulator.Runtime(b.runtime), b.pause, b.fail, log
	if b.mqtt3 {
		cfg.MQTTVersion = 4
	}
}

func (b *behaviour) logger(w io.Writer) *slog.Logger { return logx.New(w, b.level, "json") }

type failures map[string]simulator.Failure

func (f failures) String() string { return fmt.Sprint(map[string]simulator.Failure(f)) }

// Set reads one COMPONENT=mode.
func (f failures) Set(s string) error {
	name, mode, ok := strings.Cut(s, "=")
	switch m := simulator.Failure(mode); {
	case !ok || name == "":
		return fault.New(fault.Invalid, "%q is not COMPONENT=mode", s)
	case m != simulator.FailDies && m != simulator.FailInstall:
		return fault.New(fault.Invalid, "mode %q, want %s or %s", mode, simulator.FailDies, simulator.FailInstall)
	default:
		f[name] = m
	}
	return nil
}

func parse(f *flag.FlagSet, args []string, errOut io.Writer) error {
	f.SetOutput(errOut)
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fault.New(fault.Invalid, "%v", err)
	}
	if f.NArg() > 0 {
		return fault.New(fault.Invalid, "%s: unexpected argument %q", f.Name(), f.Arg(0))
	}
	return nil
}
