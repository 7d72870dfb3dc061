package renew

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/deviceapi"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	proofTime   = 2 * time.Minute // in which the session must be up with a new certificate
	unheard     = time.Hour       // after which the control plane's time is asked for
	maxWait     = time.Hour       // between attempts that fail
	deviceAgain = 24 * time.Hour  // before a nucleus that did not start with its new certificate is restarted for it again
	firstLook   = time.Minute     // after the start: others have spoken to the control plane by then
	lookEvery   = time.Hour
	partsOfAll  = 3 // a certificate is renewed when one of so many parts of its life is left
)

// Config is what a Loop needs. All but Device, and the times, are required.
type Config struct {
	Dir     *localstate.Dir
	Live    *identity.Live
	Cloud   Cloud
	Dial    Dialer
	Session Session
	Device  Device // nil: there is none

	Every   time.Duration // between looks at the certificates; default 1 h
	MinWait time.Duration // before the first look, and after a failure; default 1 min
	Log     *slog.Logger
}

// Loop looks after certificates.
type Loop struct {
	cfg         Config
	log         *slog.Logger
	deviceAfter time.Time // the device's certificate is not tried again before
	settled     string    // the device's certificate that the control plane was told of
}

// New checks cfg.
func New(cfg Config) (*Loop, error) {
	if cfg.Dir == nil || cfg.Live == nil || cfg.Cloud == nil || cfg.Dial == nil || cfg.Session == nil {
		return nil, fault.New(fault.Invalid, "the renewal of certificates needs a folder, an identity, a control plane and a session")
	}
	if cfg.Every <= 0 {
		cfg.Every = lookEvery
	}
	if cfg.MinWait <= 0 {
		cfg.MinWait = firstLook
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	return &Loop{cfg: cfg, log: cfg.Log}, nil
}

// Run looks at the certificates until ctx is done. What fails is logged and tried
// again.
func (l *Loop) Run(ctx context.Context) error {
	backoff := run.Backoff{Min: l.cfg.MinWait, Max: max(maxWait, l.cfg.MinWait)}
	wait := l.cfg.MinWait/2 + rand.N(l.cfg.MinWait) //nolint:gosec // no secret: it spreads a fleet
	for run.Sleep(ctx, wait) == nil {
		run.Progress(ctx)
		err := l.look(ctx)
		if err != nil && ctx.Err() == nil {
			wait = backoff.Next()
			l.log.WarnContext(ctx, "certificates are not renewed yet, will try again", "after", wait, logx.Err, err)
			continue
		}
		backoff.Reset()
		wait = run.Spread(min(l.cfg.Every, pki.Life(l.cfg.Live.Certificate())/12))
	}
	return nil
}

// look brings both certificates as far as they come. One does not wait for the
// other.
func (l *Loop) look(ctx context.Context) error {
	if ago, ok := l.cfg.Live.Clock().Heard(); !ok || ago > unheard {
		// Who is refused, or was away, hears the time nowhere else.
		if err := l.askTime(ctx); err != nil {
			return err
		}
	}
	own := l.own(ctx)
	device := l.device(ctx)
	if own != nil {
		own = fmt.Errorf("the agent's certificate: %w", own)
	}
	if device != nil {
		device = fmt.Errorf("the device's certificate: %w", device)
	}
	return errors.Join(own, device)
}

// askTime hears the control plane's time: each answer tells it.
func (l *Loop) askTime(ctx context.Context) error {
	c, err := l.cfg.Dial.AsStranger()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Nonce(ctx)
	if ago, ok := l.cfg.Live.Clock().Heard(); ok && ago <= unheard {
		return nil // whatever it answered
	}
	return err
}

// due reports whether c is to be renewed at now: in the last third of its life, and
// not in the same moment as all that were issued with it.
func due(c *x509.Certificate, now time.Time) bool {
	left := pki.Life(c) / partsOfAll
	spread := left / 4 / 256 * time.Duration(c.SerialNumber.Bytes()[0])
	return now.After(c.NotAfter.Add(spread - left))
}

// refused reports whether the control plane does not take a certificate.
func refused(err error) bool { return deviceapi.Refused(err) }
