// Package enroll makes the agent known to a control plane: from the one string
// that an operator hands over to a stored identity.
//
// Order of work: the agent's key is stored before anything is sent, so that
// sending again is sending the same; the identity is stored as one record. A
// lost answer, a kill or a power cut at any point costs one more call.
package enroll

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/deviceapi"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// attempts bounds how often an unreachable control plane is called before the
// operator is told; about 15 seconds.
const attempts = 5

// ErrUntrusted is the error of a server that is not the one that the enrolment
// string names. Nothing was sent to it.
var ErrUntrusted = errors.New("the server is not to be trusted")

// Config is what enrolling needs.
type Config struct {
	Dir *localstate.Dir // required
	Log *slog.Logger
}

// Run enrols with the string of an activation and returns the identity. fresh
// is false when this agent already was enrolled with this control plane and
// activation: then nothing is sent. What is missing or damaged is made good.
// Errors say what to do.
func Run(ctx context.Context, cfg Config, text string) (id identity.Identity, fresh bool, err error) {
	log := cfg.Log
	if log == nil {
		log = logx.Discard()
	}
	e, err := protocol.ParseEnrollment(text)
	if err != nil {
		return identity.Identity{}, false, err
	}
	id, _, err = identity.Load(cfg.Dir)
	switch {
	case err == nil && id.ActivationID == e.ActivationID && id.CAFingerprint == e.CAFingerprint:
		return id, false, nil
	case err == nil:
		return identity.Identity{}, false, fault.New(fault.Exists,
			"this agent is enrolled as %s at %s; for another core use another --root, or stop it and remove %s to enrol anew", id.AgentThing, id.URL, cfg.Dir.Path(""))
	case !errors.Is(err, fs.ErrNotExist):
		log.WarnContext(ctx, "stored identity is damaged and will be replaced", logx.Err, err)
	}
	key, err := identity.EnsureKey(cfg.Dir)
	if err != nil {
		return identity.Identity{}, false, err
	}
	csr, err := identity.CSR(key, "agent")
	if err != nil {
		return identity.Identity{}, false, err
	}
	resp, err := call(ctx, cfg.Dir, log, e, csr)
	if err != nil {
		return identity.Identity{}, false, explain(e, err)
	}
	id = identity.Identity{
		URL: e.URL, CAFingerprint: e.CAFingerprint, ActivationID: e.ActivationID, AgentThing: resp.AgentThing, Core: resp.Core,
		CertificatePEM: resp.CertificatePEM, CAPEM: resp.CAPEM, MQTTAddress: resp.MQTTAddress,
	}
	if err := id.Check(key); err != nil {
		return identity.Identity{}, false, fmt.Errorf("the control plane's answer cannot be used: %w", err)
	}
	return id, true, identity.Store(cfg.Dir, id)
}

func call(ctx context.Context, dir *localstate.Dir, log *slog.Logger, e protocol.Enrollment, csr string) (out protocol.EnrollResponse, err error) {
	pinned, err := Pinned(e)
	if err != nil {
		return out, err
	}
	client, err := deviceapi.New(deviceapi.Config{URL: e.URL, TLS: pinned})
	if err != nil {
		return out, err
	}
	defer client.Close()
	err = dir.Do(localstate.EnrollCall, func() error {
		return run.Retry(ctx, run.Backoff{Min: time.Second, Max: 8 * time.Second}, attempts, func(ctx context.Context) error {
			var err error
			out, err = client.Enroll(ctx, protocol.EnrollRequest{ActivationID: e.ActivationID, Code: e.Code, CSR: csr})
			if err != nil && !fault.Permanent(err) {
				log.WarnContext(ctx, "enrolment did not get through", logx.Address, e.URL, logx.Err, err)
			}
			return err
		})
	})
	return out, err
}

// Pinned returns a client configuration that trusts only the CA that the
// enrolment string names. The server must send that root with its chain:
// nothing else that the agent has could tell a false server from the true one.
func Pinned(e protocol.Enrollment) (*tls.Config, error) {
	u, err := url.Parse(e.URL)
	if err != nil {
		return nil, fault.Field("url", "%q is not an address", e.URL)
	}
	verify := func(cs tls.ConnectionState) error {
		if err := verifyPinned(cs.PeerCertificates, e.CAFingerprint, u.Hostname()); err != nil {
			return fmt.Errorf("%w: %w", ErrUntrusted, err)
		}
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: u.Hostname(),
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it against the pinned CA
		VerifyConnection:   verify,
	}, nil
}

func verifyPinned(chain []*x509.Certificate, fingerprint, host string) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, c := range chain {
		if identity.Fingerprint(c) == fingerprint {
			roots.AddCert(c)
			found = true
		} else {
			between.AddCert(c)
		}
	}
	if !found || len(chain) == 0 {
		return fault.New(fault.Denied, "the server at %s does not show the CA with fingerprint %s; check the address, or make a new activation if the CA was replaced", host, fingerprint)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host})
	if bad, ok := errors.AsType[x509.CertificateInvalidError](err); ok && bad.Reason == x509.Expired {
		return fault.New(fault.Denied, "the certificate of %s is not valid at this device's time, %s; set the clock, or renew the certificate", host, time.Now().UTC().Format(time.RFC3339))
	}
	if err != nil {
		return fault.New(fault.Denied, "the certificate of %s does not fit its address or CA: %v", host, err)
	}
	return nil
}

// explain adds the way out to the refusals that an operator can do something
// about.
func explain(e protocol.Enrollment, err error) error {
	if errors.Is(err, ErrUntrusted) {
		return fmt.Errorf("enrolling at %s: %w", e.URL, err)
	}
	text := fault.Message(err)
	switch kind := fault.KindOf(err); kind {
	case fault.Unauthenticated, fault.Denied, fault.NotFound, fault.Exists:
		return fmt.Errorf("activation %s was refused by %s: %w; 'ggfleet activation create' makes a new one",
			e.ActivationID, e.URL, fault.New(kind, "%s", text))
	case fault.Invalid, fault.TooLarge, fault.Unsupported:
		return fmt.Errorf("enrolling at %s: %w", e.URL, err)
	case fault.Conflict, fault.Stale, fault.Exhausted, fault.Unavailable:
	}
	return fmt.Errorf("enrolling at %s: %w; check that the address is reachable from here, then run the same command again: it goes on where it was", e.URL, err)
}
