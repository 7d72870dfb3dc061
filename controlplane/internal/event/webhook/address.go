package webhook

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What a webhook may reach. The server stands inside the operator's network, so a
// URL is a way in: addresses are checked after they were resolved, at each
// connection, and no proxy stands in between.

var errAddress = errors.New("address is not allowed for webhooks")

// metadata are addresses outside of the link at which clouds hand out
// credentials; of some clouds the whole network of such services.
func metadata(a netip.Addr) bool {
	return slices.ContainsFunc([]string{"100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::/32", "fd20:ce::254/128"}, func(network string) bool {
		return netip.MustParsePrefix(network).Contains(a)
	})
}

// private also counts what lies behind a carrier's NAT, where clusters number
// their own (RFC 6598).
func private(a netip.Addr) bool {
	return a.IsLoopback() || a.IsPrivate() || netip.MustParsePrefix("100.64.0.0/10").Contains(a)
}

// checkAddr refuses what no receiver has, and private addresses if denyPrivate
// is set.
func checkAddr(a netip.Addr, denyPrivate bool) error {
	a = embedded(a.Unmap().WithZone(""))
	switch {
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%w: %s is nobody's", errAddress, a)
	case a.IsLinkLocalUnicast() || metadata(a):
		return fmt.Errorf("%w: %s is of the link, where clouds hand out credentials", errAddress, a)
	case denyPrivate && private(a):
		return fmt.Errorf("%w: %s is private", errAddress, a)
	}
	return nil
}

// embedded returns the IPv4 address behind a NAT64 address, else a.
func embedded(a netip.Addr) netip.Addr {
	if netip.MustParsePrefix("64:ff9b::/96").Contains(a) {
		b := a.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return a
}

// checkHost refuses a host that is written as an address which is not allowed.
func checkHost(host string, denyPrivate bool) error {
	if denyPrivate && loopbackHost(host) {
		return fmt.Errorf("%w: this machine", errAddress)
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return nil // a name: its addresses are checked when it is dialed
	}
	return checkAddr(a, denyPrivate)
}

func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// guardedTransport connects to allowed addresses only.
func guardedTransport(denyPrivate bool) *http.Transport {
	d := &net.Dialer{Timeout: 5 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %s", errAddress, address)
		}
		return checkAddr(a.Addr(), denyPrivate)
	}}
	return &http.Transport{
		DialContext: d.DialContext, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 5 * time.Second, MaxIdleConns: 64, MaxIdleConnsPerHost: 16, MaxConnsPerHost: 32,
		IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10,
	}
}
