package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// EmbeddedConfig is what StartEmbedded needs. Dir is required.
type EmbeddedConfig struct {
	Dir string       // made with mode 0700 if absent; used by one process at a time
	Log *slog.Logger // nil: nothing is logged

	// QuotaBytes is the size of the database file at which it takes no more
	// writes. Zero: 8 GiB, the most that etcd recommends.
	QuotaBytes int64
}

const defaultQuota = 8 << 30

// Embedded is an etcd in this process. It listens nowhere: a local port without
// passwords would let every user of the machine write.
type Embedded struct {
	etcd   *embed.Etcd
	client *clientv3.Client
	lock   *fileutil.LockedFile
	log    *slog.Logger
	quota  int64
	ended  sync.Once

	compacted int64 // revision up to which Maintain dropped history
}

// StartEmbedded opens or makes the store in cfg.Dir and returns once it serves.
// A directory that another process uses gives fault.Exists. Close ends it;
// ctx bounds only the start.
func StartEmbedded(ctx context.Context, cfg EmbeddedConfig) (*Embedded, error) {
	if cfg.Dir == "" {
		return nil, errors.New("etcd: Dir is required")
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	if cfg.QuotaBytes <= 0 {
		cfg.QuotaBytes = defaultQuota
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	e := &Embedded{lock: lock, log: cfg.Log, quota: cfg.QuotaBytes}
	if err := e.start(ctx, cfg); err != nil {
		e.Close()
		return nil, fmt.Errorf("start the embedded store in %s: %w", cfg.Dir, err)
	}
	return e, nil
}

func (e *Embedded) start(ctx context.Context, cfg EmbeddedConfig) (err error) {
	if e.etcd, err = embed.StartEtcd(embedConfig(cfg)); err != nil {
		return err
	}
	select {
	case <-e.etcd.Server.ReadyNotify():
	case <-e.etcd.Server.StopNotify():
		return errors.New("etcd stopped while starting")
	case <-ctx.Done():
		return ctx.Err()
	}
	e.client = v3client.New(e.etcd.Server)
	return nil
}

func embedConfig(cfg EmbeddedConfig) *embed.Config {
	// etcd wants addresses to know itself by; nobody listens on them.
	nowhere := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	c := embed.NewConfig()
	c.Name = "ggfleet"
	c.Dir = filepath.Join(cfg.Dir, "etcd")
	c.ListenClientUrls, c.ListenPeerUrls = nil, nil
	c.AdvertiseClientUrls, c.AdvertisePeerUrls = []url.URL{nowhere}, []url.URL{nowhere}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.TickMs, c.ElectionMs = 10, 100 // no network: it elects itself at once
	c.QuotaBackendBytes = cfg.QuotaBytes
	c.AutoCompactionMode = embed.CompactorModeRevision
	c.AutoCompactionRetention = fmt.Sprint(keepRevisions)
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(bridge(cfg.Log)))
	return c
}

// lockDir makes dir and takes its lock. etcd locks its database too, but waits
// for it without end and without a word.
func lockDir(dir string) (*fileutil.LockedFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the store's directory: %w", err)
	}
	path := filepath.Join(dir, "lock")
	lock, err := fileutil.TryLockFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, fault.New(fault.Exists, "data directory %s is in use by another process%s: stop it first, or choose another directory", dir, holder(path))
	}
	if err != nil {
		return nil, fmt.Errorf("lock the store's directory: %w", err)
	}
	// For the message above only; the lock does not depend on it.
	if lock.Truncate(0) == nil {
		_, _ = fmt.Fprintln(lock, os.Getpid())
	}
	return lock, nil
}

func holder(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read from
	raw, err := io.ReadAll(io.LimitReader(f, 16))
	if pid := strings.TrimSpace(string(raw)); err == nil && pid != "" {
		return " (pid " + pid + ")"
	}
	return ""
}

// Client returns the client of this etcd. Close closes it.
func (e *Embedded) Client() *clientv3.Client { return e.client }

// Store is all of e as a store. No other process writes to it.
func (e *Embedded) Store() *Store { return &Store{client: e.client, alone: true} }

// Close ends the store. Acknowledged commits are on disk; open calls fail with
// fault.Unavailable. It may be called twice.
func (e *Embedded) Close() {
	e.ended.Do(func() {
		if e.client != nil {
			_ = e.client.Close()
		}
		if e.etcd != nil {
			e.etcd.Close()
		}
		_ = e.lock.Close()
	})
}
