package etcdstore

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// callTimeout bounds one request. Without it a call with an unbounded context
// waits for as long as a cluster is away.
const callTimeout = 10 * time.Second

var _ state.Store = (*Store)(nil)

// Store is a state.Store. Make it with New.
type Store struct {
	client *clientv3.Client
	prefix string
	alone  bool // nobody else writes

	followers followers
}

// New returns the store whose keys lie under prefix in client's etcd. Callers
// never see the prefix: stores with prefixes of which none begins with the
// other share nothing but the revision. The caller keeps and closes client.
func New(client *clientv3.Client, prefix string) *Store {
	return &Store{client: client, prefix: prefix}
}

// Get implements state.Store with a linearizable read.
func (s *Store) Get(ctx context.Context, key string) (state.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := s.client.Get(ctx, s.prefix+key)
	if err != nil {
		return state.Entry{}, fmt.Errorf("read record %s: %w", key, classify(ctx, err))
	}
	if len(r.Kvs) == 0 {
		return state.Entry{}, fault.New(fault.NotFound, "no record %s", key)
	}
	kv := r.Kvs[0]
	return state.Entry{Key: key, Value: kv.Value, Rev: state.Rev(kv.ModRevision)}, nil
}

// List implements state.Store with a linearizable read.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (state.Page, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	from, end := s.keyRange(prefix)
	if after >= prefix && after != "" {
		from = s.prefix + after + "\x00"
	}
	r, err := s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(int64(limit)))
	if err != nil {
		return state.Page{}, fmt.Errorf("list records %s: %w", prefix, classify(ctx, err))
	}
	p := state.Page{More: r.More, At: state.Rev(r.Header.Revision), Entries: make([]state.Entry, 0, len(r.Kvs))}
	for _, kv := range r.Kvs {
		p.Entries = append(p.Entries, state.Entry{Key: s.key(kv.Key), Value: kv.Value, Rev: state.Rev(kv.ModRevision)})
	}
	return p, nil
}

// Commit implements state.Store with one transaction. Its else branch reads
// the keys of the conditions, so that a conflict costs no second request.
func (s *Store) Commit(ctx context.Context, b *state.Batch) (state.Rev, error) {
	if err := b.Check(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil { // an etcd in this process may be quicker than the cancellation
		return 0, fmt.Errorf("commit %s: %w", b.Step, classify(ctx, err))
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	conds := b.Conds()
	compares := make([]clientv3.Cmp, len(conds))
	lookups := make([]clientv3.Op, len(conds))
	for i, c := range conds {
		k := s.prefix + c.Key
		if c.Exists {
			compares[i] = clientv3.Compare(clientv3.CreateRevision(k), ">", 0)
		} else {
			compares[i] = clientv3.Compare(clientv3.ModRevision(k), "=", int64(c.Rev))
		}
		lookups[i] = clientv3.OpGet(k, clientv3.WithKeysOnly())
	}
	r, err := s.client.Txn(ctx).If(compares...).Then(s.writes(b.Ops())...).Else(lookups...).Commit()
	if err != nil {
		return 0, fmt.Errorf("commit %s: %w", b.Step, classify(ctx, err))
	}
	if !r.Succeeded {
		return 0, conflict(conds, r)
	}
	return state.Rev(r.Header.Revision), nil
}

func (s *Store) writes(ops []state.Op) []clientv3.Op {
	out := make([]clientv3.Op, len(ops))
	for i, op := range ops {
		switch k := s.prefix + op.Key; {
		case op.Delete:
			out[i] = clientv3.OpDelete(k)
		case op.Lease != 0:
			out[i] = clientv3.OpPut(k, string(op.Value), clientv3.WithLease(clientv3.LeaseID(op.Lease)))
		default:
			out[i] = clientv3.OpPut(k, string(op.Value))
		}
	}
	return out
}

// conflict names the first condition that did not hold when the transaction ran.
func conflict(conds []state.Cond, r *clientv3.TxnResponse) error {
	for i, c := range conds {
		rev := state.Rev(0)
		if kvs := r.Responses[i].GetResponseRange().GetKvs(); len(kvs) > 0 {
			rev = state.Rev(kvs[0].ModRevision)
		}
		if c.Exists && rev == 0 || !c.Exists && rev != c.Rev {
			return fault.New(fault.Conflict, "record %s was changed by another writer", c.Key)
		}
	}
	return fault.New(fault.Conflict, "a record was changed by another writer")
}

// Backup writes a snapshot of the whole etcd (not only of this prefix) to w, in
// the format that `etcdutl snapshot restore` reads.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	r, err := s.client.SnapshotWithVersion(ctx)
	if err != nil {
		return fmt.Errorf("take snapshot: %w", classify(ctx, err))
	}
	defer r.Snapshot.Close()
	if _, err := io.Copy(w, r.Snapshot); err != nil {
		return fmt.Errorf("copy snapshot: %w", classify(ctx, err))
	}
	return nil
}

// keyRange returns the first key with prefix and the first key after all of them.
func (s *Store) keyRange(prefix string) (from, end string) {
	from = s.prefix + prefix
	end = clientv3.GetPrefixRangeEnd(from)
	if from == "" {
		from = "\x00" // etcd has no empty key
	}
	return from, end
}

func (s *Store) key(raw []byte) string { return strings.TrimPrefix(string(raw), s.prefix) }
