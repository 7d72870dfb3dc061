package world

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Options of a ggfleet. The zero value is a good one.
type Options struct {
	Flags []string // further flags of serve
	Env   []string // further environment, NAME=value
	Dir   string   // data directory; default: one that the test removes
	Bin   string   // binary; default: Binary()
	Host  string   // address to listen on and to be reached at; default 127.0.0.1
	Later bool     // Start starts nothing yet: TryStart or Restart does
}

// World is a running ggfleet. Its addresses and data stay over Restart. Methods
// may be called by several goroutines, except those that stop and start it.
type World struct {
	Dir       string // data directory
	API       string // URL of the fleet API
	AWS       string // URL of the AWS endpoint
	MQTT      string // host:port, as are the next two
	Device    string
	Artifacts string
	Token     string // of the admin
	CAFile    string // CA bundle, PEM
	Roots     *x509.CertPool

	opts   Options
	bin    string
	client *http.Client
	log    *logFile
	proc   *process // nil: not running
	ports  []port
	s3     func() (*objects, error)
}

// Start starts a ggfleet and waits until it is ready. The test's end stops it
// and, if the test failed, shows the end of its log.
func Start(t testing.TB, o Options) *World {
	t.Helper()
	bin, err := o.Bin, error(nil)
	if bin == "" {
		bin, err = Binary()
	}
	require.NoError(t, err)
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "data")
	}
	w := &World{Dir: o.Dir, CAFile: filepath.Join(o.Dir, "ca.pem"), opts: o, bin: bin, client: &http.Client{
		Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	}}
	w.s3 = sync.OnceValues(w.openObjects)
	w.log, err = newLogFile(filepath.Join(t.TempDir(), "ggfleet.log"))
	require.NoError(t, err)
	t.Cleanup(func() { w.end(t) })
	for try := 0; ; try++ {
		w.choosePorts()
		if o.Later {
			return w
		}
		err := w.TryStart()
		if err == nil {
			return w
		}
		if try == 5 || !strings.Contains(err.Error(), "is taken by another process") {
			require.NoError(t, err)
		}
	}
}

// TryStart is Restart for a start that may fail: the process may die, or refuse
// to start. Then nothing runs.
func (w *World) TryStart(env ...string) error {
	if err := w.start(env); err != nil {
		w.gone()
		return err
	}
	token, err := os.ReadFile(filepath.Join(w.Dir, "admin.token"))
	if err != nil {
		return err
	}
	w.Token = strings.TrimSpace(string(token))
	bundle, err := os.ReadFile(w.CAFile)
	if err != nil {
		return err
	}
	w.Roots = x509.NewCertPool()
	if !w.Roots.AppendCertsFromPEM(bundle) {
		return fmt.Errorf("%s holds no certificate", w.CAFile)
	}
	return nil
}

// NewPorts takes other ports, for a ggfleet that was never started: between
// choosing them and its start somebody else may have taken one.
func (w *World) NewPorts(t testing.TB) {
	t.Helper()
	require.Empty(t, w.Token, "clients know the ports already")
	w.choosePorts()
}

func (w *World) choosePorts() {
	w.freePorts()
	var addrs [5]string
	for i := range addrs {
		p := takePort(cmp.Or(w.opts.Host, "127.0.0.1"))
		w.ports = append(w.ports, p)
		addrs[i] = p.addr
	}
	w.API, w.AWS = "http://"+addrs[0], "http://"+addrs[1]
	w.MQTT, w.Device, w.Artifacts = addrs[2], addrs[3], addrs[4]
}

func (w *World) freePorts() {
	for _, p := range w.ports {
		p.free()
	}
	w.ports = nil
}

func (w *World) args() []string {
	flags := w.opts.Flags
	if w.opts.Host != "" {
		flags = append([]string{"--public-host", w.opts.Host}, flags...)
	}
	return append([]string{
		"serve", "--data-dir", w.Dir, "--http-addr", strings.TrimPrefix(w.API, "http://"), "--aws-addr", strings.TrimPrefix(w.AWS, "http://"),
		"--mqtt-addr", w.MQTT, "--device-addr", w.Device, "--artifact-addr", w.Artifacts,
	}, flags...)
}

// TLS is how a device speaks to this world: cert and our roots.
func (w *World) TLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.Roots, Certificates: []tls.Certificate{cert}}
}

// Restart starts ggfleet again on the same data and ports, after it was stopped,
// killed or died, and waits until it is ready. env is further environment of this
// process only.
func (w *World) Restart(t testing.TB, env ...string) {
	t.Helper()
	require.Nil(t, w.proc, "ggfleet still runs: stop it, kill it or wait for its end first")
	require.NoError(t, w.TryStart(env...))
}

// Kill9 kills the process as a power cut would, and waits for its end.
func (w *World) Kill9(t testing.TB) {
	t.Helper()
	require.NotNil(t, w.proc, "ggfleet does not run")
	require.NoError(t, w.proc.cmd.Process.Kill())
	_ = w.proc.wait(patience)
	w.gone()
}

// Stop asks the process to end, as a service manager would, and requires that it
// does so in order.
func (w *World) Stop(t testing.TB) {
	t.Helper()
	require.NotNil(t, w.proc, "ggfleet does not run")
	require.NoError(t, w.proc.cmd.Process.Signal(os.Interrupt))
	require.NoError(t, w.proc.wait(patience), "ggfleet did not end in order")
	w.gone()
}

// WaitExit waits until the process ended by itself and returns how: nil for
// status 0.
func (w *World) WaitExit(t testing.TB) error {
	t.Helper()
	require.NotNil(t, w.proc, "ggfleet does not run")
	err := w.proc.wait(patience)
	if !errors.Is(err, errRuns) {
		w.gone()
	}
	return err
}

// Ended is closed once the running process has ended by itself.
func (w *World) Ended() <-chan struct{} { return w.proc.ended }

// Signal sends the running process a signal.
func (w *World) Signal(t testing.TB, s os.Signal) {
	t.Helper()
	require.NotNil(t, w.proc, "ggfleet does not run")
	require.NoError(t, w.proc.cmd.Process.Signal(s))
}

// PID is the id of the running process.
func (w *World) PID() int { return w.proc.cmd.Process.Pid }

// Logs is what all processes of this world logged, one JSON record a line.
func (w *World) Logs() string { return w.log.text() }

func (w *World) gone() {
	w.proc = nil
	w.client.CloseIdleConnections()
}

func (w *World) end(t testing.TB) {
	if w.proc != nil {
		_ = w.proc.cmd.Process.Signal(os.Interrupt)
		if errors.Is(w.proc.wait(patience), errRuns) {
			_ = w.proc.cmd.Process.Signal(syscall.SIGQUIT) // says what it is at
			_ = w.proc.wait(time.Minute)
			text := w.log.text()
			t.Errorf("ggfleet did not stop; it was at:\n%s", text[max(0, strings.LastIndex(text, "SIGQUIT")):])
		}
		w.gone()
	}
	w.freePorts()
	if t.Failed() {
		text := w.log.text()
		t.Logf("the end of ggfleet's log:\n%s", text[max(0, len(text)-4<<10):])
	}
	if err := w.log.close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		t.Log(fmt.Errorf("closing the log: %w", err))
	}
}
