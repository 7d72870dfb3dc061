package app

import (
	"crypto/tls"
	"net"
	"net/url"

	"github.com/ggfleet/ggfleet/agent/internal/deviceapi"
	"github.com/ggfleet/ggfleet/shared/fault"
)

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
