package renew

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// coreName is the record of a renewal of the core's certificate that has begun.
const coreName = "core-renewal.json"

type coreRecord struct {
	Replaces       string `json:"replaces"` // id of the certificate whose place it takes
	KeyPEM         string `json:"keyPem"`
	CertificatePEM string `json:"certificatePem,omitempty"`
}

// core brings the core's certificate on, from the state that is stored.
func (l *Loop) core(ctx context.Context) error {
	if l.cfg.Core == nil {
		return nil
	}
	certPEM, _, err := l.cfg.Core.Certificate()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	current, err := identity.ParseCertificate(string(certPEM))
	if err != nil {
		return nil //nolint:nilerr // the assignment makes it good
	}
	var r coreRecord
	err = l.cfg.Dir.ReadJSON(coreName, &r)
	switch id := identity.Fingerprint(current); {
	case err == nil && r.Replaces != id && r.id() != id:
		return l.forgetCore() // somebody has replaced it meanwhile
	case err == nil:
	case errors.Is(err, fs.ErrNotExist) && !due(current, l.cfg.Live.Clock().Now()):
		return nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fault.Invalid):
		l.log.InfoContext(ctx, "core certificate is to be renewed", "ends", current.NotAfter)
		if r, err = l.beginCore(id); err != nil {
			return err
		}
	default:
		return err
	}
	if r.CertificatePEM == "" {
		if err := l.requestCore(ctx, &r); err != nil {
			return err
		}
	}
	return l.installCore(ctx, r)
}

// id of the new certificate; "": there is none yet.
func (r coreRecord) id() string {
	c, err := identity.ParseCertificate(r.CertificatePEM)
	if err != nil {
		return ""
	}
	h := sha256.Sum256(c.Raw)
	return hex.EncodeToString(h[:])
}

func (l *Loop) beginCore(replaces string) (coreRecord, error) {
	_, b, err := identity.NewKey()
	if err != nil {
		return coreRecord{}, err
	}
	r := coreRecord{Replaces: replaces, KeyPEM: string(b)}
	return r, l.cfg.Dir.Do(localstate.CoreRenewIntent, func() error { return l.cfg.Dir.WriteJSON(coreName, r) })
}

func (l *Loop) requestCore(ctx context.Context, r *coreRecord) error {
	key, err := identity.ParseKey([]byte(r.KeyPEM))
	if err != nil {
		return errors.Join(err, l.forgetCore())
	}
	csr, err := identity.CSR(key, l.cfg.Live.Identity().Subject().Name)
	if err != nil {
		return err
	}
	err = l.cfg.Dir.Do(localstate.CoreRenewCall, func() (err error) {
		r.CertificatePEM, err = l.cfg.Cloud.RenewCore(ctx, protocol.CoreRenewal{CSR: csr, Replaces: r.Replaces})
		return err
	})
	if errors.Is(err, fault.Invalid) {
		return errors.Join(err, l.forgetCore()) // with this one it will never be
	}
	if err != nil {
		return err
	}
	if err := identity.CheckCertificate(r.CertificatePEM, key, nil); err != nil {
		return fmt.Errorf("the control plane's answer cannot be used: %w", err)
	}
	return l.cfg.Dir.Do(localstate.CoreRenewStore, func() error { return l.cfg.Dir.WriteJSON(coreName, *r) })
}

// installCore has the new certificate admitted, then the nucleus work with it, then
// the control plane end the old one.
func (l *Loop) installCore(ctx context.Context, r coreRecord) error {
	now := l.cfg.Live.Clock().Now()
	if now.Before(l.coreAfter) {
		return nil
	}
	if _, err := tls.X509KeyPair([]byte(r.CertificatePEM), []byte(r.KeyPEM)); err != nil {
		return errors.Join(fmt.Errorf("the stored renewal is damaged: %w", err), l.forgetCore())
	}
	as, err := l.cfg.Dial.AsCore([]byte(r.CertificatePEM), []byte(r.KeyPEM))
	if err != nil {
		return err
	}
	defer as.Close()
	if err := as.Admitted(ctx); err != nil {
		if refused(err) && l.cfg.Cloud.Admitted(ctx) == nil {
			return errors.Join(fmt.Errorf("the control plane does not take the next certificate: %w", err), l.forgetCore())
		}
		return fmt.Errorf("proving the next certificate: %w", err)
	}
	err = l.cfg.Dir.Do(localstate.CoreRenewInstall, func() error {
		return l.cfg.Core.ReplaceCertificate(ctx, []byte(r.CertificatePEM), []byte(r.KeyPEM))
	})
	if err != nil {
		if ctx.Err() == nil {
			l.coreAfter = now.Add(coreAgain) // each attempt restarts the nucleus
		}
		return fmt.Errorf("the nucleus works with the old one: %w", err)
	}
	err = l.cfg.Dir.Do(localstate.CoreRenewConfirm, func() error { return l.cfg.Cloud.ConfirmCore(ctx, r.id()) })
	if err != nil {
		return fmt.Errorf("confirming the new certificate: %w", err)
	}
	l.log.InfoContext(ctx, "core certificate is renewed", logx.Certificate, r.id())
	return l.forgetCore()
}

func (l *Loop) forgetCore() error {
	return l.cfg.Dir.Do(localstate.CoreRenewForget, func() error { return l.cfg.Dir.Remove(coreName) })
}
