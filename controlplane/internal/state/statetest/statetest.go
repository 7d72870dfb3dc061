// Package statetest is the contract of state.Store as tests: one for every
// promise in its comments. Each implementation runs it; it knows none of them.
package statetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// patience bounds every wait; nothing passes or fails by being slower than
// something else.
const patience = 2 * time.Minute

// Store runs the contract. open returns an empty store that shares nothing with
// the ones it returned before, and releases it by t.Cleanup.
func Store(t *testing.T, open func(t *testing.T) state.Store) {
	t.Helper()
	// These look at the revision of the whole store, which may be one for all.
	for name, check := range map[string]func(t *testing.T, s state.Store){
		"a list says at which revision it was read":       listAt,
		"a batch with a broken condition changes nothing": wholeOrNothing,
		"an empty batch does nothing":                     emptyBatch,
	} {
		t.Run(name, func(t *testing.T) { check(t, open(t)) })
	}
	for name, check := range map[string]func(t *testing.T, s state.Store){
		"an absent key is not found":                           absent,
		"a commit is read back with its revision":              readBack,
		"revisions only grow":                                  revisionsGrow,
		"what a reader does with a value changes no record":    valuesAreCopies,
		"a list is paged in key order":                         listPages,
		"a list stays inside its prefix":                       listPrefix,
		"conditions hold or conflict":                          conditions,
		"deleting an absent key is no error":                   deleteAbsent,
		"a batch of the largest size commits, a larger not":    batchSize,
		"an unknown step is refused":                           unknownStep,
		"one of sixteen writers of the same revision wins":     oneWinner,
		"sixteen writers that retry lose no update":            noLostUpdate,
		"a cancelled context commits nothing":                  cancelled,
		"a watch continues after a revision":                   watchContinues,
		"a watch gets each commit in one call":                 watchGroups,
		"a watch from zero gets everything":                    watchFromZero,
		"a watch gets only its prefix":                         watchPrefix,
		"a watch follows what is committed while it runs":      watchLive,
		"a watch ends with the error of its handler":           watchHandlerFails,
		"a watch ends without error when its context is done":  watchContextDone,
		"keys under a lease vanish when it is closed":          leaseClosed,
		"keys under a lease vanish when its holder is gone":    leaseExpires,
		"a lease that is held outlives its time":               leaseKeptAlive,
		"a commit under an ended lease conflicts":              leaseEnded,
		"a key written again without lease outlives the lease": leaseDetached,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, open(t))
		})
	}
	t.Run("two stores share nothing", func(t *testing.T) {
		a, b := open(t), open(t)
		put(t, a, key("x"), 1)
		_, err := b.Get(t.Context(), key("x"))
		require.ErrorIs(t, err, fault.NotFound)
		p, err := b.List(t.Context(), "", "", 0)
		require.NoError(t, err)
		assert.Empty(t, p.Entries)
	})
}

func key(name string) string { return state.Root + "t/" + name }

func batch() *state.Batch { return state.NewBatch(state.StepRegistry) }

func commit(t *testing.T, s state.Store, b *state.Batch) state.Rev {
	t.Helper()
	rev, err := s.Commit(t.Context(), b)
	require.NoError(t, err)
	return rev
}

func put(t *testing.T, s state.Store, k string, v any) state.Rev {
	t.Helper()
	return commit(t, s, batch().Put(k, v))
}

func list(t *testing.T, s state.Store, prefix, after string, limit int) state.Page {
	t.Helper()
	p, err := s.List(t.Context(), prefix, after, limit)
	require.NoError(t, err)
	return p
}

func names(p state.Page) []string {
	out := []string{}
	for _, e := range p.Entries {
		out = append(out, strings.TrimPrefix(e.Key, key("")))
	}
	return out
}

