package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/internal/demo"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// DemoCommand returns `ggfleet demo`: a control plane and a small fleet on this
// machine, from nothing to a running deployment.
func DemoCommand(out io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run a control plane with a small demo fleet and do the whole job",
		Args:  cobra.NoArgs,
	}
	Flags(c.Flags())
	cores := c.Flags().Int("cores", 3, "size of the demo fleet")
	exit := c.Flags().Bool("exit", false, "end with status 0 once the fleet is HEALTHY and deployed")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := Load(cmd.Flags())
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return runDemo(ctx, cfg, *cores, *exit, out)
	}
	return c
}

func runDemo(ctx context.Context, cfg Config, cores int, exit bool, out io.Writer) error {
	began := time.Now()
	programs, err := os.Executable()
	if err != nil {
		return err
	}
	dir := filepath.Join(cfg.DataDir, "demo")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory of the demo: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "serve.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("log of the control plane: %w", err)
	}
	defer func() { _ = log.Close() }() // what was written is there
	level, err := cfg.level()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "==> Start the control plane (data and secrets in %s)\n", cfg.DataDir)
	a, err := New(ctx, cfg, logx.New(log, level, cfg.LogFormat))
	if err != nil {
		return err
	}
	d, err := a.demo(dir, filepath.Dir(programs), cores, out)
	if err != nil {
		a.Close()
		return err
	}

	// The agents stop before the control plane does.
	serve, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	err = run.All(serve,
		run.Loop{Name: "control plane", Run: a.Run},
		run.Loop{Name: "demo", Run: func(serve context.Context) error {
			defer stopServing()
			fleet, stopFleet := context.WithCancel(ctx)
			defer d.Wait()
			defer stopFleet()
			context.AfterFunc(serve, stopFleet)
			return a.runDemo(fleet, d, exit, began, out)
		}},
	)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (a *App) demo(dir, programs string, cores int, out io.Writer) (*demo.Demo, error) {
	token, err := os.ReadFile(a.file("admin.token"))
	if err != nil {
		return nil, fmt.Errorf("read admin token: %w", err)
	}
	return demo.New(demo.Config{
		Server: a.apiURL(), Token: string(token), Client: &http.Client{Timeout: time.Minute, Transport: a.ownTransport()}, Dir: dir, Cores: cores,
		Agent: filepath.Join(programs, "ggfleet-agent"), Sim: filepath.Join(programs, "ggfleet-sim"), Out: out,
	})
}

// runDemo does the job, shows the fleet, and stays until ctx is done.
func (a *App) runDemo(ctx context.Context, d *demo.Demo, exit bool, began time.Time, out io.Writer) error {
	for a.ready(ctx) != nil {
		if err := run.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "    ready (%s)\n", time.Since(began).Round(10*time.Millisecond))
	if err := d.Run(ctx); err != nil {
		return err
	}
	if err := a.showFleet(ctx, out); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nFrom nothing to a running deployment in %s.\n", time.Since(began).Round(100*time.Millisecond))
	if exit {
		return nil
	}
	fmt.Fprintln(out, "The fleet runs until Ctrl-C. Started again, it goes on from what is there.")
	<-ctx.Done()
	fmt.Fprintln(out, "\n==> Stop the fleet")
	return nil
}

func (a *App) showFleet(ctx context.Context, out io.Writer) error {
	sum, err := a.fleet.Summary(ctx)
	if err != nil {
		return err
	}
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"template", "version", "desired", "reported", "success", "failed", "in progress"})
	for name, ts := range sum.Templates {
		for v, c := range ts.Versions {
			t.AppendRow(table.Row{name, v, c.DesiredInUse, c.ReportedInUse, c.LastDeploymentSuccess, c.LastDeploymentFailed, c.LastDeploymentInProgress})
		}
	}
	t.SortBy([]table.SortBy{{Number: 1}, {Number: 2, Mode: table.AscNumeric}})
	fmt.Fprintln(out)
	t.Render()
	fmt.Fprintf(out, `
fleet API      %s   (token: %s)
AWS endpoint   %s
MQTT           %s
device HTTPS   https://%s
downloads      http://%s
`, a.apiURL(), a.file("admin.token"), a.awsURL(), a.hostPort(a.listeners.mqtt), a.hostPort(a.listeners.device), a.hostPort(a.listeners.artifact))
	return nil
}
