package renew

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// own brings the agent's own certificate on, from the state that is stored.
func (l *Loop) own(ctx context.Context) error {
	live, begun := l.cfg.Live, false
	for ctx.Err() == nil {
		id := live.Identity()
		var err error
		switch {
		case id.Next != nil && id.Next.CertificatePEM == "":
			err = l.request(ctx, *id.Next)
		case id.Next != nil:
			err = l.prove(ctx, id)
		case id.Old != nil:
			err = l.confirm(ctx, id)
		case !begun && due(live.Certificate(), live.Clock().Now()): // once in a look, however short its life is
			begun = true
			l.log.InfoContext(ctx, "agent certificate is to be renewed", "ends", live.Certificate().NotAfter)
			err = l.begin(func(*identity.Identity) {})
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// begin stores that there is to be a next certificate, and what change changes.
func (l *Loop) begin(change func(*identity.Identity)) error {
	return l.cfg.Live.Store(localstate.RenewIntent, func(i *identity.Identity) {
		change(i)
		i.Next = &identity.Credential{KeyName: keystore.NewName()}
	})
}

// ended reports whether c is of no use in TLS any more, by the control plane's
// clock.
func (l *Loop) ended(c identity.Credential) bool {
	cert, err := identity.ParseCertificate(c.CertificatePEM)
	return err != nil || l.cfg.Live.Clock().Now().After(cert.NotAfter)
}

// request has the next key signed.
func (l *Loop) request(ctx context.Context, next identity.Credential) error {
	live := l.cfg.Live
	key, err := live.EnsureKey(next, localstate.RenewKey)
	if err != nil {
		return fmt.Errorf("making the next key: %w", err)
	}
	csr, err := identity.CSR(key, "agent")
	if err != nil {
		return err
	}
	err = l.cfg.Dir.Do(localstate.RenewCall, func() (err error) {
		next.CertificatePEM, err = l.issue(ctx, csr)
		return err
	})
	if err != nil {
		return err
	}
	if err := live.Check(next); err != nil {
		return fmt.Errorf("the control plane's answer cannot be used: %w", err)
	}
	return live.Store(localstate.RenewStore, func(i *identity.Identity) { i.Next = &next })
}

// issue asks for the certificate: with the current one as long as the control plane
// takes it, or with a signature when that has ended.
func (l *Loop) issue(ctx context.Context, csr string) (string, error) {
	id := l.cfg.Live.Identity()
	if !l.ended(id.Credential) {
		cert, err := l.cfg.Cloud.Renew(ctx, csr)
		if err == nil || !refused(err) {
			return cert, err
		}
		if err := l.askTime(ctx); err != nil {
			return "", err
		}
		if !l.ended(id.Credential) {
			return "", fault.New(fault.Denied, "the control plane does not take the certificate of this agent, which has not ended: it was revoked, or another agent was enrolled for this device; enrol anew with 'ggfleet-agent enroll --again'")
		}
	}
	l.log.WarnContext(ctx, "agent certificate has ended and is renewed late", "ended", l.cfg.Live.Certificate().NotAfter)
	cert, err := l.late(ctx, id.Credential, csr)
	if err != nil && id.Old != nil {
		// Which of the two the control plane knows as the last is not known here.
		if cert, otherErr := l.late(ctx, *id.Old, csr); otherErr == nil {
			return cert, nil
		}
	}
	return cert, err
}

// late renews with a certificate that has ended.
func (l *Loop) late(ctx context.Context, c identity.Credential, csr string) (string, error) {
	key, err := l.cfg.Live.Signer(c)
	if err != nil {
		return "", err
	}
	stranger, err := l.cfg.Dial.AsStranger()
	if err != nil {
		return "", err
	}
	defer stranger.Close()
	nonce, err := stranger.Nonce(ctx)
	if err != nil {
		return "", err
	}
	r := protocol.ExpiredRequest{CertificatePEM: c.CertificatePEM, CSR: csr, Nonce: nonce.Nonce}
	if r.Signature, err = key.Sign(rand.Reader, r.Digest(), crypto.SHA256); err != nil {
		return "", err
	}
	return stranger.RenewExpired(ctx, r)
}

// prove has the next certificate make a call, and a session if there is one with
// the current certificate, and then makes it the agent's.
func (l *Loop) prove(ctx context.Context, id identity.Identity) error {
	if err := l.admitted(ctx, *id.Next); err != nil {
		switch {
		case refused(err) && l.ended(*id.Next):
			return l.another(id)
		case refused(err) && l.cfg.Cloud.Admitted(ctx) == nil:
			// The control plane knows the current one and not the next: its store is
			// older than the renewal. Begin anew.
			l.log.WarnContext(ctx, "the control plane does not take the next agent certificate", logx.Err, err)
			return l.abandon(*id.Next)
		}
		return fmt.Errorf("proving the next certificate: %w", err)
	}
	connected := l.cfg.Session.Connected()
	if !connected { // nor is it waited for
		if err := l.turn(ctx, *id.Next); err != nil {
			return err
		}
	} else {
		if err := l.show(*id.Next); err != nil {
			return err
		}
		within, cancel := context.WithTimeout(ctx, proofTime)
		defer cancel()
		if err := l.cfg.Session.Reconnect(within); err != nil {
			err = fmt.Errorf("no MQTT session with the next certificate: %w", err)
			return errors.Join(err, l.turn(ctx, id.Credential))
		}
	}
	if id.Old != nil { // it ended like the current one; neither is needed any more
		if err := l.cfg.Live.RemoveKey(*id.Old); err != nil {
			return fmt.Errorf("destroying the old key: %w", err)
		}
	}
	return l.cfg.Live.Store(localstate.RenewSwitch, func(i *identity.Identity) {
		i.Old, i.Credential, i.Next = &id.Credential, *id.Next, nil
	})
}

// another begins anew for a next certificate that ended before it could prove
// itself. It is kept: the control plane may know it as the last.
func (l *Loop) another(id identity.Identity) error {
	if id.Old == nil {
		return l.begin(func(i *identity.Identity) { i.Old = id.Next })
	}
	if err := l.cfg.Live.RemoveKey(*id.Next); err != nil {
		return fmt.Errorf("destroying the next key: %w", err)
	}
	return l.begin(func(*identity.Identity) {})
}

func (l *Loop) admitted(ctx context.Context, c identity.Credential) error {
	as, err := l.cfg.Dial.As(c)
	if err != nil {
		return err
	}
	defer as.Close()
	return as.Admitted(ctx)
}

// show uses c for whatever is connected from now on.
func (l *Loop) show(c identity.Credential) error {
	if err := l.cfg.Live.Use(c); err != nil {
		return err
	}
	l.cfg.Cloud.Close()
	return nil
}

// turn shows c; that the session comes up with it is not waited for long.
func (l *Loop) turn(ctx context.Context, c identity.Credential) error {
	if err := l.show(c); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = l.cfg.Session.Reconnect(within) // it goes on by itself
	return nil
}

// abandon forgets a next certificate that cannot be used.
func (l *Loop) abandon(next identity.Credential) error {
	if err := l.cfg.Dir.Do(localstate.RenewDrop, func() error { return l.cfg.Live.RemoveKey(next) }); err != nil {
		return err
	}
	return l.cfg.Live.Store(localstate.RenewForget, func(i *identity.Identity) { i.Next = nil })
}

// confirm has the control plane end the old certificate, and then drops its key.
func (l *Loop) confirm(ctx context.Context, id identity.Identity) error {
	as, err := l.cfg.Dial.As(id.Credential)
	if err != nil {
		return err
	}
	defer as.Close()
	err = l.cfg.Dir.Do(localstate.RenewConfirm, func() error { return as.ConfirmRenewal(ctx) })
	switch {
	case refused(err) && l.ended(id.Credential):
		return l.begin(func(*identity.Identity) {})
	case refused(err) && !l.ended(*id.Old):
		// Both are kept: the old one is shown, and the new one proves itself again.
		l.log.WarnContext(ctx, "the control plane does not take the new agent certificate any more; the old one is shown again", logx.Err, err)
		old := *id.Old
		err := l.cfg.Live.Store(localstate.RenewSwitch, func(i *identity.Identity) { i.Next, i.Credential, i.Old = &id.Credential, old, nil })
		if err != nil {
			return err
		}
		return errors.Join(fault.New(fault.Unavailable, "the new certificate has to prove itself again"), l.turn(ctx, old))
	}
	if err != nil {
		return fmt.Errorf("confirming the new certificate: %w", err)
	}
	if err := l.cfg.Dir.Do(localstate.RenewDrop, func() error { return l.cfg.Live.RemoveKey(*id.Old) }); err != nil {
		return fmt.Errorf("destroying the old key: %w", err)
	}
	if err := l.cfg.Live.Store(localstate.RenewForget, func(i *identity.Identity) { i.Old = nil }); err != nil {
		return err
	}
	l.log.InfoContext(ctx, "agent certificate is renewed", "ends", l.cfg.Live.Certificate().NotAfter)
	return nil
}
