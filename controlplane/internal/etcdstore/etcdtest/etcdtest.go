// Package etcdtest starts real etcd servers for tests: one in this process for
// speed, one in a process of its own for what only a network shows.
package etcdtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore"
)

// shared is the embedded etcd of this test binary while a test uses it.
var shared struct {
	sync.Mutex
	users  int
	dir    string
	server *etcdstore.Embedded
}

// Start returns a client of an etcd in this process. Tests that run at the same
// time share the server, so each works under a prefix of its own, see
// Open, and none compacts.
func Start(t testing.TB) *clientv3.Client {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.users == 0 {
		dir, err := os.MkdirTemp("", "etcdtest")
		require.NoError(t, err)
		shared.dir = dir
		shared.server, err = etcdstore.StartEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: dir})
		if err != nil {
			_ = os.RemoveAll(dir)
		}
		require.NoError(t, err)
	}
	shared.users++
	t.Cleanup(release)
	return shared.server.Client()
}

func release() {
	shared.Lock()
	defer shared.Unlock()
	if shared.users--; shared.users == 0 {
		shared.server.Close()
		_ = os.RemoveAll(shared.dir)
	}
}

// Open returns an empty store of its own in the etcd of Start.
func Open(t testing.TB) *etcdstore.Store {
	t.Helper()
	return etcdstore.New(Start(t), Prefix())
}

// Prefix returns a key prefix that nobody else uses.
func Prefix() string { return "/test-" + rand.Text() }

// StartProcess builds etcd, starts it as a process of its own that listens on a
// free port of 127.0.0.1, and returns its address as host:port. It ends with t.
// The test must run in a package of the controlplane module.
func StartProcess(t testing.TB) (endpoint string) {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "etcd")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin,
		"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest/cmd/etcd")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "build etcd: %s", out)

	for attempt := range 3 { // between choosing a port and binding it, others may take it
		if endpoint, err = startProcess(t, bin, filepath.Join(dir, fmt.Sprint("data", attempt))); err == nil {
			return endpoint
		}
	}
	require.NoError(t, err)
	return ""
}

func startProcess(t testing.TB, bin, dir string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	endpoint := l.Addr().String()
	if err := l.Close(); err != nil {
		return "", err
	}
	url, peer := "http://"+endpoint, "http://127.0.0.1:0" // a single member never calls its peers
	// Ended by Cleanup, after t.Context.
	cmd := exec.Command(bin, "--name=test", "--data-dir="+dir, "--log-level=error",
		"--listen-client-urls="+url, "--advertise-client-urls="+url,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=test="+peer)
	if _, err := cmd.StdinPipe(); err != nil { // closes with this process
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
		cancel()
	}()
	stop := func() {
		_ = cmd.Process.Kill()
		<-exited
	}
	for ctx.Err() == nil {
		client, err := etcdstore.Dial(ctx, etcdstore.DialConfig{Endpoints: []string{endpoint}})
		if err == nil {
			t.Cleanup(stop)
			return endpoint, client.Close()
		}
	}
	stop()
	return "", errors.New("etcd on " + endpoint + " did not answer")
}
