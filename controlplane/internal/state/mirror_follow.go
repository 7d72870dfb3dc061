package state

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// How a Mirror stays true: changes reach it by listing, by the watch and from
// commits of this process, in any order. Per key the revision decides. Removed
// keys have none, so dead remembers what was removed ahead of the watch, and
// passed refuses what arrives behind it.

// list brings in everything under the prefix, also over a mirror that holds
// something already.
func (m *Mirror[T]) list(ctx context.Context) error {
	m.mu.Lock()
	m.listing, m.frontier, m.listedAt = true, "", 0
	m.mu.Unlock()
	for after, last := "", false; !last; {
		p, err := m.store.List(ctx, m.prefix, after, listPage)
		if err != nil {
			return err
		}
		fresh := make([]*T, len(p.Entries)) // decoded before the lock
		for i, e := range p.Entries {
			if fresh[i], err = decode[T](e); err != nil {
				return err
			}
		}
		last = !p.More
		m.takePage(p, fresh, after)
		if !last {
			after = p.Entries[len(p.Entries)-1].Key
		}
	}
	return nil
}

// takePage makes the mirror equal to p in the range of keys that p covers,
// except for what changed after p was read.
func (m *Mirror[T]) takePage(p Page, fresh []*T, after string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listedAt == 0 {
		m.listedAt = p.At // the later pages are newer; the watch starts here
	}
	present := make(map[string]bool, len(p.Entries))
	for i, e := range p.Entries {
		present[e.Key] = true
		m.put(e.Key, fresh[i], e.Rev)
		m.frontier = e.Key
	}
	var gone []string
	m.tree.AscendGreaterOrEqual(Item[T]{Key: after}, func(it Item[T]) bool {
		if p.More && it.Key > m.frontier {
			return false
		}
		if it.Key > after && !present[it.Key] && it.Rev <= p.At {
			gone = append(gone, it.Key)
		}
		return true
	})
	for _, k := range gone {
		m.remove(k)
		m.dead[k] = max(m.dead[k], p.At) // the watch will tell again of what led to this page
	}
	if !p.More {
		m.listing = false
		m.pass(m.listedAt)
	}
}

// take brings in the events of one commit from the watch.
func (m *Mirror[T]) take(events []Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range events {
		if it, ok := m.tree.Get(Item[T]{Key: e.Key}); ok && it.Rev >= e.Rev {
			continue
		}
		if e.Deleted {
			m.remove(e.Key)
			continue
		}
		if m.dead[e.Key] >= e.Rev {
			continue
		}
		v, err := decode[T](e.Entry)
		if err != nil {
			return err
		}
		m.put(e.Key, v, e.Rev)
	}
	m.pass(events[len(events)-1].Rev)
	return nil
}

// committed brings in a commit of this process.
func (m *Mirror[T]) committed(ops []Op, rev Rev) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, op := range ops {
		if !strings.HasPrefix(op.Key, m.prefix) || m.stale(op.Key, rev) {
			continue
		}
		if op.Delete {
			if it, ok := m.tree.Get(Item[T]{Key: op.Key}); !ok || it.Rev < rev {
				m.remove(op.Key)
				m.dead[op.Key] = max(m.dead[op.Key], rev)
			}
			continue
		}
		v, err := decode[T](Entry{Key: op.Key, Value: op.Value})
		if err != nil {
			continue // the watch meets it too, and there it ends Run
		}
		m.put(op.Key, v, rev)
	}
}

// stale reports whether listing or watch have already said what the store held
// at key as of rev or later.
func (m *Mirror[T]) stale(key string, rev Rev) bool {
	return rev <= m.passed || m.listing && key <= m.frontier && rev <= m.listedAt
}

// put sets key to v unless something newer is known.
func (m *Mirror[T]) put(key string, v *T, rev Rev) {
	old, ok := m.tree.Get(Item[T]{Key: key})
	if ok && old.Rev >= rev || m.dead[key] >= rev {
		return
	}
	delete(m.dead, key)
	m.tree.ReplaceOrInsert(Item[T]{Key: key, Value: v, Rev: rev})
	m.onChange(key, old.Value, v)
}

func (m *Mirror[T]) remove(key string) {
	if old, ok := m.tree.Delete(Item[T]{Key: key}); ok {
		m.onChange(key, old.Value, nil)
	}
}

// pass notes that everything up to rev is in.
func (m *Mirror[T]) pass(rev Rev) {
	m.passed = max(m.passed, rev)
	for k, r := range m.dead {
		if r <= m.passed {
			delete(m.dead, k)
		}
	}
}

func decode[T any](e Entry) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(e.Value, v); err != nil {
		return nil, fmt.Errorf("decode record %s: %w", e.Key, err)
	}
	return v, nil
}
