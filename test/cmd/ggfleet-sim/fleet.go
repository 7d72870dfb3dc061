package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/run"
	"github.com/ggfleet/ggfleet/test/simulator"
)

type fleetFlags struct {
	behaviour
	dir, ca, output            string
	mqtt, plane, credentials   string
	cores, rate, deployments   int
	spread                     bool
	duration, interval, report time.Duration
}

func (ff *fleetFlags) parse(args []string, errOut io.Writer) error {
	f := flag.NewFlagSet("fleet", flag.ContinueOnError)
	f.StringVar(&ff.dir, "dir", "", "folder with one folder per core: certs/cert.pem, certs/private.key, installerConfig.yml (mandatory)")
	f.StringVar(&ff.ca, "ca", "", "root CA file to trust; default: the configured file name in each core's certs folder")
	f.IntVar(&ff.cores, "cores", 0, "how many of the cores to run; 0: all")
	f.IntVar(&ff.rate, "rate", 100, "cores to start in a second; 0: all at once")
	f.IntVar(&ff.deployments, "deployments", 0, "end once every core has reported this many deployments; 0: run on")
	f.DurationVar(&ff.duration, "duration", 0, "end after this time; 0: run until stopped")
	f.DurationVar(&ff.interval, "status-interval", 0, "how often each core sends its whole status; default: as configured, else a day")
	f.DurationVar(&ff.report, "progress", 2*time.Second, "how often to print progress on standard error; 0: never")
	f.BoolVar(&ff.spread, "spread", true, "give each core a source address of its own in 127.0.0.0/8; for servers on this machine")
	f.StringVar(&ff.mqtt, "mqtt", "", "host:port of the broker instead of the configured one")
	f.StringVar(&ff.plane, "data-plane", "", "host:port of the data plane instead of the configured one")
	f.StringVar(&ff.credentials, "credentials", "", "host:port of the credentials endpoint instead of the configured one")
	f.StringVar(&ff.output, "o", "text", "form of the result: text or json")
	ff.add(f)
	if err := parse(f, args, errOut); err != nil {
		return err
	}
	switch {
	case ff.dir == "":
		return fault.New(fault.Invalid, "fleet: --dir is missing")
	case ff.output != "text" && ff.output != "json":
		return fault.New(fault.Invalid, "fleet: -o is %q, want text or json", ff.output)
	case ff.cores < 0 || ff.rate < 0 || ff.deployments < 0:
		return fault.New(fault.Invalid, "fleet: a number below 0")
	}
	return nil
}

func runFleet(ctx context.Context, args []string, out, errOut io.Writer) error {
	var ff fleetFlags
	if err := ff.parse(args, errOut); err != nil {
		return err
	}
	configs, err := ff.configs(errOut)
	if err != nil {
		return err
	}
	fleet, err := simulator.NewFleet(simulator.FleetConfig{Cores: configs, ConnectsPerSecond: ff.rate})
	if err != nil {
		return err
	}
	began := time.Now()
	err = run.All(ctx,
		run.Loop{Name: "fleet", Run: fleet.Run},
		run.Loop{Name: "watch", Run: func(ctx context.Context) error { return ff.watch(ctx, fleet, began, errOut) }},
	)
	if err != nil {
		return err
	}
	return ff.print(out, fleet.Stats(), time.Since(began))
}

// configs reads the identities, in the order of their names.
func (ff *fleetFlags) configs(errOut io.Writer) ([]simulator.Config, error) {
	entries, err := os.ReadDir(ff.dir)
	if err != nil {
		return nil, fmt.Errorf("reading the identities: %w", err)
	}
	log := ff.logger(errOut)
	var list []simulator.Config
	for _, e := range entries {
		if !e.IsDir() || ff.cores > 0 && len(list) == ff.cores {
			continue
		}
		cfg, err := simulator.FromIdentity(filepath.Join(ff.dir, e.Name()), ff.ca)
		if err != nil {
			return nil, fmt.Errorf("identity %s: %w", e.Name(), err)
		}
		ff.apply(&cfg, log)
		for _, o := range []struct {
			flag string
			to   *string
		}{{ff.mqtt, &cfg.MQTT}, {ff.plane, &cfg.DataPlane}, {ff.credentials, &cfg.Credentials}} {
			if o.flag != "" {
				*o.to = o.flag
			}
		}
		if ff.interval > 0 {
			cfg.StatusInterval = ff.interval
		}
		if ff.spread {
			cfg.SourceIP = simulator.SpreadIP(len(list))
		}
		list = append(list, cfg)
	}
	if len(list) == 0 || len(list) < ff.cores {
		return nil, fault.New(fault.NotFound, "%s holds %d identities, %d are wanted", ff.dir, len(list), max(1, ff.cores))
	}
	return list, nil
}

// watch prints progress and ends the run once all have reported.
func (ff *fleetFlags) watch(ctx context.Context, fleet *simulator.Fleet, began time.Time, errOut io.Writer) error {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	printed := began
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		s := fleet.Stats()
		if ff.report > 0 && time.Since(printed) >= ff.report {
			printed = time.Now()
			_, _ = fmt.Fprintf(errOut, "%6.1fs  connected %d/%d  jobs %d  succeeded %d  failed %d  refused %d\n",
				time.Since(began).Seconds(), s.Connected, s.Cores, s.Jobs, s.Succeeded, s.Failed, s.Refused)
		}
		if ff.duration > 0 && time.Since(began) >= ff.duration {
			return nil
		}
		if ff.deployments > 0 && s.Reported >= int64(ff.deployments)*int64(s.Cores) {
			return nil
		}
	}
}

func (ff *fleetFlags) print(out io.Writer, s simulator.Stats, took time.Duration) error {
	if ff.output == "json" {
		return json.NewEncoder(out).Encode(struct {
			simulator.Stats
			Seconds float64 `json:"seconds"`
		}{s, took.Seconds()})
	}
	_, err := fmt.Fprintf(out, "cores %d, came up %d, disconnects %d\njobs %d: succeeded %d, failed %d, rejected %d, canceled %d, reported %d\nstatuses %d, answers refused %d\n%.1f s\n",
		s.Cores, s.Ready, s.Disconnects, s.Jobs, s.Succeeded, s.Failed, s.Rejected, s.Canceled, s.Reported, s.Statuses, s.Refused, took.Seconds())
	if err == nil && s.FirstRefusal != "" {
		_, err = fmt.Fprintln(out, "first refusal:", s.FirstRefusal)
	}
	if err == nil && s.FirstFailure != "" {
		_, err = fmt.Fprintln(out, "first failure:", s.FirstFailure)
	}
	return err
}
