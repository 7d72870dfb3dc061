package state

import (
	"encoding/json"
	"fmt"
)

// Op is one write of a Batch.
type Op struct {
	Key    string
	Value  []byte // nil: delete
	Delete bool
	Lease  int64 // 0: none
}

// Cond is one condition of a Batch: the key's revision is Rev (0: absent).
type Cond struct {
	Key    string
	Rev    Rev
	Exists bool // any revision but absent; Rev is ignored
}

// Batch is a change of the store that happens whole or not at all. A second
// write of the same key replaces the first; the zero value is not usable, see
// NewBatch. Not for concurrent use.
type Batch struct {
	Step  Step
	ops   []Op
	conds []Cond
	at    map[string]int // key → index in ops
	err   error
}

// NewBatch starts an empty batch for step.
func NewBatch(step Step) *Batch { return &Batch{Step: step, at: map[string]int{}} }

// Put writes v as JSON.
func (b *Batch) Put(key string, v any) *Batch { return b.PutLeased(key, v, 0) }

// PutLeased writes v as JSON under a lease.
func (b *Batch) PutLeased(key string, v any, lease int64) *Batch {
	raw, err := json.Marshal(v)
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("encode %s: %w", key, err)
	}
	return b.op(Op{Key: key, Value: raw, Lease: lease})
}

// Delete removes key; removing an absent key is no error.
func (b *Batch) Delete(key string) *Batch { return b.op(Op{Key: key, Delete: true}) }

// If makes the batch conditional on key being at rev (0: absent).
func (b *Batch) If(key string, rev Rev) *Batch {
	for _, c := range b.conds {
		if c.Key == key && c.Rev == rev && !c.Exists {
			return b
		}
	}
	b.conds = append(b.conds, Cond{Key: key, Rev: rev})
	return b
}

// IfExists makes the batch conditional on key being present.
func (b *Batch) IfExists(key string) *Batch {
	b.conds = append(b.conds, Cond{Key: key, Exists: true})
	return b
}

// Add appends all writes and conditions of o (nil: none); what both have counts once.
func (b *Batch) Add(o *Batch) *Batch {
	if o == nil {
		return b
	}
	for _, op := range o.ops {
		b.op(op)
	}
	for _, c := range o.conds {
		if c.Exists {
			b.conds = append(b.conds, c)
		} else {
			b.If(c.Key, c.Rev)
		}
	}
	if b.err == nil {
		b.err = o.err
	}
	return b
}

// Peek decodes into v what b writes at key, if it writes something there.
func (b *Batch) Peek(key string, v any) error {
	i, ok := b.at[key]
	if !ok || b.ops[i].Delete {
		return nil
	}
	if err := json.Unmarshal(b.ops[i].Value, v); err != nil {
		return fmt.Errorf("decode %s: %w", key, err)
	}
	return nil
}

func (b *Batch) op(op Op) *Batch {
	if i, ok := b.at[op.Key]; ok {
		b.ops[i] = op
		return b
	}
	b.at[op.Key] = len(b.ops)
	b.ops = append(b.ops, op)
	return b
}

// Len is the number of writes and conditions.
func (b *Batch) Len() int { return len(b.ops) + len(b.conds) }

// Ops returns the writes for a Store; they must not be changed.
func (b *Batch) Ops() []Op { return b.ops }

// Conds returns the conditions for a Store; they must not be changed.
func (b *Batch) Conds() []Cond { return b.conds }

// Check returns the error that building or its size made.
func (b *Batch) Check() error {
	if b.err != nil {
		return b.err
	}
	if !b.Step.Known() {
		return fmt.Errorf("batch step %q is not in the table of steps", b.Step)
	}
	if len(b.ops) > MaxBatch || len(b.conds) > MaxBatch {
		return fmt.Errorf("batch %s has %d writes and %d conditions, over the limit of %d", b.Step, len(b.ops), len(b.conds), MaxBatch)
	}
	return nil
}