func absent(t *testing.T, s state.Store) {
	_, err := s.Get(t.Context(), key("nobody"))
	require.ErrorIs(t, err, fault.NotFound)
	assert.ErrorContains(t, err, key("nobody"))
	p := list(t, s, key(""), "", 0)
	assert.Empty(t, p.Entries)
	assert.False(t, p.More)
}

func readBack(t *testing.T, s state.Store) {
	rev := commit(t, s, batch().Put(key("a"), "one").Put(key("b"), map[string]int{"n": 2}))
	for k, want := range map[string]string{"a": `"one"`, "b": `{"n":2}`} {
		e, err := s.Get(t.Context(), key(k))
		require.NoError(t, err)
		assert.Equal(t, state.Entry{Key: key(k), Value: []byte(want), Rev: rev}, e)
	}
	commit(t, s, batch().Delete(key("a")))
	_, err := s.Get(t.Context(), key("a"))
	require.ErrorIs(t, err, fault.NotFound)
}

func revisionsGrow(t *testing.T, s state.Store) {
	last := state.Rev(0)
	for i := range 5 {
		rev := put(t, s, key("a"), i)
		require.Greater(t, rev, last)
		last = rev
	}
	other := put(t, s, key("b"), 0)
	e, err := s.Get(t.Context(), key("a"))
	require.NoError(t, err)
	assert.Equal(t, last, e.Rev, "a write of another key leaves this one's revision")
	assert.Greater(t, other, last)
}

func valuesAreCopies(t *testing.T, s state.Store) {
	put(t, s, key("a"), "text")
	e, err := s.Get(t.Context(), key("a"))
	require.NoError(t, err)
	e.Value[1] = 'X'
	list(t, s, key(""), "", 0).Entries[0].Value[1] = 'Y'
	e, err = s.Get(t.Context(), key("a"))
	require.NoError(t, err)
	assert.Equal(t, `"text"`, string(e.Value))
}

func listPages(t *testing.T, s state.Store) {
	b := batch()
	for _, i := range []int{3, 0, 4, 1, 2} {
		b.Put(key(fmt.Sprint(i)), i)
	}
	commit(t, s, b)
	for _, c := range []struct {
		after string
		limit int
		want  []string
		more  bool
	}{
		{"", 0, []string{"0", "1", "2", "3", "4"}, false},
		{"", 2, []string{"0", "1"}, true},
		{key("1"), 2, []string{"2", "3"}, true},
		{key("3"), 2, []string{"4"}, false},
		{key("2"), 2, []string{"3", "4"}, false},
		{key("4"), 2, []string{}, false},
		{key("zzz"), 2, []string{}, false},
		{key("15"), 1, []string{"2"}, true},
		{state.Root, 5, []string{"0", "1", "2", "3", "4"}, false},
	} {
		p := list(t, s, key(""), c.after, c.limit)
		assert.Equal(t, c.want, names(p), "after %q limit %d", c.after, c.limit)
		assert.Equal(t, c.more, p.More, "after %q limit %d", c.after, c.limit)
	}
}

func listPrefix(t *testing.T, s state.Store) {
	commit(t, s, batch().Put(key("a"), 0).Put(key("a/1"), 0).Put(key("a/2"), 0).Put(key("a0"), 0).Put(key("b"), 0))
	assert.Equal(t, []string{"a/1", "a/2"}, names(list(t, s, key("a/"), "", 0)))
	assert.Equal(t, []string{"a", "a/1", "a/2", "a0"}, names(list(t, s, key("a"), "", 0)))
	assert.Len(t, list(t, s, "", "", 0).Entries, 5, "the empty prefix is everything")
	assert.Empty(t, list(t, s, key("a/"), key("b"), 0).Entries, "after may lie behind the prefix")
}

func listAt(t *testing.T, s state.Store) {
	rev := put(t, s, key("a"), 1)
	assert.Equal(t, rev, list(t, s, key(""), "", 0).At)
	other := put(t, s, state.Root+"other", 1)
	p := list(t, s, key(""), "", 0)
	assert.Equal(t, other, p.At, "At is the store's revision, not the entries'")
	assert.Equal(t, rev, p.Entries[0].Rev)
	assert.Equal(t, other, list(t, s, key("none/"), "", 0).At)
}

