package selfupdate

import (
	"context"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// prove looks whether this program, which is on trial, has proven itself.
func (u *Updater) prove(ctx context.Context, r Record) error {
	now, t, up := u.look(), r.Trial, time.Since(u.started)
	reached := !now.reached.IsZero()
	nucleus := rank(now.nucleus) >= rank(t.Nucleus)
	if (reached || t.Alone) && nucleus && up >= u.cfg.Settle {
		version := t.Version
		r.prove()
		if err := u.store(ctx, localstate.UpdateCommit, r); err != nil {
			return fmt.Errorf("storing that release %s is proven: %w", version, err) // it runs on; tried again
		}
		u.log.InfoContext(ctx, "release is proven", "version", version)
		return u.prune()
	}
	if up < u.cfg.Trial {
		return nil
	}
	reason := fmt.Sprintf("after %s it had not reached the control plane", u.cfg.Trial)
	switch {
	case !nucleus:
		reason = fmt.Sprintf("after %s the nucleus is %s; before it was %s", u.cfg.Trial, word(now.nucleus), t.Nucleus)
	case reached || t.Alone:
		reason = "it did not prove itself in time"
	}
	// A nucleus that does not run is the new agent's doing wherever the control
	// plane is.
	r.giveUp(reason, reached || t.Alone || !nucleus)
	err := u.store(ctx, localstate.UpdateReturn, r)
	if err != nil {
		u.log.ErrorContext(ctx, "end of the trial is not stored", logx.Err, err) // the next start counts
	}
	u.handOver(ctx, reason)
	return err
}

// rank orders states of a nucleus by how much of it works.
func rank(s protocol.NucleusState) int {
	switch s {
	case protocol.NucleusRunning:
		return 2
	case protocol.NucleusInstalling, protocol.NucleusStarting, protocol.NucleusFailed:
		return 1
	case protocol.NucleusAbsent, protocol.NucleusStopped:
	}
	return 0
}

func word(s protocol.NucleusState) string {
	if s == "" {
		return "unknown"
	}
	return string(s)
}

// judge finds out, as the old agent, whether the release on trial is to blame for
// not having reached the control plane, and when it gets another round.
func (u *Updater) judge(ctx context.Context, r Record) error {
	now, t := u.look(), r.Trial
	if now.reached.IsZero() {
		return nil // it is away, as it was: the trial waits
	}
	if withdrawn := now.offer == nil && !t.Local; withdrawn || now.offer != nil && now.offer.Digest != t.Digest && !t.Local {
		r.withdraw()
		return u.forget(ctx, r)
	}
	if !t.Judged {
		r.judge(now.reached.Sub(u.started) <= u.cfg.Trial)
		if r.Trial == nil {
			return u.forget(ctx, r)
		}
		if err := u.store(ctx, localstate.UpdateJudge, r); err != nil {
			return err
		}
	}
	pause := u.cfg.Retry
	if t.Silent > 1 || t.Rounds > 2 {
		pause *= 4
	}
	if time.Since(now.reached) < pause {
		return nil
	}
	r.again(now.nucleus)
	if err := u.store(ctx, localstate.UpdateTrial, r); err != nil {
		return err
	}
	return u.begin(ctx, r)
}

// forget stores r, which has a trial no more, and clears up.
func (u *Updater) forget(ctx context.Context, r Record) error {
	if err := u.store(ctx, localstate.UpdateReturn, r); err != nil {
		return err
	}
	return u.prune()
}

// begin hands over to the release that is staged, once nothing is in the way.
// That it was not started when this process was means that the start could not
// be counted: then it is left for an hour.
func (u *Updater) begin(ctx context.Context, r Record) error {
	t := r.Trial
	if until := u.pause[t.Digest]; time.Now().Before(until) {
		return nil
	}
	if busy := u.cfg.Busy(); busy != "" {
		x := r.Last
		x.Reason = "waits: " + busy
		u.say(x)
		return nil
	}
	u.handOver(ctx, "release "+t.Version+" is to be tried")
	return nil
}
