// Package s3test runs an S3 server in a second process, for tests that want an
// external S3. The process is the test binary itself, so its TestMain must call
// [Helper] first. Only tests may import it.
package s3test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/s3store"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// The credentials and the region of the server.
const (
	AccessKey = "S3TESTROOTACCESSKEY0"
	Secret    = "s3-test-root-secret-0123456789abcdefghij"
	Region    = "us-east-1"
)

const helperEnv = "GGFLEET_S3TEST_DIR"

// Helper turns the process into the S3 server if Start started it as that, and
// does not return then. It ends when its standard input does.
func Helper() {
	dir := os.Getenv(helperEnv)
	if dir == "" {
		return
	}
	if err := serve(dir, os.Getenv(helperEnv+"_ADDR")); err != nil {
		fmt.Fprintln(os.Stderr, "s3test:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(dir, addr string) error {
	e, err := s3store.StartEmbedded(s3store.EmbeddedConfig{
		Dir: dir, Region: Region, RootKey: AccessKey, RootSecret: logx.NewSecret(Secret),
	})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("listening", ln.Addr())
	srv := &http.Server{Handler: e.Proxy(), ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(ln) //nolint:errcheck // ends with the process
	_, _ = io.Copy(io.Discard, os.Stdin)
	return e.Close()
}

// Server is an S3 server in another process.
type Server struct {
	Endpoint string // host:port, plain HTTP; the same after a Restart

	t     testing.TB
	dir   string
	cmd   *exec.Cmd
	stdin io.Closer
}

// Start starts a server on a free port; the test's cleanup ends it.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir()}
	t.Cleanup(s.Kill)
	for range 10 { // somebody else may have the port
		// Below those that a system gives to clients: none shall have it when the server
		// is to come back.
		s.Endpoint = fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(22000))
		if s.start() == nil {
			return s
		}
	}
	s.Restart()
	return s
}

// Kill ends the process as kill -9 does. Killing a dead one does nothing.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = s.stdin.Close()
	s.cmd = nil
}

// Restart starts the process again with the same data on the same address.
func (s *Server) Restart() {
	s.t.Helper()
	require.NoError(s.t, s.start())
}

func (s *Server) start() error {
	s.t.Helper()
	exe, err := os.Executable()
	require.NoError(s.t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), helperEnv+"="+s.dir, helperEnv+"_ADDR="+s.Endpoint)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(s.t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, cmd.Start())
	s.cmd, s.stdin = cmd, stdin
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		s.Kill()
		return fmt.Errorf("the server on %s ended before it listened: %w", s.Endpoint, err)
	}
	return nil
}

// Config returns how to reach bucket of this server.
func (s *Server) Config(bucket string) s3store.Config {
	return s3store.Config{
		Endpoint: s.Endpoint, Bucket: bucket, Region: Region,
		AccessKey: AccessKey, SecretKey: logx.NewSecret(Secret), PathStyle: true,
	}
}