func wholeOrNothing(t *testing.T, s state.Store) {
	rev := put(t, s, key("a"), 1)
	_, err := s.Commit(t.Context(), batch().Put(key("a"), 2).Put(key("b"), 2).Delete(key("a2")).If(key("a"), rev).If(key("c"), rev))
	require.ErrorIs(t, err, fault.Conflict)
	assert.ErrorContains(t, err, key("c"), "the conflict names the key whose condition failed")
	p := list(t, s, key(""), "", 0)
	assert.Equal(t, []string{"a"}, names(p))
	assert.Equal(t, rev, p.At)
}

func conditions(t *testing.T, s state.Store) {
	rev := put(t, s, key("there"), 1)
	for name, c := range map[string]struct {
		b  *state.Batch
		ok bool
	}{
		"absent and absent":        {batch().If(key("new"), 0), true},
		"absent but there":         {batch().If(key("there"), 0), false},
		"at its revision":          {batch().If(key("there"), rev), true},
		"at an older revision":     {batch().If(key("there"), rev-1), false},
		"at a revision but absent": {batch().If(key("none"), rev), false},
		"exists":                   {batch().IfExists(key("there")), true},
		"exists but absent":        {batch().IfExists(key("none")), false},
		"all hold":                 {batch().If(key("there"), rev).IfExists(key("there")).If(key("none"), 0), true},
		"the last does not":        {batch().If(key("there"), rev).If(key("none"), 0).IfExists(key("none")), false},
	} {
		_, err := s.Commit(t.Context(), c.b.Put(key("out/"+name), 1))
		_, got := s.Get(t.Context(), key("out/"+name))
		if c.ok {
			assert.NoError(t, err, name)
			assert.NoError(t, got, name)
			continue
		}
		assert.ErrorIs(t, err, fault.Conflict, name)
		assert.ErrorIs(t, got, fault.NotFound, name)
	}
	_, err := s.Commit(t.Context(), batch().If(key("there"), rev-1))
	assert.ErrorIs(t, err, fault.Conflict, "conditions alone are checked too")
}

func deleteAbsent(t *testing.T, s state.Store) {
	commit(t, s, batch().Delete(key("nobody")))
	commit(t, s, batch().Delete(key("nobody")).Put(key("a"), 1))
	assert.Equal(t, []string{"a"}, names(list(t, s, key(""), "", 0)))
}

func emptyBatch(t *testing.T, s state.Store) {
	rev := put(t, s, key("a"), 1)
	commit(t, s, batch())
	assert.Equal(t, rev, list(t, s, key(""), "", 0).At)
}

func batchSize(t *testing.T, s state.Store) {
	b := batch()
	for i := range state.MaxBatch {
		b.Put(key(fmt.Sprintf("%03d", i)), i).If(key(fmt.Sprintf("%03d", i)), 0)
	}
	commit(t, s, b)
	assert.Len(t, list(t, s, key(""), "", 0).Entries, state.MaxBatch)

	writes, conds := batch(), batch().Put(key("x"), 1)
	for i := range state.MaxBatch + 1 {
		writes.Put(key(fmt.Sprintf("w%03d", i)), i)
		conds.If(key(fmt.Sprintf("c%03d", i)), 0)
	}
	for _, b := range []*state.Batch{writes, conds} {
		_, err := s.Commit(t.Context(), b)
		assert.Error(t, err)
	}
	assert.Len(t, list(t, s, key(""), "", 0).Entries, state.MaxBatch)
}

func unknownStep(t *testing.T, s state.Store) {
	_, err := s.Commit(t.Context(), state.NewBatch("made.up").Put(key("a"), 1))
	require.ErrorContains(t, err, "made.up")
	assert.Empty(t, list(t, s, key(""), "", 0).Entries)
}
