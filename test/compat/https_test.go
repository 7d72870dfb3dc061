package compat_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/internal/world"
)

const recipe = `{"RecipeFormatVersion":"2020-01-25","ComponentName":"com.example.Press","ComponentVersion":"1.2.0",
"Manifests":[{"Platform":{"os":"linux"},"Lifecycle":{"run":"sleep 1"}}]}`

const resolveBody = `{"componentCandidates":[{"componentName":"%","versionRequirements":{"requirements":">=1.0.0 <2.0.0"}}],"platform":{"name":"linux","attributes":{"os":"linux"}}}`

// exchange sends one request over one TLS connection that negotiates just what
// is asked for, without a transport that knows better.
func exchange(t *testing.T, w *world.World, conf *tls.Config, method, path, body string, header ...string) (*http.Response, []byte) {
	t.Helper()
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: conf, DisableKeepAlives: true, ForceAttemptHTTP2: len(conf.NextProtos) > 0 && conf.NextProtos[0] == "h2",
	}}
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+w.Device+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, b
}

func TestDeviceHTTPSSpeaksWhatRuntimesNegotiate(t *testing.T) {
	w := world.Start(t, world.Options{})
	w.PutComponent(t, []byte(recipe), nil)
	core := w.CreateCores(t, "press-07")[0]
	leaf := core.Certificate
	leaf.Certificate = leaf.Certificate[:1]
	tests := map[string]struct {
		change func(*tls.Config)
		proto  string
	}{
		"HTTP/2, as lite offers it":          {func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, "HTTP/2.0"},
		"HTTP/1.1":                           {func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, "HTTP/1.1"},
		"AWS's name for client certificates": {func(c *tls.Config) { c.NextProtos = []string{"x-amzn-http-ca"} }, "HTTP/1.1"},
		"no ALPN":                            {func(*tls.Config) {}, "HTTP/1.1"},
		"TLS 1.2":                            {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "HTTP/1.1"},
		"a server name":                      {func(c *tls.Config) { c.ServerName = "localhost" }, "HTTP/1.1"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			conf := w.TLS(leaf)
			tc.change(conf)
			res, body := exchange(t, w, conf, http.MethodPost, "/greengrass/v2/resolveComponentCandidates", strings.Replace(resolveBody, "%", "com.example.Press", 1))
			assert.Equal(t, tc.proto, res.Proto)
			require.Equal(t, http.StatusOK, res.StatusCode, "%s", body)
			var got struct {
				Resolved []struct {
					Version string `json:"componentVersion"`
					Recipe  []byte `json:"recipe"`
				} `json:"resolvedComponentVersions"`
			}
			require.NoError(t, json.Unmarshal(body, &got))
			require.Len(t, got.Resolved, 1)
			assert.Equal(t, "1.2.0", got.Resolved[0].Version)
			assert.True(t, json.Valid(got.Resolved[0].Recipe))
		})
	}
	t.Run("thing groups as lite and as classic read them", func(t *testing.T) {
		const path = "/greengrass/v2/coreDevices/press-07/thingGroups"
		_, body := exchange(t, w, w.TLS(leaf), http.MethodGet, path, "", "User-Agent", "")
		assert.JSONEq(t, `{"thingGroups":[{"thingGroupName":"press-07"}]}`, string(body))
		_, body = exchange(t, w, w.TLS(leaf), http.MethodGet, path, "", "User-Agent", "aws-sdk-java/2.20")
		assert.JSONEq(t, `{"thingGroups":[]}`, string(body))
	})
	t.Run("credentials", func(t *testing.T) {
		res, body := exchange(t, w, w.TLS(leaf), http.MethodGet, "/role-aliases/GGFleetTokenExchangeRoleAlias/credentials", "", "x-amzn-iot-thingname", "press-07")
		require.Equal(t, http.StatusOK, res.StatusCode, "%s", body)
		var got struct {
			Credentials struct {
				AccessKeyID string    `json:"accessKeyId"`
				Secret      string    `json:"secretAccessKey"`
				Token       string    `json:"sessionToken"`
				Expiration  time.Time `json:"expiration"`
			} `json:"credentials"`
		}
		require.NoError(t, json.Unmarshal(body, &got))
		assert.NotEmpty(t, got.Credentials.AccessKeyID)
		assert.NotEmpty(t, got.Credentials.Secret)
		assert.NotEmpty(t, got.Credentials.Token)
		assert.True(t, got.Credentials.Expiration.After(time.Now()))
	})
}

