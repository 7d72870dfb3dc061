package release

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Activate offers a release to devices, or changes to whom. A rollout that was
// paused or stopped goes on; its failures are counted anew. Who is offered it
// already stays so while the percentage grows.
func (s *Service) Activate(ctx context.Context, version string, a Activation) (Release, error) {
	if err := a.check(); err != nil {
		return Release{}, err
	}
	if err := s.ready(ctx); err != nil {
		return Release{}, err
	}
	r, err := s.Get(ctx, version)
	if err != nil {
		return Release{}, err
	}
	offered := 0
	for _, p := range r.Platforms {
		if p.KeyID != "" {
			offered++
		}
	}
	if offered == 0 {
		return Release{}, fault.New(fault.Conflict, "release %s has no binary with a signature; upload %s and its %s first", version, binaryName(version, "linux/amd64"), signatureSuffix)
	}
	now := s.cfg.Now().UTC()
	_, err = state.Update(ctx, s.cfg.Store, state.StepRelease, rolloutKey(version), func(v *Rollout, _ bool, _ *state.Batch) error {
		from := 0.0
		if v.NamePattern == a.NamePattern {
			from = min(v.Share(now), a.Percentage)
		}
		*v = Rollout{
			State: Active, From: from, Percentage: a.Percentage, Since: now, Begun: now, Spread: int(a.Spread.Seconds()),
			NamePattern: a.NamePattern, MaxFailures: a.MaxFailures,
		}
		return nil
	})
	if err != nil {
		return Release{}, fmt.Errorf("activate release %s: %w", version, err)
	}
	return s.Get(ctx, version)
}

func (a *Activation) check() error {
	if a.MaxFailures == 0 {
		a.MaxFailures = defaultStop
	}
	if a.Spread == nil {
		a.Spread = new(defaultSpread)
	}
	switch {
	case !(a.Percentage > 0 && a.Percentage <= 100):
		return fault.Field("percentage", "is %g, want more than 0 and up to 100", a.Percentage)
	case a.MaxFailures < 1 || a.MaxFailures > maxFailures:
		return fault.Field("maxFailures", "is %d, want 1 to %d", a.MaxFailures, maxFailures)
	case *a.Spread < 0 || *a.Spread > MaxSpread:
		return fault.Field("spreadSeconds", "is %g, want 0 to %g", a.Spread.Seconds(), MaxSpread.Seconds())
	case len(a.NamePattern) > maxPattern:
		return fault.Field("namePattern", "has %d bytes, at most %d are allowed", len(a.NamePattern), maxPattern)
	}
	if _, err := path.Match(a.NamePattern, "x"); err != nil {
		return fault.Field("namePattern", "%q is not a pattern of *, ? and [a-z]", a.NamePattern)
	}
	return nil
}

// Pause offers a release to nobody until it is activated again. Devices that
// have begun to try it end their trial.
func (s *Service) Pause(ctx context.Context, version string) (Release, error) {
	if err := s.ready(ctx); err != nil {
		return Release{}, err
	}
	if _, err := s.Get(ctx, version); err != nil {
		return Release{}, err
	}
	now := s.cfg.Now().UTC()
	_, err := state.Update(ctx, s.cfg.Store, state.StepRelease, rolloutKey(version), func(v *Rollout, exists bool, _ *state.Batch) error {
		if !exists || v.State == Paused {
			return state.ErrKeep
		}
		v.From, v.Since = v.Share(now), now
		v.State, v.Reason = Paused, "by an operator"
		return nil
	})
	if err != nil {
		return Release{}, fmt.Errorf("pause release %s: %w", version, err)
	}
	return s.Get(ctx, version)
}

// Share is the percentage of devices at t.
func (r Rollout) Share(t time.Time) float64 {
	if r.State != Active {
		return r.From
	}
	done := 1.0
	if r.Spread > 0 {
		done = min(1, max(0, t.Sub(r.Since).Seconds()/float64(r.Spread)))
	}
	return r.From + (r.Percentage-r.From)*done
}

// admits reports whether the device is offered version, and how long after t its
// turn is.
func (r Rollout) admits(version, device string, t time.Time) (wait time.Duration, ok bool) {
	if r.State != Active {
		return 0, false
	}
	if r.NamePattern != "" {
		if ok, err := path.Match(r.NamePattern, device); err != nil || !ok {
			return 0, false
		}
	}
	at := place(version, device)
	if at >= r.Percentage {
		return 0, false
	}
	if at < r.Share(t) {
		return 0, true
	}
	turn := r.Since.Add(time.Duration((at - r.From) / (r.Percentage - r.From) * float64(r.Spread) * float64(time.Second)))
	return max(0, turn.Sub(t)), true
}

// place is where a device stands in the queue for a version: 0 to 100.
func place(version, device string) float64 {
	h := sha256.Sum256([]byte(version + "\x00" + device))
	return float64(binary.BigEndian.Uint32(h[:])) / (1 << 32) * 100
}
