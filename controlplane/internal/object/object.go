// Package object is the port to the artifact store: objects under keys, in one
// bucket, S3 semantics. s3store implements it over any S3; object/memory is the
// fake of tests; both pass objecttest.
package object

import (
	"context"
	"io"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// Info describes a stored object.
type Info struct {
	Key         string
	Size        int64 // bytes
	ModTime     time.Time
	ContentType string
}

// Reader reads one object; it can seek, so that ranges cost no copy.
type Reader interface {
	io.ReadSeekCloser
}

// Store keeps objects. All methods are safe for concurrent use.
type Store interface {
	// Bucket is the name that API answers show beside a key.
	Bucket() string
	// Put writes size bytes of r under key, replacing what is there; when it
	// returns nil the object survives a crash. step names the fault point.
	Put(ctx context.Context, step state.Step, key string, r io.Reader, size int64, contentType string) error
	// Open returns fault.NotFound if key is absent. The caller closes the reader.
	Open(ctx context.Context, key string) (Reader, Info, error)
	// Stat returns fault.NotFound if key is absent.
	Stat(ctx context.Context, key string) (Info, error)
	// Delete removes key; an absent key is no error.
	Delete(ctx context.Context, key string) error
	// List returns the objects whose key begins with prefix, in key order,
	// after the key after, at most limit (0: no limit).
	List(ctx context.Context, prefix, after string, limit int) ([]Info, error)
}
