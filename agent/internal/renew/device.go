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
	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// deviceName is the record of a renewal of the device's certificate that has begun.
const deviceName = "device-renewal.json"

type deviceRecord struct {
	Replaces       string `json:"replaces"` // id of the certificate whose place it takes
	KeyPEM         string `json:"keyPem"`
	CertificatePEM string `json:"certificatePem,omitempty"`
}

// device brings the device's certificate on, from the state that is stored.
func (l *Loop) device(ctx context.Context) error {
	if l.cfg.Device == nil {
		return nil
	}
	certPEM, keyPEM, err := l.cfg.Device.Certificate()
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
	var r deviceRecord
	err = l.cfg.Dir.ReadJSON(deviceName, &r)
	switch id := identity.Fingerprint(current); {
	case err == nil && r.Replaces != id && r.id() != id:
		return l.forgetDevice() // somebody has replaced it meanwhile
	case err == nil:
	case errors.Is(err, fs.ErrNotExist) && !due(current, l.cfg.Live.Clock().Now()):
		return l.settle(ctx, id, certPEM, keyPEM)
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fault.Invalid):
		l.log.InfoContext(ctx, "device certificate is to be renewed", "ends", current.NotAfter)
		if r, err = l.beginDevice(id); err != nil {
			return err
		}
	default:
		return err
	}
	if r.CertificatePEM == "" {
		if err := l.requestDevice(ctx, &r); err != nil {
			return err
		}
	}
	return l.installDevice(ctx, r)
}

// id of the new certificate; "": there is none yet.
func (r deviceRecord) id() string {
	c, err := identity.ParseCertificate(r.CertificatePEM)
	if err != nil {
		return ""
	}
	h := sha256.Sum256(c.Raw)
	return hex.EncodeToString(h[:])
}

func (l *Loop) beginDevice(replaces string) (deviceRecord, error) {
	_, b, err := keystore.NewKey()
	if err != nil {
		return deviceRecord{}, err
	}
	r := deviceRecord{Replaces: replaces, KeyPEM: string(b)}
	return r, l.cfg.Dir.Do(localstate.DeviceRenewIntent, func() error { return l.cfg.Dir.WriteJSON(deviceName, r) })
}

func (l *Loop) requestDevice(ctx context.Context, r *deviceRecord) error {
	key, err := keystore.ParseKey([]byte(r.KeyPEM))
	if err != nil {
		return errors.Join(err, l.forgetDevice())
	}
	csr, err := identity.CSR(key, l.cfg.Live.Identity().Subject().Name)
	if err != nil {
		return err
	}
	err = l.cfg.Dir.Do(localstate.DeviceRenewCall, func() (err error) {
		r.CertificatePEM, err = l.cfg.Cloud.RenewDevice(ctx, protocol.DeviceRenewal{CSR: csr, Replaces: r.Replaces})
		return err
	})
	if errors.Is(err, fault.Invalid) {
		return errors.Join(err, l.forgetDevice()) // with this one it will never be
	}
	if err != nil {
		return err
	}
	if err := identity.CheckCertificate(r.CertificatePEM, key, nil); err != nil {
		return fmt.Errorf("the control plane's answer cannot be used: %w", err)
	}
	return l.cfg.Dir.Do(localstate.DeviceRenewStore, func() error { return l.cfg.Dir.WriteJSON(deviceName, *r) })
}

// installDevice has the new certificate admitted, then the device work with it, then
// the control plane end the old one.
func (l *Loop) installDevice(ctx context.Context, r deviceRecord) error {
	now := l.cfg.Live.Clock().Now()
	if now.Before(l.deviceAfter) {
		return nil
	}
	if _, err := tls.X509KeyPair([]byte(r.CertificatePEM), []byte(r.KeyPEM)); err != nil {
		return errors.Join(fmt.Errorf("the stored renewal is damaged: %w", err), l.forgetDevice())
	}
	if err := l.deviceAdmitted(ctx, []byte(r.CertificatePEM), []byte(r.KeyPEM)); err != nil {
		if refused(err) && l.cfg.Cloud.Admitted(ctx) == nil {
			return errors.Join(fmt.Errorf("the control plane does not take the next certificate: %w", err), l.forgetDevice())
		}
		return fmt.Errorf("proving the next certificate: %w", err)
	}
	err := l.cfg.Dir.Do(localstate.DeviceRenewInstall, func() error {
		return l.cfg.Device.ReplaceCertificate(ctx, []byte(r.CertificatePEM), []byte(r.KeyPEM))
	})
	if err != nil {
		if ctx.Err() == nil {
			l.deviceAfter = now.Add(deviceAgain) // each attempt restarts the nucleus
		}
		return fmt.Errorf("the device works with the old one: %w", err)
	}
	err = l.cfg.Dir.Do(localstate.DeviceRenewConfirm, func() error { return l.cfg.Cloud.ConfirmDevice(ctx, r.id()) })
	if err != nil {
		return fmt.Errorf("confirming the new certificate: %w", err)
	}
	l.settled = r.id()
	l.log.InfoContext(ctx, "device certificate is renewed", logx.Certificate, r.id())
	return l.forgetDevice()
}

// settle says that the device works with the certificate that is there, once in the
// life of the agent: it may have been issued in place of one that was lost.
func (l *Loop) settle(ctx context.Context, id string, certPEM, keyPEM []byte) error {
	if l.settled == id {
		return nil
	}
	if err := l.deviceAdmitted(ctx, certPEM, keyPEM); err != nil {
		if refused(err) {
			l.settled = id // it was ended by somebody: nothing is to be said of it
			return nil
		}
		return fmt.Errorf("using the device's certificate: %w", err)
	}
	if err := l.cfg.Cloud.ConfirmDevice(ctx, id); err != nil {
		return fmt.Errorf("confirming the device's certificate: %w", err)
	}
	l.settled = id
	return nil
}

// deviceAdmitted returns nil when the control plane takes the pair.
func (l *Loop) deviceAdmitted(ctx context.Context, certPEM, keyPEM []byte) error {
	as, err := l.cfg.Dial.AsDevice(certPEM, keyPEM)
	if err != nil {
		return err
	}
	defer as.Close()
	return as.Admitted(ctx)
}

func (l *Loop) forgetDevice() error {
	return l.cfg.Dir.Do(localstate.DeviceRenewForget, func() error { return l.cfg.Dir.Remove(deviceName) })
}
