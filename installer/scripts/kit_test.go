//go:build unix

package scripts_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tools are what install.sh may use of a system; a device has no others here.
var tools = []string{
	"awk", "base64", "cat", "chmod", "cp", "dirname", "grep", "gzip", "head", "mkdir", "mktemp", "mv", "rm", "sed", "sha256sum", "tail", "tar", "tr", "wc",
}

// device is where install.sh runs: a folder for programs, one for what is
// installed, and an agent that notes what it is told.
type device struct {
	t      *testing.T
	shell  []string
	bin    string // PATH
	prefix string
	log    string // what the agent was told
	env    []string
}

// shells are those of this host that a device may have.
func shells() map[string][]string {
	found := map[string][]string{}
	for name, argv := range map[string][]string{"sh": {"sh"}, "dash": {"dash"}, "busybox": {"busybox", "sh"}, "bash": {"bash", "--posix"}} {
		if path, err := exec.LookPath(argv[0]); err == nil {
			found[name] = append([]string{path}, argv[1:]...)
		}
	}
	return found
}

func newDevice(t *testing.T, shell []string, more ...string) *device {
	t.Helper()
	dir := t.TempDir()
	d := &device{t: t, shell: shell, bin: filepath.Join(dir, "bin"), prefix: filepath.Join(dir, "prefix"), log: filepath.Join(dir, "agent.log")}
	require.NoError(t, os.Mkdir(d.bin, 0o755))
	require.FileExists(t, "install.sh") // so the cache of test results knows of it
	for _, tool := range slices.Concat(tools, more) {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Skipf("there is no %s here", tool)
		}
		require.NoError(t, os.Symlink(path, filepath.Join(d.bin, tool)))
	}
	d.fake("id", "echo 0")
	d.fake("uname", `case $1 in -s) echo Linux ;; *) echo x86_64 ;; esac`)
	d.fake("getconf", "echo 64")
	return d
}

// fake makes a program of the device.
func (d *device) fake(name, script string) {
	require.NoError(d.t, os.WriteFile(filepath.Join(d.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
}

// run runs install.sh and returns what it printed and its exit status. Nobody is
// there to be asked.
func (d *device) run(stdin string, args ...string) (string, int) {
	d.t.Helper()
	argv := slices.Concat(d.shell, []string{"install.sh"}, args)
	cmd := exec.CommandContext(d.t.Context(), argv[0], argv[1:]...)
	cmd.Env = append([]string{"PATH=" + d.bin, "HOME=" + d.t.TempDir(), "TMPDIR=" + d.t.TempDir(), "AGENT_LOG=" + d.log}, d.env...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		require.NoError(d.t, err)
	}
	left, err := os.ReadDir(strings.TrimPrefix(cmd.Env[2], "TMPDIR="))
	require.NoError(d.t, err)
	require.Empty(d.t, left, "it clears up")
	return string(out), cmd.ProcessState.ExitCode()
}

// installed is the version that lies at the prefix, or "".
func (d *device) installed() string {
	b, err := os.ReadFile(filepath.Join(d.prefix, "bin/ggfleet-agent"))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), "# version ")
	version, _, _ := strings.Cut(rest, "\n")
	return version
}

func (d *device) told() string {
	b, _ := os.ReadFile(d.log)
	return string(b)
}

// agent is a program that says which version it is, and notes all else.
func agent(version string) []byte {
	return fmt.Appendf(nil, `#!/bin/sh
# version %s
case $1 in
version) echo ggfleet-agent %[1]s 0123abc ;;
enroll) read -r s; echo "$* <$s> https_proxy=$https_proxy" >>"$AGENT_LOG" ;;
*) echo "$*" >>"$AGENT_LOG" ;;
esac
`, version)
}

// release is a folder of a release: name → content.
type release map[string][]byte

func newRelease(t *testing.T, versions ...string) release {
	t.Helper()
	r := release{}
	for _, v := range versions {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		w := tar.NewWriter(z)
		program := agent(v)
		require.NoError(t, w.WriteHeader(&tar.Header{Name: "ggfleet-agent", Mode: 0o755, Size: int64(len(program))}))
		_, err := w.Write(program)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		require.NoError(t, z.Close())
		for _, platform := range []string{"linux_amd64", "linux_arm64", "linux_arm", "darwin_arm64"} {
			r["ggfleet-agent_"+v+"_"+platform+".tar.gz"] = b.Bytes()
			r["ggfleet-agent_"+v+"_"+platform] = program
		}
		r["ggfleet-agent_"+v+"_linux_amd64.deb"] = []byte("deb")
		r["ggfleet-agent_"+v+"_linux_arm.deb"] = []byte("deb")
		r["ggfleet-agent_"+v+"_linux_amd64.rpm"] = []byte("rpm")
	}
	r.sum()
	return r
}

func (r release) sum() {
	delete(r, "SHA256SUMS")
	var sums strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r)) {
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(r[name]), name)
	}
	r["SHA256SUMS"] = []byte(sums.String())
}

func (r release) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range r {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	return dir
}

// authority is a CA.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (a *authority) fingerprint() string {
	sum := sha256.Sum256(a.cert.Raw)
	return hex.EncodeToString(sum[:])
}

func (a *authority) leaf(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost", "fleet.invalid"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// server serves r at /install/, with ca.pem as given, and returns its host:port.
func server(t *testing.T, r release, by *authority, ca []byte) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name, ok := strings.CutPrefix(req.URL.Path, "/install/")
		content := r[name]
		if name == "ca.pem" {
			content = ca
		}
		if !ok || content == nil {
			http.NotFound(w, req)
			return
		}
		_, _ = w.Write(content)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{by.leaf(t)}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// proxy lets through to the host:port to whatever is asked for, and counts.
func proxy(t *testing.T, to string) (url string, used *atomic.Int32) {
	t.Helper()
	used = &atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodConnect {
			http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
			return
		}
		used.Add(1)
		out, err := net.Dial("tcp", to)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer out.Close()
		in, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer in.Close()
		_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(out, in)
			_ = out.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(in, out)
	}))
	t.Cleanup(s.Close)
	return s.URL, used
}
