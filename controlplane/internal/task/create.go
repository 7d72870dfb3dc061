package task

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

const (
	maxOps        = 100     // writes of one commit
	maxBatchBytes = 1 << 19 // bytes of one commit, well below etcd's limit
	writers       = 16      // commits of one create under way at once
)

// NewTask describes a task to create.
type NewTask struct {
	Kind string
	Spec any // kept as JSON, at most MaxSpec bytes; nil: nothing
	// Items are the work, in order, with names that are unique in the task. They
	// must be given unless the kind expands, and must not if it does.
	Items []NewItem
	// BatchSize is how many items a worker claims at once, 1 to MaxBatchSize,
	// default 20. Large items make batches smaller.
	BatchSize int
	// Blob is kept beside Spec, at most MaxBlob bytes; see [Engine.Blob].
	Blob []byte
	// IdempotencyKey makes a repeated Create answer the first one's task. Empty:
	// each call makes a task. At most 256 bytes, per kind.
	IdempotencyKey string
}

// NewItem is one item to create.
type NewItem struct {
	Name string
	Spec any // kept as JSON, at most MaxItemSpec bytes; nil: nothing
}

// Create stores a task; workers begin as soon as it returns. A task that cannot
// be stored whole is not stored. A repeated idempotency key with a different
// content is fault.Conflict. Errors of kind Invalid name the member at fault
// (items[3].name).
func (e *Engine) Create(ctx context.Context, n NewTask) (Task, error) {
	kind := e.kinds[n.Kind]
	if kind == nil {
		return Task{}, fmt.Errorf("create task: kind %q is not registered", n.Kind)
	}
	spec, err := encode("spec", n.Spec, MaxSpec)
	if err != nil {
		return Task{}, err
	}
	if (kind.Expand == nil) != (len(n.Items) > 0) {
		return Task{}, fault.Field("items", "a task of kind %s %s", n.Kind, map[bool]string{true: "needs at least one", false: "finds them itself"}[kind.Expand == nil])
	}
	if len(n.IdempotencyKey) > MaxName {
		return Task{}, fault.Field("idempotencyKey", "is %d bytes long, more than %d", len(n.IdempotencyKey), MaxName)
	}
	if len(n.Blob) > MaxBlob {
		return Task{}, fault.New(fault.TooLarge, "blob: has %d bytes, more than %d", len(n.Blob), MaxBlob)
	}
	in, largest, err := inputs(n.Items)
	if err != nil {
		return Task{}, err
	}
	size, err := batchSize(n.BatchSize, largest)
	if err != nil {
		return Task{}, err
	}

	c := &creation{e: e, kind: n.Kind, spec: spec, blob: n.Blob, in: in, size: size, at: now()}
	if n.IdempotencyKey != "" {
		c.idem, c.hash = idemKey(n.Kind, n.IdempotencyKey), hashOf(n.Kind, spec, n.Blob, in)
		if t, found, err := c.repeated(ctx); found || err != nil {
			return t, err
		}
	}
	for {
		t, err := c.store(ctx)
		if !errors.Is(err, fault.Conflict) {
			return t, err
		}
		// The id is taken, or the idempotency key was used meanwhile.
		if t, found, err := c.repeated(ctx); found || err != nil {
			return t, err
		}
		if ctx.Err() != nil {
			return Task{}, ctx.Err()
		}
	}
}

type creation struct {
	e          *Engine
	kind       string
	spec       json.RawMessage
	blob       []byte
	in         []input
	size       int
	at         time.Time
	idem, hash string // empty: no idempotency key
}

// repeated returns the task that the idempotency key already made.
func (c *creation) repeated(ctx context.Context) (Task, bool, error) {
	if c.idem == "" {
		return Task{}, false, nil
	}
	r, err := state.ReadOr[idemRecord](ctx, c.e.store, c.idem)
	if err != nil || r.Rev == 0 {
		return Task{}, false, err
	}
	if r.Value.Hash != c.hash {
		return Task{}, false, fault.New(fault.Conflict, "the idempotency key was used for a different request, which became task %s; use a new key", r.Value.ID)
	}
	t, err := c.e.Get(ctx, r.Value.ID)
	return t, err == nil, err
}

// store writes everything under a fresh id. Conflict: nothing exists, try again.
func (c *creation) store(ctx context.Context) (Task, error) {
	id := names.NewTaskID()
	making := makingRecord{Kind: c.kind, Since: c.at}
	reserve := state.NewBatch(state.StepTaskItems).If(recKey(id), 0).If(makingKey(id), 0).Put(makingKey(id), making)
	rev, err := c.e.store.Commit(ctx, reserve)
	if err != nil {
		return Task{}, fmt.Errorf("reserve task id: %w", err)
	}
	t, err := c.fill(ctx, id, rev)
	if err != nil {
		c.e.discard(ctx, id, making)
	}
	return t, err
}

