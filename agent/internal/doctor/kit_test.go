package doctor_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/doctor"
	"github.com/ggfleet/ggfleet/shared/pki"
)

const (
	configDocument = `
system: {thingName: gw-1}
services: {aws.greengrass.Nucleus: {configuration: {iotDataEndpoint: fleet.example, iotCredEndpoint: 'fleet.example:8443', greengrassDataPlaneEndpoint: iotdata}}}
`
	now = "2026-11-22T10:00:00Z"
)

// healthy is a device on which everything is as it should be, and its control
// plane. Tests break one thing of it.
type healthy struct {
	host   doctor.Host
	device doctor.Device

	vitals  doctor.Vitals
	volume  map[string]doctor.Volume // by path; "" is every other
	modes   map[string]fs.FileMode
	files   map[string]string
	outputs map[string]string // of commands, by program and last argument
	closed  map[string]bool   // addresses that nobody listens on
	answer  func(w http.ResponseWriter, r *http.Request)

	root       *pki.Authority
	key        crypto.Signer
	serverLife time.Duration
}

func at(t *testing.T, text string) time.Time {
	t.Helper()
	out, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return out
}

func newHealthy(t *testing.T) *healthy {
	t.Helper()
	root, err := pki.NewRoot("root", at(t, now).AddDate(-1, 0, 0), 10*365*24*time.Hour)
	require.NoError(t, err)
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	h := &healthy{
		root: root, key: key, serverLife: 365 * 24 * time.Hour, volume: map[string]doctor.Volume{"": {Bytes: 8 << 30, Free: 4 << 30, Inodes: 1e6, InodesFree: 9e5}},
		modes:   map[string]fs.FileMode{"/device/agent/key.pem": 0o600, "/device/program": 0o755},
		files:   map[string]string{"/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n"},
		outputs: map[string]string{"/usr/bin/java -version": "openjdk version \"17.0.15\" 2025-04-15\n", "systemctl greengrass.service": "active\n"},
		closed:  map[string]bool{},
		answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", at(t, now).Format(http.TimeFormat))
		},
	}
	h.vitals = doctor.Vitals{
		MemoryBytes: ptr(uint64(1 << 30)), MemoryAvailable: ptr(uint64(1 << 29)), Load1: ptr(0.5), Celsius: ptr(45.0), ClockSynchronized: ptr(true), OpenFiles: ptr(uint64(65536)),
	}
	server := h.serve(t)
	h.host = doctor.Host{
		Settle: 50 * time.Millisecond, OS: "linux", Arch: "arm64", CPUs: 4, Root: true, Built: at(t, now).AddDate(0, -2, 0),
		Now:      func() time.Time { return at(t, now) },
		Getenv:   func(string) string { return "" },
		LookPath: func(program string) (string, error) { return "/usr/bin/" + program, nil },
		Stat: func(name string) (fs.FileInfo, error) {
			mode, ok := h.modes[name]
			if !ok {
				return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
			}
			return fileInfo{mode: mode}, nil
		},
		ReadFile: func(name string) ([]byte, error) {
			text, ok := h.files[name]
			if !ok {
				return nil, fs.ErrNotExist
			}
			return []byte(text), nil
		},
		Probe: func(string) error { return nil },
		Runs:  func(context.Context, string) error { return nil },
		Volume: func(path string) (doctor.Volume, error) {
			if v, ok := h.volume[path]; ok {
				return v, nil
			}
			return h.volume[""], nil
		},
		Vitals: func() doctor.Vitals { return h.vitals },
		User:   func(name string) bool { return name == "ggc_user" },
		Group:  func(name string) bool { return name == "ggc_group" },
		Command: func(_ context.Context, program string, args ...string) (string, error) {
			out, ok := h.outputs[program+" "+args[len(args)-1]]
			if !ok {
				return "", errors.New("exit status 1")
			}
			return out, nil
		},
		Interfaces: func() ([]doctor.Interface, error) {
			return []doctor.Interface{{Name: "eth0", Up: true, Addresses: 2}}, nil
		},
		Resolve: func(context.Context, string) ([]string, error) { return []string{"192.0.2.1"}, nil },
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if h.closed[address] {
				return nil, errors.New("connection refused")
			}
			return (&net.Dialer{}).DialContext(ctx, network, server)
		},
	}
	life := doctor.Certificate{NotBefore: at(t, now).AddDate(0, -1, 0), NotAfter: at(t, now).AddDate(1, 0, 0)}
	h.device = doctor.Device{
		Root: "/device", Enrolled: true, Thing: "gw-1:agent", Name: "gw-1", Core: true, URL: "https://fleet.example:8443", AssignmentPath: "/agent/v1/core",
		MQTTAddress: "fleet.example:8883", TLS: h.client(t, h.root), Certificate: life, Service: doctor.ServiceState{Manager: "systemd", Installed: true, Enabled: true, Running: true},
		Secrets: []string{"/device/agent/key.pem"}, Update: doctor.Update{Keys: 1}, Allowed: []string{"patches"},
		Nucleus: doctor.Nucleus{
			Runtime: "classic", Version: "2.18.0", Root: "/greengrass/v2", Program: "/device/program", Running: true, Config: []byte(configDocument), Certificate: life, Trusts: true,
			User: "ggc_user", Group: "ggc_group", Units: []string{"greengrass.service"},
			Files: func(context.Context) error { return nil },
		},
	}
	return h
}

// client is the configuration of an agent that trusts ca.
func (h *healthy) client(t *testing.T, ca *pki.Authority) func(host string) *tls.Config {
	t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	leaf, err := h.root.SignClient(pki.Client{Subject: pkix.Name{CommonName: "gw-1:agent"}, Public: key.Public(), NotAfter: at(t, now).AddDate(1, 0, 0)}, at(t, now))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	return func(host string) *tls.Config {
		return &tls.Config{
			MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: pool, Certificates: []tls.Certificate{pki.TLSCertificate(key, leaf)},
			Time: func() time.Time { return at(t, now) },
		}
	}
}

// serve is HTTPS with client certificates, for every address of the device.
func (h *healthy) serve(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.answer(w, r) }))
	pool := x509.NewCertPool()
	pool.AddCert(h.root.Cert)
	s.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, Time: func() time.Time { return at(t, now) },
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return h.serverCertificate(t), nil },
	}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func (h *healthy) serverCertificate(t *testing.T) *tls.Certificate {
	leaf, err := h.root.SignServer(h.key.Public(), []string{"fleet.example"}, at(t, now).AddDate(0, 0, -30), h.serverLife)
	if err != nil {
		t.Error(err)
	}
	c := pki.TLSCertificate(h.key, leaf)
	return &c
}

type fileInfo struct {
	os.FileInfo
	mode fs.FileMode
}

func (f fileInfo) Mode() fs.FileMode { return f.mode }

func ptr[T any](v T) *T { return &v }
