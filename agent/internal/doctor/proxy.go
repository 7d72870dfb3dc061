package doctor

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/http/httpproxy"
	"golang.org/x/net/proxy"
)

func (e *examination) env(names ...string) (value string) {
	for _, name := range names {
		value = cmp.Or(value, e.Getenv(name))
	}
	return value
}

// through returns the proxy that the agent's calls of address go through; nil:
// none. It is the one that net/http would take.
func (e *examination) through(address *url.URL) (*url.URL, error) {
	c := httpproxy.Config{HTTPSProxy: e.env("HTTPS_PROXY", "https_proxy"), NoProxy: e.env("NO_PROXY", "no_proxy")}
	return c.ProxyFunc()(address)
}

// dialHTTPS connects to the control plane's HTTPS port as the agent does: through
// a proxy, if one is set. via is that proxy's host; empty: none.
func (e *examination) dialHTTPS(ctx context.Context) (c net.Conn, via string, err error) {
	p, err := e.through(&url.URL{Scheme: "https", Host: e.https()})
	if err != nil || p == nil {
		c, err = e.Dial(ctx, "tcp", e.https())
		return c, "", err
	}
	switch p.Scheme {
	case "http", "https":
		c, err = e.tunnel(ctx, p)
	default:
		var d proxy.Dialer
		if d, err = proxy.FromURL(p, forward{ctx, e.Dial}); err == nil {
			c, err = d.Dial("tcp", e.https())
		}
	}
	if err != nil {
		err = fmt.Errorf("through proxy %s: %w", p.Host, err)
	}
	return c, p.Host, err
}

// tunnel has an HTTP proxy connect to the control plane.
func (e *examination) tunnel(ctx context.Context, p *url.URL) (net.Conn, error) {
	port := map[string]string{"http": "80", "https": "443"}[p.Scheme]
	c, err := e.Dial(ctx, "tcp", net.JoinHostPort(p.Hostname(), cmp.Or(p.Port(), port)))
	if err != nil {
		return nil, err
	}
	if p.Scheme == "https" {
		c = tls.Client(c, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: p.Hostname(), Time: e.Now})
	}
	_ = c.SetDeadline(time.Now().Add(checkTime))
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: e.https()}, Host: e.https(), Header: http.Header{}}
	if p.User != nil {
		password, _ := p.User.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(p.User.Username()+":"+password)))
	}
	if err = req.Write(c); err == nil {
		var resp *http.Response
		// Nothing comes behind the answer before we speak: the reader keeps nothing back.
		if resp, err = http.ReadResponse(bufio.NewReader(c), req); err == nil && resp.StatusCode != http.StatusOK { //nolint:bodyclose // the connection is closed instead, or is the tunnel
			err = fmt.Errorf("it answers %s", resp.Status)
		}
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, c.SetDeadline(time.Time{})
}

// dialMQTT connects to the control plane's MQTT port as the agent does: through the
// SOCKS proxy of ALL_PROXY, if one is set. Any other proxy there is gone past.
func (e *examination) dialMQTT(ctx context.Context) (net.Conn, error) {
	direct := forward{ctx, e.Dial}
	way := proxy.Dialer(direct)
	if p, err := url.Parse(e.env("ALL_PROXY", "all_proxy")); err == nil {
		if socks, err := proxy.FromURL(p, direct); err == nil {
			way = socks
		}
	}
	hosts := proxy.NewPerHost(way, direct)
	hosts.AddFromString(e.env("NO_PROXY", "no_proxy"))
	return hosts.DialContext(ctx, "tcp", e.MQTTAddress)
}

// forward dials for a SOCKS proxy.
type forward struct {
	ctx  context.Context //nolint:containedctx // the library hands none on
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (f forward) Dial(network, address string) (net.Conn, error) {
	return f.dial(f.ctx, network, address)
}
