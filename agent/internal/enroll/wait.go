package enroll

import (
	"context"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/deviceapi"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// How long is waited between two calls. Whoever stands beside the device sees an
// approval soon; one that is forgotten in a rack asks a few times an hour.
const (
	attempts    = 5 // that an impatient agent makes to reach the control plane
	maxApproval = 15 * time.Minute
	maxRefused  = 6 * time.Hour
)

// waiting is how an enrolment waits.
type waiting struct {
	cfg Config
	url string

	failed   int
	pending  protocol.EnrollPending
	approval run.Backoff // while somebody has to approve
	away     run.Backoff // while the control plane is not reached
	refused  run.Backoff // after it said no
}

// next waits as the answer asks for, or returns the error that ends the enrolment.
func (w *waiting) next(ctx context.Context, p *protocol.EnrollPending, err error) error {
	log := w.cfg.Log
	switch {
	case p != nil:
		asked := time.Duration(min(max(p.RetryAfterSeconds, 5), int(maxApproval/time.Second))) * time.Second
		if w.pending.RequestID != p.RequestID {
			w.pending, w.approval = *p, run.Backoff{Min: 2 * asked, Max: maxApproval}
			log.InfoContext(ctx, "waiting for approval", logx.Address, w.url, "request", p.RequestID, "key_fingerprint", p.KeyFingerprint)
			if w.cfg.OnPending != nil {
				w.cfg.OnPending(*p)
			}
		}
		w.failed = 0
		w.away.Reset()
		return run.Sleep(ctx, max(asked, w.approval.Next()))
	case (fault.Permanent(err) || deviceapi.Refused(err)) && !w.cfg.Patient:
		return err
	case fault.Permanent(err) || deviceapi.Refused(err):
		if w.refused.Min == 0 {
			w.refused = run.Backoff{Min: 2 * time.Minute, Max: maxRefused}
		}
		wait := w.refused.Next()
		log.ErrorContext(ctx, "the control plane does not let this device in, will ask again", logx.Address, w.url, "after", wait, logx.Err, err)
		return run.Sleep(ctx, wait)
	}
	if w.failed++; w.failed >= attempts && !w.cfg.Patient && w.pending.RequestID == "" {
		return err
	}
	if w.away.Min == 0 {
		w.away = run.Backoff{Min: time.Second, Max: 8 * time.Second}
		if w.cfg.Patient {
			w.away.Max = maxApproval
		}
	}
	log.WarnContext(ctx, "enrolment did not get through", logx.Address, w.url, logx.Err, err)
	if ctx.Err() != nil {
		return err
	}
	if run.Sleep(ctx, w.away.Next()) != nil {
		return err
	}
	return nil
}
