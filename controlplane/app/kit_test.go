package app_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/app"
	"github.com/ggfleet/ggfleet/controlplane/internal/s3store"
	"github.com/ggfleet/ggfleet/controlplane/internal/s3store/s3test"
)

func TestMain(m *testing.M) {
	s3test.Helper()
	os.Exit(m.Run())
}

// config loads a configuration from flags; ports are free ones.
func config(t *testing.T, dir string, args ...string) app.Config {
	t.Helper()
	c, err := load(append([]string{
		"--data-dir", dir, "--http-addr", "127.0.0.1:0", "--aws-addr", "127.0.0.1:0", "--mqtt-addr", "127.0.0.1:0",
		"--device-addr", "127.0.0.1:0", "--artifact-addr", "127.0.0.1:0", "--public-host", "127.0.0.1", "--s3-fsync=false",
	}, args...))
	require.NoError(t, err)
	return c
}

func load(args []string) (app.Config, error) {
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	app.Flags(f)
	if err := f.Parse(args); err != nil {
		return app.Config{}, err
	}
	return app.Load(f)
}

// running is a control plane that serves.
type running struct {
	app       *app.App
	t         *testing.T
	cfg       app.Config
	addresses map[string]string // as the record "ready" names them
	logs      *records
	stop      func() // ends it and waits; more than one call does nothing
	http      *http.Client
}

// serve starts a control plane and waits until it is ready.
func serve(t *testing.T, cfg app.Config) *running {
	t.Helper()
	t.Chdir(".") // the embedded S3 server goes to its own directory; come back at the end
	r := &running{t: t, cfg: cfg, logs: &records{ready: make(chan map[string]string, 1)}}
	ctx, cancel := context.WithCancel(t.Context())
	a, err := app.New(ctx, cfg, slog.New(slog.NewJSONHandler(r.logs, nil)))
	if err != nil {
		cancel()
	}
	require.NoError(t, err)
	r.app = a
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			assert.NoError(t, <-done)
			r.http.CloseIdleConnections()
		})
	}
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(filepath.Join(cfg.DataDir, "ca.pem"))
	require.NoError(t, err)
	require.True(t, pool.AppendCertsFromPEM(pem))
	r.http = &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	t.Cleanup(r.stop)
	select {
	case r.addresses = <-r.logs.ready:
	case err := <-done:
		done <- err
		require.FailNow(t, "ended before it was ready", "%v\n%s", err, r.logs)
	}
	return r
}

// call sends a request to the fleet API and returns status, header and body.
func (r *running) call(method, path, body string) (int, http.Header, []byte) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.addresses["api"]+path, strings.NewReader(body))
	require.NoError(r.t, err)
	token, err := os.ReadFile(filepath.Join(r.cfg.DataDir, "admin.token"))
	require.NoError(r.t, err)
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(path, "/components") {
		req.Header.Set("Content-Type", "application/yaml")
	}
	res, err := r.http.Do(req)
	require.NoError(r.t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	require.NoError(r.t, err)
	return res.StatusCode, res.Header, b
}

// get reads a JSON document until want accepts it.
func get[V any](r *running, path string, want func(V) bool) V {
	r.t.Helper()
	for {
		var v V
		status, _, b := r.call(http.MethodGet, path, "")
		require.Equal(r.t, http.StatusOK, status, "%s", b)
		require.NoError(r.t, json.Unmarshal(b, &v))
		if want(v) {
			return v
		}
		select {
		case <-r.t.Context().Done():
			require.FailNow(r.t, "the test ended", "%s", b)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// records are log records; ready gets the addresses of the one that says so.
type records struct {
	mu    sync.Mutex
	all   bytes.Buffer
	ready chan map[string]string
}

func (l *records) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.Write(b)
	var v map[string]any
	if json.Unmarshal(b, &v) == nil && v["msg"] == "ready" {
		out := map[string]string{}
		for k, x := range v {
			out[k], _ = x.(string)
		}
		l.ready <- out
	}
	return len(b), nil
}

func (l *records) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// device is a client of the MQTT gateway: MQTT 3.1.1, QoS 0, and no more than
// the walk of one core needs.
type device struct {
	t    *testing.T
	conn net.Conn
}

func dial(t *testing.T, addr string, cert tls.Certificate, pool *x509.CertPool, clientID string) *device {
	t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1"}}).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Minute)))
	d := &device{t, conn}
	d.send(0x10, text("MQTT"), []byte{4, 2, 0, 60}, text(clientID))
	typ, body := d.packet()
	require.Equal(t, byte(0x20), typ)
	require.Equal(t, []byte{0, 0}, body)
	return d
}

func text(s string) []byte { return append([]byte{byte(len(s) >> 8), byte(len(s))}, s...) }

func (d *device) send(typ byte, parts ...[]byte) {
	d.t.Helper()
	body := bytes.Join(parts, nil)
	head := []byte{typ}
	for n := len(body); ; n >>= 7 {
		if n < 128 {
			head = append(head, byte(n))
			break
		}
		head = append(head, byte(n&127)|128)
	}
	_, err := d.conn.Write(append(head, body...))
	require.NoError(d.t, err)
}

func (d *device) packet() (typ byte, body []byte) {
	d.t.Helper()
	one := make([]byte, 1)
	_, err := io.ReadFull(d.conn, one)
	require.NoError(d.t, err)
	typ = one[0]
	n := 0
	for shift := 0; ; shift += 7 {
		_, err := io.ReadFull(d.conn, one)
		require.NoError(d.t, err)
		n |= int(one[0]&127) << shift
		if one[0] < 128 {
			break
		}
	}
	body = make([]byte, n)
	_, err = io.ReadFull(d.conn, body)
	require.NoError(d.t, err)
	return typ, body
}

func (d *device) publish(topic, payload string) {
	d.t.Helper()
	d.send(0x30, text(topic), []byte(payload))
}

func (d *device) subscribe(filter string) {
	d.t.Helper()
	d.send(0x82, []byte{0, 1}, text(filter), []byte{0})
	typ, body := d.packet()
	require.Equal(d.t, byte(0x90), typ)
	require.Equal(d.t, []byte{0, 1, 0}, body)
}

// await reads until a message on topic comes and returns its payload.
func (d *device) await(topic string) []byte {
	d.t.Helper()
	for {
		typ, body := d.packet()
		if typ&0xf0 != 0x30 {
			continue
		}
		n := int(body[0])<<8 | int(body[1])
		if string(body[2:2+n]) == topic {
			return body[2+n:]
		}
	}
}

// object reads one object of an S3 server.
func object(t *testing.T, cfg s3store.Config, key string) []byte {
	t.Helper()
	s, err := s3store.New(cfg)
	require.NoError(t, err)
	f, _, err := s.Open(t.Context(), key)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(f)
	require.NoError(t, err)
	return b
}
