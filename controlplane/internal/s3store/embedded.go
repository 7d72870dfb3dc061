package s3store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"

	"github.com/ggfleet/ggfleet/shared/logx"
)

// EmbeddedConfig describes the S3 server inside the process.
type EmbeddedConfig struct {
	Dir        string // made 0700 if absent; objects, their metadata and the socket lie in it
	Region     string
	RootKey    string // the access key that our own code uses
	RootSecret logx.Secret
	Accounts   Accounts // finds the keys of users; nil: only the root key is admitted

	// VirtualDomain makes BUCKET.VirtualDomain, with any port, mean BUCKET.
	// Empty: "localhost".
	VirtualDomain string

	// NoFsync acknowledges objects before they are on the disk: faster, and a
	// power cut loses the last ones.
	NoFsync bool
	Log     *slog.Logger // nil: discarded

	noAttributes bool // of tests: as if the file system kept no attributes
}

// Limits of the embedded server. Requests beyond them are answered SlowDown.
const (
	maxConnections = 4096
	maxRequests    = 1024
	maxParts       = 10_000
	maxCopy        = 5 << 30 // bytes of one copy, S3's own limit
)

// closeTimeout leaves the rest of the process time to stop within five seconds.
const closeTimeout = 4 * time.Second

// Embedded is a running S3 server. Only one can run in a process at a time.
type Embedded struct {
	region     string
	rootKey    string
	rootSecret logx.Secret
	socket     string
	ownDir     string // removed with the socket; empty: the socket lies in Dir
	transport  *http.Transport
	log        *slog.Logger
	cancel     context.CancelFunc
	done       chan struct{} // closed when the server has ended
	err        error         // why it ended; read after done
}

// StartEmbedded starts the server and returns once it answers. Close ends it.
//
// It changes the working directory of the whole process to the object folder,
// because the server opens objects by relative paths, and leaves it there: call
// it after every relative path was made absolute, and never use one afterwards.
// The caller holds the lock of the data directory: the socket of another server
// on the same folder would be replaced.
func StartEmbedded(cfg EmbeddedConfig) (*Embedded, error) {
	if cfg.RootKey == "" || cfg.RootSecret.Reveal() == "" || cfg.Region == "" || cfg.Dir == "" {
		return nil, errors.New("embedded s3: directory, region, root key and root secret are required")
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	if cfg.VirtualDomain == "" {
		cfg.VirtualDomain = "localhost"
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("embedded s3: %w", err)
	}
	e := &Embedded{
		region: cfg.Region, rootKey: cfg.RootKey, rootSecret: cfg.RootSecret,
		log: cfg.Log, done: make(chan struct{}),
	}
	be, err := openBackend(dir, cfg)
	if err != nil {
		return nil, fmt.Errorf("embedded s3 in %s: %w", dir, err)
	}
	if e.socket, e.ownDir, err = socketPath(dir); err != nil {
		be.Shutdown()
		return nil, fmt.Errorf("embedded s3: %w", err)
	}
	e.transport = socketTransport(e.socket)
	if err := e.start(be, cfg); err != nil {
		return nil, fmt.Errorf("embedded s3 in %s: %w", dir, err)
	}
	return e, nil
}

// start runs the server until Close and returns once it listens.
func (e *Embedded) start(be *durable, cfg EmbeddedConfig) error {
	ctx, cancel := context.WithCancel(context.Background()) // ended by Close
	e.cancel = cancel
	ready := make(chan struct{})
	go func() {
		defer close(e.done)
		e.err = embedgw.RunVersityGW(ctx, be, &embedgw.Config{
			RootUserAccess:    cfg.RootKey,
			RootUserSecret:    cfg.RootSecret.Reveal(),
			Region:            cfg.Region,
			Ports:             []string{e.socket},
			SocketPerm:        "0600",
			VirtualDomain:     cfg.VirtualDomain,
			MaxConnections:    maxConnections,
			MaxRequests:       maxRequests,
			MultipartMaxParts: maxParts,
			KeepAlive:         true,
			Quiet:             true,
			IAMService:        iam{cfg.Accounts},
			S3Options:         []s3api.Option{s3api.WithOnListen(func() { close(ready) })},
		})
	}()
	select {
	case <-ready:
		return nil
	case <-e.done:
		cancel()
		e.removeSocket()
		if e.err == nil {
			e.err = errors.New("the server ended at once")
		}
		return e.err
	}
}

// Store returns the object store in bucket of this server, with the root key,
// over the socket.
func (e *Embedded) Store(bucket string) (*Store, error) {
	return New(Config{
		Endpoint: "s3.internal", Bucket: bucket, Region: e.region,
		AccessKey: e.rootKey, SecretKey: e.rootSecret,
		PathStyle: true, Transport: e.transport, local: true,
	})
}

// Run waits until ctx is done, then closes the server; it returns earlier, with
// the reason, if the server ends by itself.
func (e *Embedded) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return e.Close()
	case <-e.done:
		if err := e.Close(); err != nil {
			return err
		}
		return errors.New("embedded s3 ended unasked")
	}
}