func (c *creation) fill(ctx context.Context, id string, reserved state.Rev) (Task, error) {
	rec := taskRecord{ID: id, Kind: c.kind, Spec: c.spec, CreatedAt: c.at, Blob: len(c.blob), Idem: c.idem}
	if err := c.e.commitAll(ctx, blobCommits(id, c.blob)); err != nil {
		return Task{}, err
	}
	if err := c.e.writeItems(ctx, taskOf(rec, stateRecord{}), c.in, c.size, c.at, nil); err != nil {
		return Task{}, err
	}
	st := stateRecord{Status: Waiting, BatchSize: c.size}
	if len(c.in) > 0 {
		st.known(len(c.in))
	}
	b := state.NewBatch(state.StepTaskCreate).
		If(makingKey(id), reserved).Delete(makingKey(id)).
		If(recKey(id), 0).Put(recKey(id), rec).
		Put(stateKey(c.kind, id), st).
		Put(openKey(id), openRecord{Kind: c.kind, BatchSize: c.size, Batches: st.BatchesTotal})
	if c.idem != "" {
		b.If(c.idem, 0).Put(c.idem, idemRecord{ID: id, Hash: c.hash})
	}
	if _, err := c.e.store.Commit(ctx, b); err != nil && !c.e.exists(ctx, id) {
		return Task{}, fmt.Errorf("create task: %w", err)
	}
	return taskOf(rec, st), nil
}

// exists tells whether a commit that gave an error made task id all the same.
func (e *Engine) exists(ctx context.Context, id string) bool {
	_, err := e.store.Get(ctx, recKey(id))
	return err == nil
}

// known enters that the task has n items.
func (s *stateRecord) known(n int) {
	batches := (n + s.BatchSize - 1) / s.BatchSize
	s.Items, s.BatchesTotal = n, &batches
}

// writeItems stores the inputs of all batches and the name index, each batch with
// its names in one commit, in parallel. guard adds conditions to each commit (nil:
// none).
func (e *Engine) writeItems(ctx context.Context, t Task, in []input, size int, at time.Time, guard func(*state.Batch)) error {
	var commits []*state.Batch
	var cur *state.Batch
	bytes := 0
	for first := 0; first < len(in); first += size {
		part := in[first:min(first+size, len(in))]
		n := 0
		for _, i := range part {
			n += len(i.Name) + len(i.Spec)
		}
		if cur == nil || cur.Len()+len(part)+1 > maxOps || bytes+n > maxBatchBytes {
			cur, bytes = state.NewBatch(state.StepTaskItems), 0
			commits = append(commits, cur)
		}
		bytes += n
		cur.Put(batchKey(t.ID, first/size), batchRecord{First: first, CreatedAt: at, Items: part})
		for i, it := range part {
			cur.Put(nameKey(t, it.Name), first+i)
		}
	}
	if guard != nil {
		for _, b := range commits {
			guard(b)
		}
	}
	return e.commitAll(ctx, commits)
}

// commitAll commits batches that do not depend on each other, several at a time.
// It stops at the first error.
func (e *Engine) commitAll(ctx context.Context, batches []*state.Batch) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan *state.Batch)
	var wg sync.WaitGroup
	for range min(writers, len(batches)) {
		wg.Go(func() {
			for b := range next {
				if _, err := e.store.Commit(ctx, b); err != nil {
					cancel(err)
				}
			}
		})
	}
feed:
	for _, b := range batches {
		select {
		case next <- b:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("write or remove items: %w", err)
	}
	return nil
}

// inputs checks items and returns the size in bytes of the largest.
func inputs(items []NewItem) (in []input, largest int, err error) {
	if len(items) > MaxItems {
		return nil, 0, fault.New(fault.TooLarge, "a task has at most %d items, not %d; split it", MaxItems, len(items))
	}
	seen := make(map[string]int, len(items))
	for i, it := range items {
		if it.Name == "" || len(it.Name) > MaxName {
			return nil, 0, fault.Field(fmt.Sprintf("items[%d].name", i), "must be 1 to %d bytes long, not %d", MaxName, len(it.Name))
		}
		if j, dup := seen[it.Name]; dup {
			return nil, 0, fault.Field(fmt.Sprintf("items[%d].name", i), "%q is already the name of items[%d]; names are unique in a task", it.Name, j)
		}
		seen[it.Name] = i
		spec, err := encode(fmt.Sprintf("items[%d]", i), it.Spec, MaxItemSpec)
		if err != nil {
			return nil, 0, err
		}
		in = append(in, input{Name: it.Name, Spec: spec})
		largest = max(largest, len(it.Name)+len(spec))
	}
	return in, largest, nil
}

func encode(what string, v any, limit int) (json.RawMessage, error) {
	if v == nil {
		return nil, nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	if len(raw) > limit {
		return nil, fault.New(fault.TooLarge, "%s: has %d bytes, more than %d", what, len(raw), limit)
	}
	return raw, nil
}

func batchSize(want, largest int) (int, error) {
	if want < 0 || want > MaxBatchSize {
		return 0, fault.Field("batchSize", "must be 1 to %d, not %d", MaxBatchSize, want)
	}
	if want == 0 {
		want = 20
	}
	want = min(want, maxOps-1) // a batch and its names are one commit
	return max(1, min(want, maxBatchBytes/max(largest, 1))), nil
}

func hashOf(kind string, spec json.RawMessage, blob []byte, in []input) string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode([]any{kind, spec, blob, in}) // a hash takes every write, and all of it was JSON before
	return hex.EncodeToString(h.Sum(nil))
}
