package doctor_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/doctor"
)

// serving hands the connections to a port of its own to serve, until the test ends.
func serving(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

// behindProxy makes the control plane's HTTPS port one that only a proxy reaches,
// which wants a password.
func behindProxy(t *testing.T, h *healthy) {
	t.Helper()
	direct := h.host.Dial
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("plant:pw"))
	proxy := serving(t, func(c net.Conn) {
		b := bufio.NewReader(c)
		req, err := http.ReadRequest(b)
		if err != nil {
			return
		}
		if req.Header.Get("Proxy-Authorization") != want || req.Method != http.MethodConnect || req.Host != "fleet.example:8443" {
			_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
			return
		}
		to, err := direct(context.Background(), "tcp", req.Host)
		if err != nil {
			return
		}
		defer to.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { _, _ = io.Copy(to, b); _ = to.Close() }()
		_, _ = io.Copy(c, to)
	})
	h.host.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		switch address {
		case "fleet.example:8443":
			return nil, errors.New("no route to host")
		case "proxy.example:3128":
			return (&net.Dialer{}).DialContext(ctx, network, proxy)
		}
		return direct(ctx, network, address)
	}
	// The nucleus has a proxy of its own.
	h.device.Nucleus.Config = []byte(strings.ReplaceAll(configDocument, "greengrassDataPlaneEndpoint: iotdata",
		"greengrassDataPlaneEndpoint: iotdata, networkProxy: {proxy: {url: 'http://proxy.example:3128'}}"))
}

func setenv(h *healthy, values map[string]string) {
	h.host.Getenv = func(name string) string { return values[name] }
}

func TestHTTPSGoesThroughTheProxyAsTheAgentsCallsDo(t *testing.T) {
	for name, value := range map[string]string{"an address": "http://plant:pw@proxy.example:3128", "without scheme": "plant:pw@proxy.example:3128"} {
		t.Run(name, func(t *testing.T) {
			h := newHealthy(t)
			behindProxy(t, h)
			setenv(h, map[string]string{"HTTPS_PROXY": value})
			for _, r := range doctor.Run(t.Context(), h.host, h.device) {
				assert.NotEqual(t, doctor.Failed, r.Status, "%v", r)
				assert.NotContains(t, r.Detail, "pw@", "no password is shown")
				switch r.Code {
				case "D302", "D304":
					assert.Contains(t, r.Detail, "through", r.Code)
				case "D305", "D308":
					assert.Equal(t, doctor.OK, r.Status, "%v", r)
				case "D413":
					assert.Equal(t, doctor.Skipped, r.Status, "%v", r)
				}
			}
		})
	}
}

func TestAProxyThatRefusesIsNamed(t *testing.T) {
	h := newHealthy(t)
	behindProxy(t, h)
	setenv(h, map[string]string{"https_proxy": "http://proxy.example:3128"})
	r := result(t, h, "D304")
	assert.Equal(t, doctor.Failed, r.Status)
	assert.Contains(t, r.Detail, "through proxy proxy.example:3128: it answers 407")
}

func TestNoProxyIsHeeded(t *testing.T) {
	h := newHealthy(t)
	setenv(h, map[string]string{"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": ".example"})
	assert.Contains(t, result(t, h, "D302").Detail, "past")
	assert.Equal(t, doctor.OK, result(t, h, "D304").Status)
}

// socksTo makes the control plane's MQTT port one that only a SOCKS proxy reaches.
func socksTo(t *testing.T, h *healthy) {
	t.Helper()
	direct, target := h.host.Dial, h.device.MQTTAddress
	proxy := serving(t, func(c net.Conn) {
		hello := make([]byte, 3) // version 5, one method: none
		if _, err := io.ReadFull(c, hello); err != nil {
			return
		}
		_, _ = c.Write([]byte{5, 0})
		head := make([]byte, 5) // version, connect, 0, a name, its length
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, c, int64(head[4])+2); err != nil { // name and port
			return
		}
		to, err := direct(context.Background(), "tcp", target)
		if err != nil {
			return
		}
		defer to.Close()
		_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		go func() { _, _ = io.Copy(to, c); _ = to.Close() }()
		_, _ = io.Copy(c, to)
	})
	h.host.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		switch address {
		case target:
			return nil, errors.New("no route to host")
		case "socks.example:1080":
			return (&net.Dialer{}).DialContext(ctx, network, proxy)
		}
		return direct(ctx, network, address)
	}
}

func TestMQTTGoesThroughTheSOCKSProxyAsTheAgentsSessionDoes(t *testing.T) {
	for name, tc := range map[string]struct {
		env  map[string]string
		want doctor.Status
	}{
		"none":                   {nil, doctor.Failed},
		"SOCKS":                  {map[string]string{"ALL_PROXY": "socks5://socks.example"}, doctor.OK},
		"in small letters":       {map[string]string{"all_proxy": "socks5h://socks.example:1080"}, doctor.OK},
		"one that is not for it": {map[string]string{"ALL_PROXY": "socks5://socks.example", "NO_PROXY": "*.example"}, doctor.Failed},
		"HTTP does not help":     {map[string]string{"ALL_PROXY": "http://socks.example:1080"}, doctor.Failed},
		"one that is not there":  {map[string]string{"ALL_PROXY": "socks5://127.0.0.1:1"}, doctor.Failed},
		"one that is no address": {map[string]string{"ALL_PROXY": "://x"}, doctor.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHealthy(t)
			h.closed["127.0.0.1:1"] = true
			socksTo(t, h)
			setenv(h, tc.env)
			assert.Equal(t, tc.want, result(t, h, "D309").Status)
			if tc.want == doctor.OK {
				assert.Equal(t, doctor.OK, result(t, h, "D310").Status)
			}
		})
	}
}
