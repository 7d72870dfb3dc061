package fault_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// progress waits until a core task has results for at least n cores, but not all.
func (s *story) progress(path string, n int) {
	s.t.Helper()
	s.until(func() string {
		var task world.Task
		s.get(path, &task)
		done := 0
		for _, c := range task.Cores {
			if c.Status == "Success" {
				done++
			}
		}
		if done >= n {
			return ""
		}
		return fmt.Sprintf("%d of %d cores have a result", done, n)
	})
}

func (s *story) postCores(names []string) string {
	s.t.Helper()
	a := s.insist(http.MethodPost, "/coreTasks", "create", world.NewCores(names...))
	require.Equal(s.t, http.StatusAccepted, a.Status, "%s", a.Body)
	return a.Header.Get("Location")
}

// succeeded requires that a core task ended well, and each core at the first try.
func (s *story) succeeded(path string, names []string) {
	s.t.Helper()
	task := s.ended(path)
	require.Equal(s.t, "Success", task.Status)
	require.Len(s.t, task.Cores, len(names))
	for _, c := range task.Cores {
		assert.Equal(s.t, world.TaskItem{Name: c.Name, Status: "Success"}, c)
	}
}

// A second ggfleet is the S3 of the first. It is killed in the middle of a core
// task, and stays away longer than the first retries.
func TestTheArtifactStoreGoesAwayInTheMiddleOfATask(t *testing.T) {
	t.Parallel()
	store := world.Start(t, world.Options{Flags: []string{"--s3-fsync=false"}})
	w := world.Start(t, world.Options{Flags: externalS3(t, store)})
	s := newStory(t, w)
	names := coreNames(300)
	path := s.postCores(names)
	s.progress(path, 20)
	store.Kill9(t)

	// Nothing fails meanwhile, and who asks is told the truth.
	pause := time.NewTimer(4 * time.Second)
	defer pause.Stop()
	<-pause.C
	var task world.Task
	s.get(path, &task)
	assert.NotEqual(t, "Failure", task.Status)
	ready, err := s.ask(http.MethodGet, "/readyz", "", nil)
	require.NoError(t, err)
	if task.Status != "Success" {
		assert.Equal(t, http.StatusServiceUnavailable, ready.Status)
	}

	store.Restart(t)
	s.succeeded(path, names)
	s.finish()
	store.Stop(t)
	l := &ledger{w.Dump(t), objects(t, store.Dir)}
	l.registry(t, names)
	l.tasks(t, map[string]int{"core": 1})
}

func externalS3(t *testing.T, store *world.World) []string {
	t.Helper()
	key := store.NewAccessKey(t)
	return []string{"--s3-endpoint=" + store.AWS, "--s3-access-key=" + key.ID, "--s3-secret-key=" + key.Secret}
}

// etcd is an etcd in a process of its own.
type etcd struct {
	t        *testing.T
	dir      string
	endpoint string
	cmd      *exec.Cmd
}

var etcdBinary = sync.OnceValues(func() (string, error) {
	at, err := world.Root()
	if err != nil {
		return "", err
	}
	out := filepath.Join(at, "bin", "test", "etcd")
	cmd := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=false", "-trimpath", "-tags=nomsgpack", "-o", out, "./internal/etcdstore/etcdtest/cmd/etcd")
	cmd.Dir = filepath.Join(at, "controlplane")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building etcd: %w\n%s", err, text)
	}
	return out, nil
})

func startEtcd(t *testing.T) *etcd {
	t.Helper()
	e := &etcd{t: t, dir: t.TempDir(), endpoint: world.Port(t)}
	e.start()
	t.Cleanup(func() {
		if e.cmd != nil {
			e.kill()
		}
	})
	return e
}

func (e *etcd) start() {
	e.t.Helper()
	bin, err := etcdBinary()
	require.NoError(e.t, err)
	url, peer := "http://"+e.endpoint, "http://127.0.0.1:0" // a single member never calls its peers
	e.cmd = exec.Command(bin, "--name=test", "--data-dir="+e.dir+"/data", "--log-level=error",
		"--listen-client-urls="+url, "--advertise-client-urls="+url,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=test="+peer)
	_, err = e.cmd.StdinPipe() // closes with this process, and the etcd with it
	require.NoError(e.t, err)
	require.NoError(e.t, e.cmd.Start())
	world.Eventually(e.t, func() string {
		res, err := http.Get(url + "/health")
		if err != nil {
			return err.Error()
		}
		defer func() { _ = res.Body.Close() }()
		b, _ := io.ReadAll(res.Body)
		if bytes.Contains(b, []byte(`"true"`)) {
			return ""
		}
		return string(b)
	})
}

func (e *etcd) kill() {
	e.t.Helper()
	require.NoError(e.t, e.cmd.Process.Kill())
	_ = e.cmd.Wait()
	e.cmd = nil
}

func TestReplicasOnOneEtcdOutliveItAndEachOther(t *testing.T) {
	t.Parallel()
	db := startEtcd(t)
	store := world.Start(t, world.Options{Flags: []string{"--s3-fsync=false"}})
	seal := filepath.Join(t.TempDir(), "seal.key")
	flags := append(externalS3(t, store), "--etcd-endpoints="+db.endpoint, "--seal-key-file="+seal)
	first := world.Start(t, world.Options{Flags: flags})
	second := world.Start(t, world.Options{Flags: flags})
	// Both replicas run on one host, so that the second has made the admin token anew.
	first.Token = strings.TrimSpace(string(tokenOf(t, first, second)))
	one, two := newStory(t, first), newStory(t, second)

	names := coreNames(300)
	path := one.postCores(names)
	one.progress(path, 20)
	db.kill()
	db.start()
	one.progress(path, 60)
	first.Kill9(t) // its claims end with its lease
	two.succeeded(path, names)
	first.Restart(t)
	first.Token = strings.TrimSpace(string(tokenOf(t, first, second)))

	for _, path := range []string{path, "/cores?count=500", "/cores/" + names[7], "/fleet/summary", "/templates", "/coreTasks", "/ca"} {
		two.until(func() string {
			var a, b any
			two.get(path, &b)
			res, err := one.ask(http.MethodGet, path, "", nil)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(res.Body, &a))
			if assert.ObjectsAreEqual(a, b) {
				return ""
			}
			return fmt.Sprintf("%s differs: %v and %v", path, a, b)
		})
	}
	one.finish()
	two.finish()
	l := &ledger{second.Dump(t), nil}
	store.Stop(t)
	l.objects = objects(t, store.Dir)
	l.registry(t, names)
	l.tasks(t, map[string]int{"core": 1})
}

// tokenOf returns an admin token that is valid on both replicas.
func tokenOf(t *testing.T, worlds ...*world.World) []byte {
	t.Helper()
	for _, w := range worlds {
		b, err := os.ReadFile(filepath.Join(w.Dir, "admin.token"))
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, worlds[0].API+"/coreTasks", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(b)))
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return b
		}
	}
	require.Fail(t, "no replica has a token that is valid")
	return nil
}
