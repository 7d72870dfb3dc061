package jobs

import (
	"context"
	"fmt"
	"sync"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// views hold what is pending on things that are connected here, kept up by the
// watch: an announcement to thousands of them reads nothing from the store.
type views struct {
	mu sync.Mutex // guards all below and the views; held for memory operations only
	of map[string]*view
}

// view is one thing's pending executions by key, up to revision at.
type view struct {
	ready  bool
	at     state.Rev
	list   map[string]state.Record[Execution]
	missed []change // until ready: what the watch told meanwhile
}

type change struct {
	key     string
	rev     state.Rev
	deleted bool
	e       Execution
}

// put brings in a change, unless it is behind what the view has.
func (v *view) put(c change) {
	switch {
	case !v.ready:
		v.missed = append(v.missed, c)
	case c.rev <= v.at || c.rev <= v.list[c.key].Rev:
	case c.deleted:
		delete(v.list, c.key)
	default:
		v.list[c.key] = state.Record[Execution]{Value: c.e, Rev: c.rev}
	}
}

// put brings in what the watch tells.
func (w *views) put(thing string, event state.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.of[thing]
	if v == nil {
		return nil
	}
	c := change{key: event.Key, rev: event.Rev, deleted: event.Deleted}
	if !c.deleted {
		r, err := state.Decode[Execution](event.Entry)
		if err != nil {
			return err
		}
		c.e = r.Value
	}
	v.put(c)
	return nil
}

// get returns what is pending in the order of $next; ok is false if that is not
// known.
func (w *views) get(thing string) (list []Execution, ok bool) {
	w.mu.Lock()
	v := w.of[thing]
	if v == nil || !v.ready {
		w.mu.Unlock()
		return nil, false
	}
	list = make([]Execution, 0, len(v.list))
	for _, r := range v.list {
		list = append(list, r.Value)
	}
	w.mu.Unlock()
	inOrder(list)
	return list, true
}

// load reads what is pending from the store, in the order of $next, and follows it
// from there on.
func (w *views) load(ctx context.Context, s *Service, thing string) ([]Execution, error) {
	v := &view{list: map[string]state.Record[Execution]{}}
	w.mu.Lock()
	w.of[thing] = v
	w.mu.Unlock()
	page, err := s.store.List(ctx, pendingPrefix(thing), "", 0)
	list := make([]Execution, 0, len(page.Entries))
	for _, e := range page.Entries {
		r, derr := state.Decode[Execution](e)
		if derr != nil {
			err = derr
			break
		}
		v.list[e.Key] = r
		list = append(list, r.Value)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		if w.of[thing] == v {
			delete(w.of, thing)
		}
		return nil, fmt.Errorf("list pending executions of %s: %w", thing, err)
	}
	v.ready, v.at = true, page.At
	for _, c := range v.missed {
		v.put(c)
	}
	v.missed = nil
	inOrder(list)
	return list, nil
}

func (w *views) forget(thing string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.of, thing)
}

// clear forgets all: changes may have been missed.
func (w *views) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of = map[string]*view{}
}
