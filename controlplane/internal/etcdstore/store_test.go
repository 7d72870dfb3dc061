package etcdstore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore"
	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/statetest"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func batch() *state.Batch { return state.NewBatch(state.StepRegistry) }

// ownEtcd is for tests that drop history, which the others' watches would miss.
func ownEtcd(t *testing.T) *clientv3.Client {
	t.Helper()
	e, err := etcdstore.StartEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(e.Close)
	return e.Client()
}

func TestEmbeddedStoreKeepsTheContract(t *testing.T) {
	t.Parallel()
	statetest.Store(t, func(t *testing.T) state.Store { return etcdtest.Open(t) })
}

func TestStoreOfAnotherProcessKeepsTheContract(t *testing.T) {
	t.Parallel()
	endpoint := etcdtest.StartProcess(t)
	client, err := etcdstore.Dial(t.Context(), etcdstore.DialConfig{Endpoints: []string{endpoint}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	statetest.Store(t, func(*testing.T) state.Store { return etcdstore.New(client, etcdtest.Prefix()) })
}

func TestTwoStoresOfOnePrefixSeeEachOthersCommits(t *testing.T) {
	t.Parallel()
	client, prefix := etcdtest.Start(t), etcdtest.Prefix()
	a, b := etcdstore.New(client, prefix), etcdstore.New(client, prefix)
	rev, err := a.Commit(t.Context(), batch().Put("/x", 1))
	require.NoError(t, err)
	e, err := b.Get(t.Context(), "/x")
	require.NoError(t, err)
	assert.Equal(t, rev, e.Rev)
	_, err = b.Commit(t.Context(), batch().If("/x", 0).Put("/x", 2))
	assert.ErrorIs(t, err, fault.Conflict)
}

func TestAWatchThatWasCompactedAwayIsTold(t *testing.T) {
	t.Parallel()
	client := ownEtcd(t)
	s := etcdstore.New(client, etcdtest.Prefix())
	from, err := s.Commit(t.Context(), batch().Put("/x", 1))
	require.NoError(t, err)
	var last state.Rev
	for i := range 3 {
		last, err = s.Commit(t.Context(), batch().Put("/x", i))
		require.NoError(t, err)
	}
	_, err = client.Compact(t.Context(), int64(last))
	require.NoError(t, err)
	err = s.Watch(t.Context(), "/", from, func([]state.Event) error { return nil })
	assert.ErrorIs(t, err, state.ErrCompacted)
}

func TestAnOversizedCommitIsTooLarge(t *testing.T) {
	t.Parallel()
	_, err := etcdtest.Open(t).Commit(t.Context(), batch().Put("/x", strings.Repeat("x", 2<<20)))
	assert.ErrorIs(t, err, fault.TooLarge)
}

func TestABackupHoldsTheRecordsAndItsDigest(t *testing.T) {
	t.Parallel()
	s := etcdtest.Open(t)
	_, err := s.Commit(t.Context(), batch().Put("/x", "text to look for"))
	require.NoError(t, err)
	var snapshot bytes.Buffer
	require.NoError(t, s.Backup(t.Context(), &snapshot))
	raw := snapshot.Bytes()
	body, sum := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	want := sha256.Sum256(body)
	assert.Equal(t, want[:], sum)
	assert.Contains(t, string(body), "text to look for")
}

func TestCommitsSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 3 {
		e, err := etcdstore.StartEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: dir})
		require.NoError(t, err)
		s := etcdstore.New(e.Client(), "")
		n, err := state.ReadOr[int](t.Context(), s, "/n")
		require.NoError(t, err)
		assert.Equal(t, i, n.Value)
		_, err = s.Commit(t.Context(), batch().If("/n", n.Rev).Put("/n", i+1))
		require.NoError(t, err)
		e.Close()
		e.Close()
		_, err = s.Get(t.Context(), "/n")
		require.ErrorIs(t, err, fault.Unavailable, "a closed store answers nothing")
		require.Error(t, s.Watch(t.Context(), "/", 0, func([]state.Event) error { return nil }))
	}
}

func TestASecondUserOfTheDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if os.Getenv("ETCDSTORE_TEST_DIR") != "" {
		dir = os.Getenv("ETCDSTORE_TEST_DIR")
	}
	e, err := etcdstore.StartEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: dir})
	if os.Getenv("ETCDSTORE_TEST_DIR") != "" {
		fmt.Println("second process:", err)
		return
	}
	require.NoError(t, err)
	defer e.Close()

	_, err = etcdstore.StartEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: dir})
	require.ErrorIs(t, err, fault.Exists)

	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	again.Env = append(os.Environ(), "ETCDSTORE_TEST_DIR="+dir)
	out, err := again.CombinedOutput()
	require.NoError(t, err, string(out))
	for _, want := range []string{dir, fmt.Sprint("pid ", os.Getpid()), "stop it first"} {
		assert.Contains(t, string(out), want)
	}
}

func TestADirectoryThatCannotBeMadeIsNamed(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/file"
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := etcdstore.StartEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: file})
	assert.ErrorContains(t, err, file)
	_, err = etcdstore.StartEmbedded(t.Context(), etcdstore.EmbeddedConfig{})
	assert.Error(t, err)
}

func TestAStoreThatIsFullRecoversWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	const quota = 16 << 20
	e, err := etcdstore.StartEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: t.TempDir(), QuotaBytes: quota})
	require.NoError(t, err)
	defer e.Close()
	s := etcdstore.New(e.Client(), "")
	fill := func(key func(int) string) (err error) {
		for i := 0; i < 64 && err == nil; i++ {
			_, err = s.Commit(t.Context(), batch().Put(key(i), strings.Repeat("x", 1<<20)))
		}
		return err
	}
	// Old revisions of one record: dropping history makes room.
	err = fill(func(int) string { return "/x" })
	require.ErrorIs(t, err, fault.Exhausted)
	assert.Contains(t, fault.Message(err), "quota", "the message says the way out")
	require.NoError(t, e.Maintain(t.Context()))
	_, err = s.Commit(t.Context(), batch().Put("/x", 1))
	require.NoError(t, err)

	// Live records: once dropping history does not help, only deleting does.
	live := 0
	for err == nil {
		require.Less(t, live, 64, "a store with quota takes no more than its quota")
		require.ErrorIs(t, fill(func(int) string { live++; return fmt.Sprint("/", live) }), fault.Exhausted)
		require.NoError(t, e.Maintain(t.Context()))
		_, err = s.Commit(t.Context(), batch().Put("/y", 1))
	}
	require.ErrorIs(t, err, fault.Exhausted)
	drop := batch()
	for i := range live {
		drop.Delete(fmt.Sprint("/", i+1))
	}
	_, err = s.Commit(t.Context(), drop)
	require.NoError(t, err)
	require.NoError(t, e.Maintain(t.Context()))
	_, err = s.Commit(t.Context(), batch().Put("/y", 1))
	require.NoError(t, err)
}

func TestMaintenanceEndsWithItsContext(t *testing.T) {
	t.Parallel()
	e, err := etcdstore.StartEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: t.TempDir()})
	require.NoError(t, err)
	defer e.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, e.Run(ctx))
}

func TestDialSaysWhereNobodyAnswers(t *testing.T) {
	t.Parallel()
	_, err := etcdstore.Dial(t.Context(), etcdstore.DialConfig{})
	require.Error(t, err)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	_, err = etcdstore.Dial(t.Context(), etcdstore.DialConfig{Endpoints: []string{address}})
	require.ErrorIs(t, err, fault.Unavailable)
	assert.ErrorContains(t, err, address)
}
