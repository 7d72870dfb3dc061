package selfupdate_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/selfupdate"
	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const platform = "linux/amd64"

// kit is a device and a control plane that offers releases.
type kit struct {
	t       *testing.T
	root    string
	private []byte
	dir     *localstate.Dir
	around  localstate.Around

	mu      sync.Mutex
	files   map[string][]byte // by digest
	cut     map[string]int    // bytes after which a download of the digest ends, once
	fails   error             // of every download
	fetched int
	handed  int
	busy    string
	free    *uint64
}

func newKit(t *testing.T) *kit {
	t.Helper()
	k := &kit{t: t, root: t.TempDir(), files: map[string][]byte{}, cut: map[string]int{}}
	key, private, err := signed.NewKey("")
	require.NoError(t, err)
	k.private = private
	_, err = selfupdate.AddKey(k.root, key.String())
	require.NoError(t, err)
	k.open()
	return k
}

func (k *kit) open() {
	k.t.Helper()
	dir, err := localstate.Open(k.root, func(p localstate.Point, do func() error) error {
		if k.around != nil {
			return k.around(p, do)
		}
		return do()
	})
	require.NoError(k.t, err)
	k.dir = dir
	k.t.Cleanup(func() { _ = dir.Close() })
}

// script is a program that says that it is the given version.
func script(version string) string { return "#!/bin/sh\necho ggfleet-agent " + version + "\n" }

// release makes a release of content, signed to be version.
func (k *kit) release(version, content string, over string) protocol.AgentRelease {
	k.t.Helper()
	sig, err := signed.Sign(k.private, "", bytes.NewReader([]byte(content)), signed.Statement{Version: version, Platform: platform, Over: over})
	require.NoError(k.t, err)
	h := sha256.Sum256([]byte(content))
	r := protocol.AgentRelease{Version: version, Platform: platform, Digest: hex.EncodeToString(h[:]), Size: int64(len(content)), Signature: string(sig)}
	k.files[r.Digest] = []byte(content)
	return r
}

// Release is the download.
func (k *kit) Release(_ context.Context, r protocol.AgentRelease, f *os.File) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fetched++
	if k.fails != nil {
		return k.fails
	}
	at, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	b := k.files[r.Digest][at:]
	if n, ok := k.cut[r.Digest]; ok {
		delete(k.cut, r.Digest)
		_, _ = f.Write(b[:n])
		return errCut
	}
	_, err = f.Write(b)
	return err
}

var errCut = &os.PathError{Op: "read", Path: "the network", Err: os.ErrDeadlineExceeded}

func (k *kit) updater(running, version string) *selfupdate.Updater {
	k.t.Helper()
	u, err := selfupdate.New(selfupdate.Config{
		Dir: k.dir, Cloud: k, Running: selfupdate.Running{Digest: running, Base: "1.0.0"}, Version: version, Platform: platform,
		HandOver: func() { k.mu.Lock(); defer k.mu.Unlock(); k.handed++ },
		Busy:     func() string { return k.busy }, Tryout: 5 * time.Second,
		Free: func() (uint64, bool) {
			k.mu.Lock()
			defer k.mu.Unlock()
			if k.free == nil {
				return 0, false
			}
			return *k.free, true
		},
	})
	require.NoError(k.t, err)
	return u
}

// connected is an updater that reaches the control plane and has a nucleus.
func (k *kit) connected(running, version string, offer *protocol.AgentRelease) *selfupdate.Updater {
	k.t.Helper()
	u := k.updater(running, version)
	u.Assigned(offer)
	u.SessionUp()
	u.Nucleus(protocol.NucleusRunning)
	return u
}

func (k *kit) record() (r selfupdate.Record) {
	k.t.Helper()
	b, err := os.ReadFile(filepath.Join(k.root, "agent", selfupdate.RecordName))
	if err != nil {
		return r
	}
	require.NoError(k.t, json.Unmarshal(b, &r))
	return r
}

func (k *kit) hands() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.handed
}

// slots are the releases on the disk.
func (k *kit) slots() (names []string) {
	entries, _ := os.ReadDir(filepath.Join(k.root, "agent", "releases"))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// handOver starts the packaged agent of the given version; it returns the
// programs that were executed, of which fails says whether they can be.
func (k *kit) handOver(version string, fails func(path string) error) (executed []string, env []string) {
	k.t.Helper()
	require.NoError(k.t, k.dir.Close())
	defer k.open()
	defer func() {
		if x := recover(); x != nil && x != (handedOver{}) {
			panic(x)
		}
	}()
	selfupdate.HandOver(k.t.Context(), selfupdate.HandOverConfig{
		Root: k.root, Version: version, Around: k.around,
		Exec: func(path string, e []string) error {
			executed, env = append(executed, filepath.Base(filepath.Dir(path))), e
			if fails != nil {
				if err := fails(path); err != nil {
					return err
				}
			}
			panic(handedOver{}) // an exec that works does not return
		},
	})
	return executed, env
}

type handedOver struct{}
