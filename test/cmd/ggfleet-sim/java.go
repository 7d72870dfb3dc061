package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/installer/nucleus/standin"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/test/simulator"
)

// exitError ends the process with a code that means something to its starter.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// runJava is the Java runtime and the classic nucleus in it: -version, the
// installer, or the nucleus itself.
func runJava(ctx context.Context, args []string, out, errOut io.Writer) error {
	if slices.Contains(args, "-version") {
		_, err := fmt.Fprintln(errOut, "openjdk version \"17.0.10\" 2024-01-16\nggfleet-sim in the place of a Java runtime")
		return err
	}
	a, err := standin.ParseArguments(args)
	if err != nil {
		return fault.New(fault.Invalid, "%v", err)
	}
	b, err := os.ReadFile(a.Jar)
	if err != nil {
		return fmt.Errorf("unable to access jarfile: %w", err)
	}
	var j jar
	if err := json.Unmarshal(b, &j); err != nil {
		return fault.New(fault.Invalid, "%s was not packed by ggfleet-sim: %v", a.Jar, err)
	}
	if a.Version {
		_, err := fmt.Fprintf(out, "AWS Greengrass v%s\n", j.Version)
		return err
	}
	if j.Broken == brokenSetup {
		return errors.New("error while trying to setup Greengrass Nucleus")
	}
	if a.InitConfig != "" {
		text, err := standin.Setup(nucleus.NewHost(), args)
		if err != nil {
			return err
		}
		fmt.Fprint(out, text)
	}
	if a.SystemService {
		return setupService(ctx, a)
	}
	if !a.Start {
		return nil
	}
	return runClassic(ctx, a.Root, j)
}

// setupService does what the nucleus's installer does with
// --setup-system-service true.
func setupService(ctx context.Context, a standin.Arguments) error {
	const unit = "/etc/systemd/system/" + nucleus.ClassicUnit
	template, err := os.ReadFile(filepath.Join(a.Root, "alts/current/distro/bin/greengrass.service.template"))
	if err != nil {
		return err
	}
	text := strings.NewReplacer(
		"REPLACE_WITH_GG_LOADER_PID_FILE", filepath.Join(a.Root, "alts/loader.pid"),
		"REPLACE_WITH_GG_LOADER_FILE", filepath.Join(a.Root, "alts/current/distro/bin/loader"),
	).Replace(string(template))
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil { //nolint:gosec // a unit is public
		return err
	}
	verbs := []string{"daemon-reload", "unmask", "stop", "start", "enable"}
	for _, verb := range verbs {
		if verb == "start" && !a.Start {
			continue
		}
		argv := []string{verb}
		if verb != "daemon-reload" {
			argv = append(argv, nucleus.ClassicUnit)
		}
		if err := exec.CommandContext(ctx, "systemctl", argv...).Run(); err != nil && verb != "stop" {
			return fmt.Errorf("systemctl %s: %w", verb, err)
		}
	}
	return nil
}

// runClassic is the classic nucleus of a root, until it is told to stop. SIGUSR1
// has it end as one that wants to be restarted, SIGUSR2 as one that wants a
// reboot.
func runClassic(ctx context.Context, root string, j jar) error {
	if j.Broken == brokenExit {
		return errors.New("the nucleus is broken")
	}
	f, err := os.OpenFile(filepath.Join(root, "logs/greengrass.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644) //nolint:gosec // as the nucleus does
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // a log
	log := logx.New(f, slog.LevelInfo, "text")
	if j.Broken == brokenHang {
		<-ctx.Done()
		return exitError(143)
	}
	cfg, err := simulator.FromFile(filepath.Join(root, "config/config.tlog"), root)
	if err != nil {
		return err
	}
	cfg.Runtime, cfg.Version = simulator.Classic, j.Version
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(told)
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		switch <-told {
		case syscall.SIGUSR1:
			cancel(exitError(nucleus.ExitRestart))
		case syscall.SIGUSR2:
			cancel(exitError(nucleus.ExitReboot))
		}
	}()
	if err := runInstalled(ctx, cfg, log); err != nil {
		return err
	}
	if code, ok := errors.AsType[exitError](context.Cause(ctx)); ok {
		return code
	}
	return exitError(143) // as a JVM that got SIGTERM
}

// runInstalled is a core until ctx ends.
func runInstalled(ctx context.Context, cfg simulator.Config, log *slog.Logger) error {
	cfg.Log = log
	cfg.ReconnectMin, cfg.ReconnectMax = time.Second, 30*time.Second
	cfg.OnEvent = func(e simulator.Event) {
		log.InfoContext(ctx, "nucleus event", logx.Thing, e.Thing, "kind", string(e.Kind), logx.Job, e.Job, logx.Deployment, e.Deployment, "detail", e.Detail, logx.Err, e.Err)
	}
	c, err := simulator.New(cfg)
	if err != nil {
		return err
	}
	return c.Run(ctx)
}