func TestDeviceHTTPSRefuses(t *testing.T) {
	w := world.Start(t, world.Options{})
	cores := w.CreateCores(t, "press-07", "press-08")
	own, other, none := w.TLS(cores[0].Certificate), w.TLS(cores[1].Certificate), &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.Roots}
	const groups = "/greengrass/v2/coreDevices/press-07/thingGroups"
	const credentials = "/role-aliases/GGFleetTokenExchangeRoleAlias/credentials"
	const resolve = "/greengrass/v2/resolveComponentCandidates"
	tests := map[string]struct {
		conf               *tls.Config
		method, path, body string
		header             []string
		status             int
	}{
		"who has no certificate":                 {none, "GET", groups, "", nil, 403},
		"another thing's groups":                 {other, "GET", groups, "", nil, 403},
		"credentials in another thing's name":    {other, "GET", credentials, "", []string{"x-amzn-iot-thingname", "press-07"}, 403},
		"an alias that its policies do not name": {own, "GET", "/role-aliases/Admin/credentials", "", nil, 403},
		"a component that is not there":          {own, "POST", resolve, strings.Replace(resolveBody, "%", "com.example.None", 1), nil, 404},
		"a body that is no JSON":                 {own, "POST", resolve, "{", nil, 400},
		"a body without end":                     {own, "POST", resolve, `{"x":"` + strings.Repeat("x", 100<<10) + `"}`, nil, 413},
		"an agent's call by a core":              {own, "GET", protocol.PathAgentCore, "", nil, 403},
		"an operation that is not there":         {own, "GET", "/greengrass/v2/things", "", nil, 404},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			res, body := exchange(t, w, tc.conf, tc.method, tc.path, tc.body, tc.header...)
			assert.Equal(t, tc.status, res.StatusCode, "%s", body)
			assert.True(t, json.Valid(body), "%s", body)
		})
	}
	stranger, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(cores[0].Certificate.Certificate[0])
	require.NoError(t, err)
	copied := &x509.Certificate{SerialNumber: parsed.SerialNumber, Subject: parsed.Subject, NotBefore: parsed.NotBefore, NotAfter: parsed.NotAfter}
	forged, err := x509.CreateCertificate(rand.Reader, copied, copied, stranger.Public(), stranger)
	require.NoError(t, err)
	for name, conf := range map[string]*tls.Config{
		"a certificate that copies a core's names": {MinVersion: tls.VersionTLS12, RootCAs: w.Roots, Certificates: []tls.Certificate{{Certificate: [][]byte{forged}, PrivateKey: stranger}}},
		"a core's certificate without its key":     {MinVersion: tls.VersionTLS12, RootCAs: w.Roots, Certificates: []tls.Certificate{{Certificate: cores[0].Certificate.Certificate, PrivateKey: stranger}}},
		"TLS 1.1":                                  {MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11, RootCAs: w.Roots, Certificates: own.Certificates},
	} {
		for _, addr := range []string{w.Device, w.MQTT} {
			t.Run(name+" at "+addr, func(t *testing.T) {
				conn, err := tls.Dial("tcp", addr, conf)
				if err != nil {
					return // TLS 1.2: within the handshake
				}
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
				_, _ = conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
				_, err = conn.Read(make([]byte, 1))
				require.Error(t, err)
			})
		}
	}
}

// The MQTT listener takes the name that classic offers on every port.
func TestTheGatewayNegotiatesWhatRuntimesOffer(t *testing.T) {
	w := world.Start(t, world.Options{})
	core := w.CreateCores(t, "press-07")[0]
	for _, offered := range []string{"x-amzn-mqtt-ca", "mqtt", ""} {
		t.Run("ALPN "+offered, func(t *testing.T) {
			conf := w.TLS(core.Certificate)
			if offered != "" {
				conf.NextProtos = []string{offered}
			}
			conn, err := tls.Dial("tcp", w.MQTT, conf)
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			assert.Equal(t, offered, conn.ConnectionState().NegotiatedProtocol)
			_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
			// CONNECT of MQTT 3.1.1: clean session, keep-alive 30 s, client id press-07.
			_, err = conn.Write(append([]byte{0x10, 20, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 30, 0, 8}, core.Name...))
			require.NoError(t, err)
			connack := make([]byte, 4)
			_, err = io.ReadFull(bufio.NewReader(conn), connack)
			require.NoError(t, err)
			assert.True(t, bytes.Equal([]byte{0x20, 2, 0, 0}, connack), "% x", connack)
		})
	}
}
