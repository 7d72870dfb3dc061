package app

import (
	"crypto/tls"
	"net"
	"net/url"

	"github.com/ggfleet/ggfleet/agent/internal/deviceapi"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/renew"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/run"
)

// openRenewal makes what renews certificates. It needs the session.
func (a *agent) openRenewal() error {
	cfg := renew.Config{
		Dir: a.dir, Live: a.live, Cloud: a.cloud, Dial: dialer{a}, Session: a.link, Every: a.cfg.Renewal, MinWait: a.cfg.MinWait, Log: a.cfg.Log,
		Device: a.holder,
	}
	loop, err := renew.New(cfg)
	if err != nil {
		return err
	}
	a.work = append(a.work, run.Loop{Name: "certificates", Run: loop.Run})
	return nil
}

// dialer opens the control plane for package renew.
type dialer struct{ a *agent }

func (d dialer) As(c identity.Credential) (renew.Candidate, error) {
	cert, err := d.a.live.Pair(c)
	if err != nil {
		return nil, err
	}
	return d.with(cert)
}

func (d dialer) AsDevice(certPEM, keyPEM []byte) (renew.Candidate, error) {
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fault.New(fault.Invalid, "certificate and key do not fit: %v", err)
	}
	return d.with(&cert)
}

func (d dialer) with(cert *tls.Certificate) (renew.Candidate, error) {
	return d.a.dial(func(host string) *tls.Config { return d.a.live.With(host, cert) })
}

func (d dialer) AsStranger() (renew.Stranger, error) { return d.a.dial(d.a.live.Anonymous) }

// dial returns a client of the control plane, with the TLS that as makes for its
// host.
func (a *agent) dial(as func(host string) *tls.Config) (*deviceapi.Client, error) {
	u, err := url.Parse(a.id.URL)
	if err != nil {
		return nil, fault.Field("url", "%q is not an address", a.id.URL)
	}
	return deviceapi.New(deviceapi.Config{URL: a.id.URL, TLS: as(u.Hostname()), OnDate: a.live.Clock().Saw})
}

// hostOf is the host of an address that was checked.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}
