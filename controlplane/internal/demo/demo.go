package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/shared/run"
)

// What the demo makes.
const (
	coreVersion   = "2.6.0"
	template      = "demo"
	componentName = "com.example.Hello"
	componentVer  = "1.0.0"
	nucleusName   = "ggfleet.SimulatedNucleus"
)

// Config is what Run needs.
type Config struct {
	Server  string // of the fleet API, with scheme
	Token   string // of an operator or admin
	Client  *http.Client
	Dir     string // absolute: agents' roots and logs
	Cores   int    // how many, 1 to 50
	Agent   string // path of ggfleet-agent
	Sim     string // path of ggfleet-sim
	Out     io.Writer
	Timeout time.Duration // of each wait; 0: 2 minutes
}

// Demo is a demo fleet. Make it with New.
type Demo struct {
	cfg    Config
	api    *api.ClientWithResponses
	names  []string
	agents *agents
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Demo, error) {
	if cfg.Cores < 1 || cfg.Cores > 50 {
		return nil, fmt.Errorf("demo: %d cores; want 1 to 50", cfg.Cores)
	}
	for _, program := range []string{cfg.Agent, cfg.Sim} {
		if _, err := os.Stat(program); err != nil {
			return nil, fmt.Errorf("demo: %s is missing; make build makes it beside ggfleet", program)
		}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Minute
	}
	c, err := api.NewClientWithResponses(cfg.Server, api.WithHTTPClient(cfg.Client), api.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+cfg.Token)
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	d := &Demo{cfg: cfg, api: c, agents: &agents{program: cfg.Agent, dir: filepath.Join(cfg.Dir, "cores")}}
	for i := range cfg.Cores {
		d.names = append(d.names, fmt.Sprintf("demo-core-%02d", i+1))
	}
	return d, nil
}

// Run does the job step by step and returns once the fleet is deployed. Agents
// go on until ctx is done; Wait waits for them.
func (d *Demo) Run(ctx context.Context) error {
	for _, s := range []struct {
		title string
		do    func(context.Context) (string, error)
	}{
		{"Offer a nucleus to the agents", d.offerNucleus},
		{"Create a component from a recipe", d.createComponent},
		{fmt.Sprintf("Create %d cores from provisioning templates", len(d.names)), d.createCores},
		{"Enrol an agent for each core and start it", d.startAgents},
		{"Wait until the cores are HEALTHY", d.awaitHealthy},
		{"Create a template of components", d.createTemplate},
		{"Deploy the template", d.deploy},
		{"Wait until every core has reported", d.awaitDeployed},
	} {
		began := time.Now()
		fmt.Fprintf(d.cfg.Out, "==> %s\n", s.title)
		what, err := s.do(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%s: %w", s.title, err)
		}
		fmt.Fprintf(d.cfg.Out, "    %s (%s)\n", what, time.Since(began).Round(10*time.Millisecond))
	}
	return nil
}

// Wait waits until every agent has ended.
func (d *Demo) Wait() { d.agents.wait() }

// until asks again and again until done, and shows each change of the answer.
func (d *Demo) until(ctx context.Context, ask func(context.Context) (progress string, done bool, err error)) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.cfg.Timeout, fmt.Errorf("not done after %s; the logs are in %s", d.cfg.Timeout, d.cfg.Dir))
	defer cancel()
	last := ""
	for {
		progress, done, err := ask(ctx)
		if err != nil && ctx.Err() == nil {
			return "", err
		}
		if done {
			return progress, nil
		}
		if progress != last && err == nil {
			fmt.Fprintf(d.cfg.Out, "    %s\n", progress)
			last = progress
		}
		if run.Sleep(ctx, 100*time.Millisecond) != nil {
			return "", context.Cause(ctx)
		}
	}
}

// answered turns an answer that is not the wanted one into an error with the
// server's own words.
func answered(err error, r interface{ StatusCode() int }, refused *api.Refused, want ...int) error {
	if err != nil {
		return err
	}
	for _, w := range want {
		if r.StatusCode() == w {
			return nil
		}
	}
	if refused != nil && refused.Message != "" {
		return errors.New(refused.Message)
	}
	return fmt.Errorf("the server answered %d", r.StatusCode())
}
