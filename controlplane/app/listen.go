package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// listeners are bound before anything is opened, so that a taken port costs
// nothing and port 0 can be asked for its number.
type listeners struct {
	api, aws, mqtt, device, artifact net.Listener
	alpn                             net.Listener // nil: none
}

func (a *App) listen(ctx context.Context) error {
	for _, l := range []struct {
		flag, addr string
		to         *net.Listener
	}{
		{"http-addr", a.cfg.HTTPAddr, &a.listeners.api},
		{"aws-addr", a.cfg.AWSAddr, &a.listeners.aws},
		{"mqtt-addr", a.cfg.MQTTAddr, &a.listeners.mqtt},
		{"device-addr", a.cfg.DeviceAddr, &a.listeners.device},
		{"alpn-addr", a.cfg.ALPNAddr, &a.listeners.alpn},
		{"artifact-addr", a.cfg.ArtifactAddr, &a.listeners.artifact},
	} {
		if l.flag == "alpn-addr" && l.addr == "" {
			continue
		}
		var lc net.ListenConfig
		if l.flag == "mqtt-addr" {
			lc.KeepAlive = -1 // MQTT has keep-alives of its own; TCP's would be most of an idle device's bytes
		}
		ln, err := lc.Listen(ctx, "tcp", l.addr)
		if err != nil {
			return listenError(l.flag, l.addr, err)
		}
		*l.to = ln
		a.onClose(func() { _ = ln.Close() }) // closed twice when it served: no harm
	}
	return nil
}

func listenError(flag, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s %s is taken by another process (another ggfleet?); stop that one or choose another address with --%s", flag, addr, flag)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s %s: this user may not bind it; choose a port above 1023 with --%s", flag, addr, flag)
	}
	return fmt.Errorf("%s %s: %w; choose another with --%s", flag, addr, err, flag)
}

func port(l net.Listener) int {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0 // not ours: listen binds TCP only
}

// hostPort is how devices reach a listener.
func (a *App) hostPort(l net.Listener) string {
	return net.JoinHostPort(a.cfg.PublicHost, strconv.Itoa(port(l)))
}

func (a *App) apiURL() string { return urlOf(a.cfg.HTTPAddr, a.listeners.api) }

func (a *App) awsURL() string { return urlOf(a.cfg.AWSAddr, a.listeners.aws) }

// urlOf is how a listener for people and programs is reached: TLS on every
// address but loopback.
func urlOf(addr string, l net.Listener) string {
	host, _, err := net.SplitHostPort(addr)
	scheme := "https"
	if loopback(addr) {
		scheme = "http"
	}
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port(l)))
}

const (
	serverLife  = 90 * 24 * time.Hour
	serverRenew = 30 * 24 * time.Hour // before its end
)

// serverCertificate presents a certificate of our own CA and makes a new one in
// good time.
type serverCertificate struct {
	ca    *iot.CA
	hosts []string

	mu   sync.Mutex // guards cert and ends
	cert *tls.Certificate
	ends time.Time
}

func (a *App) serverCertificate() *serverCertificate {
	hosts := append([]string{a.cfg.PublicHost, "localhost", "127.0.0.1", "::1"}, a.cfg.ServerNames...)
	if h, err := os.Hostname(); err == nil && h != "" {
		hosts = append(hosts, h)
	}
	for _, addr := range []string{a.cfg.HTTPAddr, a.cfg.AWSAddr, a.cfg.MQTTAddr, a.cfg.DeviceAddr, a.cfg.ALPNAddr} {
		if h, _, err := net.SplitHostPort(addr); err == nil && h != "" {
			if ip := net.ParseIP(h); ip == nil || !ip.IsUnspecified() {
				hosts = append(hosts, h)
			}
		}
	}
	return &serverCertificate{ca: a.registry.CA(), hosts: unique(hosts)}
}

func (s *serverCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.cert != nil && now.Before(s.ends.Add(-serverRenew)) {
		return s.cert, nil
	}
	key, err := pki.NewKey(pki.P256)
	if err != nil {
		return nil, err
	}
	der, err := s.ca.Issuer.SignServer(key.Public(), s.hosts, now, serverLife)
	if err != nil {
		return nil, err
	}
	c := pki.TLSCertificate(key, der, s.ca.Issuer.Cert, s.ca.Root)
	s.cert, s.ends = &c, now.Add(serverLife)
	return s.cert, nil
}

func unique(in []string) []string {
	seen := map[string]bool{}
	out := in[:0:0]
	for _, s := range in {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

// ownTransport reaches our own API, over TLS too.
func (a *App) ownTransport() *http.Transport {
	pool := x509.NewCertPool()
	pool.AddCert(a.registry.CA().Root)
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 8}
}
