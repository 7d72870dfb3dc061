package iot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// What is listed in the order it was made has one small key more: kind, time and
// id, with the id (for a certificate: what signed it) as value. The time has twelve
// hexadecimal digits, so that the keys are in the order made; although the store
// lists forwards only, the order is read from either end.

// made is one entry of the order.
type made struct {
	ID   string `json:"id"`
	CAID string `json:"caId,omitempty"` // of a certificate
}

const (
	madePrefix = prefix + "made/"
	madeDigits = 12

	// madeSpan is how many entries one look reads, unless a page has more.
	madeSpan = 512
)

// The kinds that are kept in order.
const (
	madeCerts    = "cert"
	madeCAs      = "ca"
	madePolicies = "policy"
)

// madeComplete says that everything made before there was an order is in it.
const madeComplete = prefix + "made-complete"

func madeKey(kind string, at time.Time, id string) string {
	if kind == madePolicies { // a name may be anything, and 128 characters long
		sum := sha256.Sum256([]byte(id))
		id = hex.EncodeToString(sum[:12])
	}
	return madePrefix + kind + "/" + madeTime(at.UnixMilli()) + id
}

func madeTime(ms int64) string { return fmt.Sprintf("%0*x", madeDigits, max(0, ms)) }

// Page asks for part of a list that is kept in the order made.
type Page struct {
	After     string // what the page before returned; "" for the first
	Limit     int
	Ascending bool // the oldest first, else the newest
}

// entry is one of a page: what it names, and where the next page goes on after it.
type entry struct {
	made
	after string
}

// inOrder returns the entries of a page and whether there are more. An entry may
// name what is gone.
func (r *Registry) inOrder(ctx context.Context, kind string, p Page) (out []entry, more bool, err error) {
	if err := r.completeOrder(ctx); err != nil {
		return nil, false, fmt.Errorf("list in the order made: %w", err)
	}
	root := madePrefix + kind + "/"
	var entries []state.Entry
	if p.Ascending {
		page, err := r.store.List(ctx, root, root+p.After, p.Limit)
		if err != nil {
			return nil, false, err
		}
		entries, more = page.Entries, page.More
	} else {
		end, at := root+"~", r.now().UnixMilli() // after every digit
		if len(p.After) > madeDigits {
			end = root + p.After
			if at, err = strconv.ParseInt(p.After[:madeDigits], 16, 64); err != nil {
				return nil, false, fault.Field("marker", "is no marker of this server; begin without one")
			}
		}
		if entries, err = r.backwards(ctx, root, end, at, p.Limit+1); err != nil {
			return nil, false, err
		}
		if more = len(entries) > p.Limit; more {
			entries = entries[:p.Limit]
		}
	}
	for _, e := range entries {
		v, err := state.Decode[made](e)
		if err != nil {
			return nil, false, err
		}
		out = append(out, entry{v.Value, e.Key[len(root):]})
	}
	return out, more, nil
}

// backwards returns the last n entries with keys less than end, the last first: it
// looks for a time from which on there are n, but not many more. at is a guess of it.
func (r *Registry) backwards(ctx context.Context, root, end string, at int64, n int) ([]state.Entry, error) {
	few, many := int64(1)<<(4*madeDigits), int64(-1) // from these times on there are too few or too many
	for begin, step := at, int64(1000); ; {
		e, whole, err := r.madeFrom(ctx, root, end, at, n)
		switch {
		case err != nil:
			return nil, err
		case whole && (len(e) >= n || at == 0):
			return lastOf(e, n), nil
		case whole:
			few = at
		default:
			many = at
		}
		switch {
		case few-many == 1: // that millisecond cannot be divided any further
			page, err := r.store.List(ctx, root+madeTime(many), "", 0)
			if err != nil {
				return nil, err
			}
			later, _, err := r.madeFrom(ctx, root, end, few, n)
			return lastOf(append(before(page.Entries, end), later...), n), err
		case many >= 0:
			at = many + (few-many)/2
		default:
			at = max(0, begin-step)
			step *= 2
		}
	}
}

// madeFrom returns entries made from a time on with keys less than end, and whether
// these are all: they are if there are fewer than n.
func (r *Registry) madeFrom(ctx context.Context, root, end string, at int64, n int) (e []state.Entry, whole bool, err error) {
	page, err := r.store.List(ctx, root, root+madeTime(at), max(madeSpan, 2*n))
	if err != nil {
		return nil, false, err
	}
	e = before(page.Entries, end)
	return e, !page.More || len(e) < len(page.Entries), nil
}

func before(e []state.Entry, end string) []state.Entry {
	if i := slices.IndexFunc(e, func(e state.Entry) bool { return e.Key >= end }); i >= 0 {
		return e[:i]
	}
	return e
}

// lastOf returns the last n, the last first.
func lastOf(e []state.Entry, n int) []state.Entry {
	e = slices.Clone(e[max(0, len(e)-n):])
	slices.Reverse(e)
	return e
}

// completeOrder puts what was made before there was an order into it, once.
func (r *Registry) completeOrder(ctx context.Context) error {
	if r.ordered.Load() {
		return nil
	}
	_, err := r.store.Get(ctx, madeComplete)
	if errors.Is(err, fault.NotFound) {
		if err = r.orderAll(ctx); err == nil {
			_, err = r.store.Commit(ctx, state.NewBatch(state.StepRegistry).Put(madeComplete, true))
		}
	}
	if err == nil {
		r.ordered.Store(true)
	}
	return err
}

// orderBatch is how many entries one commit of orderAll writes.
const orderBatch = 64

func (r *Registry) orderAll(ctx context.Context) error {
	for _, k := range []struct{ kind, prefix string }{{madeCerts, certPrefix}, {madePolicies, policyPrefix}} {
		var b []*state.Batch
		err := state.All(ctx, r.store, k.prefix, func(key string, v state.Record[struct {
			CAID      string    `json:"caId"`
			CreatedAt time.Time `json:"createdAt"`
		}],
		) error {
			id := key[len(k.prefix):]
			b = append(b, state.NewBatch(state.StepRegistry).IfExists(key).Put(madeKey(k.kind, v.Value.CreatedAt, id), made{ID: id, CAID: v.Value.CAID}))
			if len(b) < orderBatch {
				return nil
			}
			defer func() { b = nil }()
			return r.commitAll(ctx, b)
		})
		if err == nil {
			err = r.commitAll(ctx, b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// commitAll commits the batches as one, or else each for itself: one whose record is
// gone by now is left out.
func (r *Registry) commitAll(ctx context.Context, batches []*state.Batch) error {
	all := state.NewBatch(state.StepRegistry)
	for _, b := range batches {
		all.Add(b)
	}
	_, err := r.store.Commit(ctx, all)
	if !errors.Is(err, fault.Conflict) || len(batches) < 2 {
		return ignore(err, fault.Conflict)
	}
	for _, b := range batches {
		if _, err := r.store.Commit(ctx, b); ignore(err, fault.Conflict) != nil {
			return err
		}
	}
	return nil
}

func ignore(err error, k fault.Kind) error {
	if errors.Is(err, k) {
		return nil
	}
	return err
}
