package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Bounds of the clocks' difference.
const (
	offsetLow  = time.Minute
	offsetHigh = 5 * time.Minute
)

func checkInterfaces(_ context.Context, e *examination) finding {
	list, err := e.Interfaces()
	if err != nil {
		return skipped("%v", err)
	}
	var up []string
	for _, i := range list {
		if i.Up && i.Addresses > 0 {
			up = append(up, i.Name)
		}
	}
	if host, _, err := net.SplitHostPort(e.https()); len(up) == 0 && err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback()) {
		return passed("none is needed: the control plane is on this machine")
	}
	if len(up) == 0 {
		return failed("of %d interfaces none is up with an address", len(list))
	}
	return passed("%s", strings.Join(up, ", "))
}

func checkProxy(_ context.Context, e *examination) finding {
	if e.env("HTTPS_PROXY", "https_proxy") == "" {
		return passed("none is set")
	}
	host := e.https()
	if e.URL == "" {
		host = "control.plane" // not known yet
	}
	p, err := e.through(&url.URL{Scheme: "https", Host: host})
	switch {
	case err != nil || p != nil && p.Hostname() == "":
		return failed("HTTPS_PROXY is no address") // it may hold a password
	case p == nil:
		return passed("HTTPS goes past the proxy that is set")
	}
	return passed("HTTPS goes through %s", p.Host)
}

// https returns host:port of the control plane.
func (e *examination) https() string {
	u, err := url.Parse(e.URL)
	if err != nil {
		return ""
	}
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return u.Host
}

func checkDNS(ctx context.Context, e *examination) finding {
	if e.Damaged != nil || e.URL == "" {
		return skipped("needs D202")
	}
	hosts := map[string]bool{}
	addresses := []string{e.https(), e.MQTTAddress}
	if p, err := e.through(&url.URL{Scheme: "https", Host: e.https()}); err == nil && p != nil {
		addresses = addresses[1:] // the proxy looks it up
	}
	for _, address := range addresses {
		if address == "" {
			continue // a device that asks to be let in does not know it yet
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return failed("%q is not host:port", address)
		}
		if hosts[host] || net.ParseIP(host) != nil {
			continue
		}
		hosts[host] = true
		if found, err := e.Resolve(ctx, host); err != nil || len(found) == 0 {
			return failed("%s: %v", host, orEmpty(err, "no address"))
		}
	}
	return passed("%d names are known", len(hosts))
}

func orEmpty(err error, text string) error {
	if err == nil {
		return errors.New(text)
	}
	return err
}

func checkHTTPSPort(ctx context.Context, e *examination) finding {
	at := time.Now()
	c, via, err := e.dialHTTPS(ctx)
	if err != nil {
		return failed("%s: %v", e.https(), err)
	}
	_ = c.Close()
	if via != "" {
		via = " through proxy " + via
	}
	return passed("%s%s after %d ms", e.https(), via, time.Since(at).Milliseconds())
}

func checkMQTTPort(ctx context.Context, e *examination) finding {
	if e.MQTTAddress == "" {
		return skipped("needs D202")
	}
	return reach(e.MQTTAddress, func() (net.Conn, error) { return e.dialMQTT(ctx) })
}

// reach says whether what dials address is connected.
func reach(address string, dial func() (net.Conn, error)) finding {
	at := time.Now()
	c, err := dial()
	if err != nil {
		return failed("%s: %v", address, err)
	}
	_ = c.Close()
	return passed("%s after %d ms", address, time.Since(at).Milliseconds())
}

