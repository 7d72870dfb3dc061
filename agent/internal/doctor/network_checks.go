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
	text := e.proxy()
	if text == "" {
		return passed("none is set")
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return failed("HTTPS_PROXY is no address") // it may hold a password
	}
	return passed("HTTPS goes through %s", u.Host)
}

func (e *examination) proxy() string {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		if v := e.Getenv(name); v != "" {
			return v
		}
	}
	return ""
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
	hosts := map[string]bool{}
	for _, address := range []string{e.https(), e.MQTTAddress} {
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

func checkHTTPSPort(ctx context.Context, e *examination) finding { return reach(ctx, e, e.https()) }

func checkMQTTPort(ctx context.Context, e *examination) finding { return reach(ctx, e, e.MQTTAddress) }

func reach(ctx context.Context, e *examination, address string) finding {
	at := time.Now()
	c, err := e.Dial(ctx, "tcp", address)
	if err != nil {
		return failed("%s: %v", address, err)
	}
	_ = c.Close()
	return passed("%s after %d ms", address, time.Since(at).Milliseconds())
}

// shake does a TLS handshake with address as the agent. An error with a state is
// that of a server that is trusted, and does not take the agent's certificate.
func (e *examination) shake(ctx context.Context, address string, protocols ...string) (tls.ConnectionState, error) {
	raw, err := e.Dial(ctx, "tcp", address)
	if err != nil {
		return tls.ConnectionState{}, err
	}
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
	state, err := e.shake(ctx, e.https(), "http/1.1")
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
	switch state, err := e.shake(ctx, e.MQTTAddress); {
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
	transport := &http.Transport{DialContext: e.Dial, TLSClientConfig: e.TLS(host), DisableKeepAlives: true}
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