// Close lets running requests finish, for closeTimeout at most, ends the server
// and removes its socket. It may be called again. After a timeout, which it
// returns as an error, the server still ends by itself some seconds later.
func (e *Embedded) Close() error {
	e.transport.CloseIdleConnections()
	e.cancel()
	late := time.NewTimer(closeTimeout)
	defer late.Stop()
	select {
	case <-e.done:
	case <-late.C:
		return fmt.Errorf("embedded s3: requests still run after %s", closeTimeout)
	}
	e.removeSocket()
	if e.err != nil {
		return fmt.Errorf("embedded s3: %w", e.err)
	}
	return nil
}

func (e *Embedded) removeSocket() {
	if err := os.Remove(e.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		e.log.Warn("socket not removed", logx.Err, err)
	}
	if e.ownDir != "" {
		if err := os.Remove(e.ownDir); err != nil && !errors.Is(err, os.ErrNotExist) {
			e.log.Warn("socket directory not removed", logx.Err, err)
		}
	}
}

// openBackend makes the folders below dir and opens the objects in them.
func openBackend(dir string, cfg EmbeddedConfig) (*durable, error) {
	objects := filepath.Join(dir, "objects")
	for _, d := range []string{dir, objects} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	d := &durable{root: objects, region: cfg.Region, fsync: !cfg.NoFsync}
	opts := posix.PosixOpts{
		ForceNoObjLockFile:  true, // no other process writes here
		CopyObjectThreshold: maxCopy,
	}
	opts.SetNewDirPerm(0o700)
	opts.SetNewFilePerm(0o600)

	var storer meta.MetadataStorer = meta.XattrMeta{}
	if cfg.noAttributes || (meta.XattrMeta{}).Test(objects) != nil {
		side := filepath.Join(dir, "metadata")
		err := os.MkdirAll(side, 0o700)
		if err == nil {
			storer, err = meta.NewSideCar(side)
		}
		if err != nil {
			return nil, err
		}
		opts.SideCarDir, d.sidecar = side, side
		cfg.Log.Info("file system keeps no user attributes, metadata lies in files", "dir", side)
	}
	p, err := posix.New(objects, storer, opts)
	if err != nil {
		return nil, err
	}
	d.Posix = p
	return d, nil
}

// maxSocketPath is below the 104 bytes that the shortest sun_path holds.
const maxSocketPath = 100

// socketPath returns where the server listens: in dir, or in a folder of its
// own (returned too) when dir's path is too long for a socket address.
func socketPath(dir string) (path, own string, err error) {
	path = filepath.Join(dir, "s3.sock")
	if len(path) >= maxSocketPath {
		if own, err = os.MkdirTemp("", "ggfleet-s3-"); err != nil { // 0700
			return "", "", err
		}
		path = filepath.Join(own, "s3.sock")
	}
	// What a killed process left would make the bind fail.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", err
	}
	return path, own, nil
}

func socketTransport(socket string) *http.Transport {
	t := NewTransport()
	t.Proxy = nil
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return t
}