// shake does a TLS handshake with address over raw as the agent. An error with a
// state is that of a server that is trusted, and does not take the agent's
// certificate.
func (e *examination) shake(ctx context.Context, raw net.Conn, address string, protocols ...string) (tls.ConnectionState, error) {
	defer raw.Close()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	config := e.TLS(host)
	config.NextProtos = protocols
	c := tls.Client(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	_ = c.SetReadDeadline(time.Now().Add(e.Settle))
	_, err = c.Read(make([]byte, 1))
	if !refused(err) {
		err = nil
	}
	return c.ConnectionState(), err
}

// refused reports whether the server ended the connection by an alert of TLS.
func refused(err error) bool {
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

func checkHTTPSTrust(ctx context.Context, e *examination) finding {
	if e.TLS == nil {
		return skipped("there is no identity to connect with")
	}
	raw, _, err := e.dialHTTPS(ctx)
	if err != nil {
		return failed("%s: %v", e.https(), err)
	}
	state, err := e.shake(ctx, raw, e.https(), "http/1.1")
	if len(state.PeerCertificates) == 0 {
		return failed("%s: %v", e.https(), err)
	}
	e.server = state.PeerCertificates[0]
	return passed("the chain ends in the CA of the enrolment")
}

func checkMQTTTrust(ctx context.Context, e *examination) finding {
	if e.TLS == nil {
		return skipped("there is no identity to connect with")
	}
	raw, err := e.dialMQTT(ctx)
	if err != nil {
		return failed("%s: %v", e.MQTTAddress, err)
	}
	switch state, err := e.shake(ctx, raw, e.MQTTAddress); {
	case err != nil && len(state.PeerCertificates) > 0:
		return failed("%s does not take the agent's certificate: %v", e.MQTTAddress, err)
	case err != nil:
		return failed("%s: %v", e.MQTTAddress, err)
	}
	return passed("the chain ends in the CA of the enrolment, and the agent's certificate is taken")
}

func checkServerCertificate(_ context.Context, e *examination) finding {
	return valid(e, Certificate{NotBefore: e.server.NotBefore, NotAfter: e.server.NotAfter})
}

// answer is what the control plane said when it was asked for the assignment.
type answer struct {
	status int
	date   time.Time
	text   string
	err    error
}

// asked returns the answer, which two checks look at; it is asked for once.
func (e *examination) asked(ctx context.Context) answer {
	if e.answer == nil {
		var a answer
		a.status, a.date, a.text, a.err = e.ask(ctx)
		e.answer = &a
	}
	return *e.answer
}

// ask asks for the assignment, which every agent may.
func (e *examination) ask(ctx context.Context) (status int, date time.Time, text string, err error) {
	host, _, err := net.SplitHostPort(e.https())
	if err != nil {
		return 0, date, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(e.URL, "/")+e.AssignmentPath, nil)
	if err != nil {
		return 0, date, "", err
	}
	transport := &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { c, _, err := e.dialHTTPS(ctx); return c, err },
		TLSClientConfig: e.TLS(host), DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: checkTime}).Do(req)
	if err != nil {
		return 0, date, "", err
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	date, _ = http.ParseTime(resp.Header.Get("Date"))
	return resp.StatusCode, date, strings.TrimSpace(string(b)), nil
}

func checkOffset(ctx context.Context, e *examination) finding {
	a := e.asked(ctx)
	if refused(a.err) {
		return skipped("needs D308")
	}
	if a.err != nil {
		return failed("%v", a.err)
	}
	if a.date.IsZero() {
		return skipped("the control plane does not tell its time")
	}
	switch off := a.date.Sub(e.Now()).Round(time.Second); {
	case off.Abs() > offsetHigh:
		return failed("the control plane's clock is %s ahead", off)
	case off.Abs() > offsetLow:
		return warned("the control plane's clock is %s ahead", off)
	default:
		return passed("the clocks agree to %s", max(off.Abs(), time.Second))
	}
}

func checkAdmission(ctx context.Context, e *examination) finding {
	a := e.asked(ctx)
	switch {
	case refused(a.err):
		return failed("the control plane does not take the certificate of %s: %v", e.Thing, a.err)
	case a.err != nil:
		return failed("%v", a.err)
	case a.status == http.StatusOK:
		return passed("%s is let in", e.Thing)
	case a.status >= http.StatusInternalServerError:
		return warned("the control plane answers %d: %s", a.status, a.text)
	}
	return failed("the control plane answers %d: %s", a.status, a.text)
}
