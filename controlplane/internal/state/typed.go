package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Root is the prefix of every key of ours.
const Root = "/ggfleet/v1/"

// Record is a decoded entry together with the revision it was read at.
type Record[T any] struct {
	Value T
	Rev   Rev
}

// Read decodes the record at key. It returns fault.NotFound if it is absent.
func Read[T any](ctx context.Context, s Store, key string) (Record[T], error) {
	e, err := s.Get(ctx, key)
	if err != nil {
		return Record[T]{}, err
	}
	return Decode[T](e)
}

// ReadOr decodes the record at key, or returns the zero Record if it is absent:
// its Rev 0 is the condition for creating it.
func ReadOr[T any](ctx context.Context, s Store, key string) (Record[T], error) {
	r, err := Read[T](ctx, s, key)
	if errors.Is(err, fault.NotFound) {
		return Record[T]{}, nil
	}
	return r, err
}

// Decode decodes an entry.
func Decode[T any](e Entry) (Record[T], error) {
	r := Record[T]{Rev: e.Rev}
	if err := json.Unmarshal(e.Value, &r.Value); err != nil {
		return r, fmt.Errorf("decode record %s: %w", e.Key, err)
	}
	return r, nil
}

// All decodes every record under prefix, a page at a time, and calls each. It
// stops at the first error.
func All[T any](ctx context.Context, s Store, prefix string, each func(key string, r Record[T]) error) error {
	after := ""
	for {
		p, err := s.List(ctx, prefix, after, listPage)
		if err != nil {
			return err
		}
		for _, e := range p.Entries {
			r, err := Decode[T](e)
			if err != nil {
				return err
			}
			if err := each(e.Key, r); err != nil {
				return err
			}
			after = e.Key
		}
		if !p.More {
			return nil
		}
	}
}

// maxRaces is how often Update starts over before it gives up.
const maxRaces = 32

// Update reads the record at key, lets change edit it and commits it, and
// starts over when another writer was faster. change gets the zero value and
// exists false when the record is absent; it may run several times, so it must
// only look at what it is given. It may add to the batch. Returning ErrKeep
// leaves everything as it is.
func Update[T any](ctx context.Context, s Store, step Step, key string, change func(v *T, exists bool, b *Batch) error) (Record[T], error) {
	for range maxRaces {
		r, err := ReadOr[T](ctx, s, key)
		if err != nil {
			return r, err
		}
		b := NewBatch(step)
		switch err := change(&r.Value, r.Rev != 0, b); {
		case errors.Is(err, ErrKeep):
			return r, nil
		case err != nil:
			return r, err
		}
		b.If(key, r.Rev)
		if _, deleted := b.at[key]; !deleted {
			b.Put(key, r.Value)
		}
		rev, err := s.Commit(ctx, b)
		if err == nil {
			r.Rev = rev
			return r, nil
		}
		if !errors.Is(err, fault.Conflict) {
			return r, err
		}
	}
	return Record[T]{}, fmt.Errorf("update %s: %d lost races in a row: %w", key, maxRaces, fault.Conflict)
}

// ErrKeep tells Update that nothing needs to change.
var ErrKeep = errors.New("keep")
