package state

import (
	"context"
	"errors"
	"time"
)

// Rev is a revision of the whole store. It only grows. Zero means "absent" in
// conditions and "from now" nowhere: watches name the revision they continue.
type Rev int64

// Entry is one record.
type Entry struct {
	Key   string
	Value []byte
	Rev   Rev // of the last write of this key
}

// Page is one answer of List.
type Page struct {
	Entries []Entry
	More    bool // there are entries after the last one returned
	At      Rev  // the revision of the store at which the page was read
}

// Event is one change of one key. Deleted events have a nil Value.
type Event struct {
	Entry
	Deleted bool
}

// MaxBatch is the largest number of writes plus conditions in a Batch: etcd's
// default limit of operations in one transaction.
const MaxBatch = 128

// ErrCompacted is returned by Watch when the history it was asked to continue
// is gone: list again and watch from the list's revision.
var ErrCompacted = errors.New("history compacted")

// Store is the store of record. All methods are safe for concurrent use.
// Implementations must pass statetest.Store.
type Store interface {
	// Get returns fault.NotFound if key is absent. It reads the latest commit.
	Get(ctx context.Context, key string) (Entry, error)

	// List returns the entries whose key begins with prefix and is greater than
	// after, in key order, at most limit (0: no limit).
	List(ctx context.Context, prefix, after string, limit int) (Page, error)

	// Commit applies b whole or not at all and returns the new revision. A
	// condition that does not hold gives fault.Conflict and names the key.
	// A batch of more than MaxBatch operations, or with an unknown step, is an
	// error; an empty one does nothing.
	Commit(ctx context.Context, b *Batch) (Rev, error)

	// Watch calls handle for each change of a key with prefix after revision
	// from, in order, until ctx is done (it returns nil) or handle fails.
	// Events of one commit come in one call.
	Watch(ctx context.Context, prefix string, from Rev, handle func([]Event) error) error

	// CatchUp waits until each Watch of prefix has handled all that other processes
	// had committed before the call; fault.Unavailable if one does not get there.
	CatchUp(ctx context.Context, prefix string) error

	// NewLease makes a lease: keys put under it vanish ttl after the last
	// KeepAlive. The lease keeps itself alive until ctx is done or Close.
	NewLease(ctx context.Context, ttl time.Duration) (Lease, error)
}

// Lease ties keys to the life of whoever holds it.
type Lease interface {
	ID() int64
	// Lost is closed when the lease ended although nobody closed it: whatever
	// was claimed under it may belong to someone else now.
	Lost() <-chan struct{}
	// Close ends the lease and removes its keys.
	Close(ctx context.Context) error
}
