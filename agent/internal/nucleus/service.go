package nucleus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/systemd"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// callFor bounds one call of systemctl. Stopping may take as long as the unit's
// own patience.
const callFor = 2 * time.Minute

// services runs a nucleus as units of systemd.
type services struct {
	cfg  *Config
	spec Spec
}

func (s services) upFor() time.Duration { return s.cfg.ServiceUp }

func (s services) look() (unproven, proven time.Duration) {
	return max(s.cfg.Look, min(time.Second, s.cfg.ServiceUp/4)), min(quietService, 120*s.cfg.Look)
}

func (s services) remains() bool { return true }

func (s services) find(ctx context.Context) (running, bool, error) {
	u, err := s.show(ctx, s.spec.Launch.Unit)
	if err != nil || !u[0].up() {
		return nil, false, err
	}
	r, err := s.follow(ctx)
	if err != nil {
		return nil, false, err
	}
	var rec record
	if err := s.cfg.Dir.ReadJSON(recordName, &rec); err != nil && !errors.Is(err, fs.ErrNotExist) {
		rec = record{} // damaged: started again at worst
	}
	return r, rec.Digest == s.spec.Version.Digest && rec.Unit == s.spec.Launch.Unit || rec == record{}, nil
}

func (s services) start(ctx context.Context) (running, error) {
	units := s.units()
	err := s.cfg.Dir.Do(localstate.NucleusStart, func() error {
		// Whatever systemd has given up may be started again.
		if err := s.systemctl(ctx, append([]string{"reset-failed"}, units...)...); err != nil {
			s.cfg.Log.DebugContext(ctx, "nothing to reset", "units", units)
		}
		return s.systemctl(ctx, append([]string{"start"}, units...)...)
	})
	if err != nil {
		return nil, err
	}
	r, err := s.follow(ctx)
	if err != nil {
		return nil, err
	}
	return r, s.cfg.Dir.Do(localstate.NucleusRecord, func() error {
		return s.cfg.Dir.WriteJSON(recordName, record{Digest: s.spec.Version.Digest, Unit: s.spec.Launch.Unit, Boot: bootID()})
	})
}

// follow notes how often the units were brought back so far.
func (s services) follow(ctx context.Context) (*service, error) {
	r := &service{services: s, since: time.Now()}
	us, err := r.show(ctx, r.units()...)
	r.before = restarts(us)
	return r, err
}

// units are the unit that is started and those that must be active, each once.
func (s services) units() []string {
	names := []string{s.spec.Launch.Unit}
	for _, w := range s.spec.Launch.Watch {
		if !slices.Contains(names, w) {
			names = append(names, w)
		}
	}
	return names
}

func (s services) show(ctx context.Context, units ...string) ([]unit, error) {
	argv := append([]string{"show", "--property=Id,LoadState,ActiveState,SubState,Result,NRestarts,MainPID"}, units...)
	out, err := s.run(ctx, argv...)
	if err != nil {
		return nil, err
	}
	us := parseShow(string(out.Stdout))
	if out.Code != 0 || len(us) != len(units) {
		return nil, fmt.Errorf("systemctl shows %d of %d units: %s", len(us), len(units), said(out))
	}
	return us, nil
}

func (s services) systemctl(ctx context.Context, argv ...string) error {
	out, err := s.run(ctx, argv...)
	if err == nil && out.Code != 0 {
		err = fmt.Errorf("systemctl %s: %s", strings.Join(argv, " "), said(out))
	}
	return err
}

func (s services) run(ctx context.Context, argv ...string) (nucleus.Result, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callFor)
	defer cancel()
	return s.cfg.System.Run(ctx, nucleus.Command{Argv: append([]string{"systemctl"}, argv...)})
}

func said(r nucleus.Result) string {
	text := strings.TrimSpace(cmp.Or(string(r.Stderr), string(r.Stdout)))
	return fmt.Sprintf("exit status %d, %s", r.Code, fault.Clip(text, 500))
}

// service is a nucleus that systemd runs.
type service struct {
	services
	since  time.Time
	before int // restarts by systemd before since
	seen   int // since then
}

func (r *service) gone() <-chan struct{} { return nil }

func (r *service) look(ctx context.Context) sight {
	us, err := r.show(ctx, r.units()...)
	if err != nil {
		// That systemd cannot be asked says nothing about the nucleus.
		return sight{up: true, silent: true, ends: r.seen, err: err}
	}
	st := sight{up: true, silent: true, pid: us[0].Int("MainPID"), ends: r.seen}
	if n := restarts(us) - r.before; n > r.seen {
		r.seen, st.ends, r.since = n, n, time.Now()
	} else if n < 0 { // started anew by somebody else: systemd counts from 0
		r.before, r.since = restarts(us)-r.seen, time.Now()
	}
	for i, u := range us {
		switch {
		case u.up():
		case i == 0 || u.failed():
			st.up, st.err = false, fmt.Errorf("unit %s is %s", u.id(), u.state())
			return st
		default: // not yet
			r.since = time.Now()
			st.err = fmt.Errorf("unit %s is %s", u.id(), u.state())
		}
	}
	st.age = time.Since(r.since)
	return st
}

func (r *service) stop(ctx context.Context) error {
	return r.systemctl(ctx, append([]string{"stop"}, r.units()...)...)
}

// stopUnits stops what must not run beside the nucleus.
func (s services) stopUnits(ctx context.Context, units []string) error {
	for _, u := range units {
		us, err := s.show(ctx, u)
		if err != nil {
			return err
		}
		if us[0].up() {
			if err := s.systemctl(ctx, "stop", u); err != nil {
				return err
			}
		}
	}
	return nil
}

// unit is what systemd says about one.
type unit struct{ systemd.Unit }

func (u unit) id() string { return u.Unit["Id"] }

func (u unit) up() bool {
	active := u.Unit["ActiveState"]
	return active == "active" || active == "activating" && u.Unit["SubState"] != "auto-restart" || active == "reloading"
}

func (u unit) failed() bool {
	return u.Unit["ActiveState"] == "failed" || u.Unit["SubState"] == "auto-restart" || u.Unit["LoadState"] == "not-found"
}

func (u unit) state() string {
	if u.Unit["LoadState"] == "not-found" {
		return "not there"
	}
	if result := u.Unit["Result"]; result != "" && result != "success" {
		return u.Unit["ActiveState"] + " (" + result + ")"
	}
	return u.Unit["ActiveState"]
}

func restarts(us []unit) (n int) {
	for _, u := range us {
		n += u.Int("NRestarts")
	}
	return n
}

// parseShow returns the units that out names.
func parseShow(out string) (us []unit) {
	for _, u := range systemd.ParseShow(out) {
		if u["Id"] != "" {
			us = append(us, unit{u})
		}
	}
	return us
}
