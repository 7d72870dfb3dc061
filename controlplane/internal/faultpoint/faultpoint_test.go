package faultpoint_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/faultpoint"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/statetest"
)

func parse(t *testing.T, spec string, kill func()) *faultpoint.Points {
	t.Helper()
	p, err := faultpoint.Parse(spec, kill)
	require.NoError(t, err)
	return p
}

func TestEveryStepOfTheTableIsAPoint(t *testing.T) {
	t.Parallel()
	for _, step := range state.Steps() {
		for _, when := range []string{faultpoint.Before, faultpoint.After} {
			killed := 0
			p := parse(t, string(step)+":"+when+":2", func() { killed++ })
			for range 4 {
				for _, s := range state.Steps() {
					p.Hit(s, faultpoint.Before)
					p.Hit(s, faultpoint.After)
				}
			}
			assert.Equal(t, 1, killed, "%s %s", step, when)
		}
	}
}

func TestASpecThatMeansNothingIsRefused(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"core.register":            "before",
		"core.register:during":     "during",
		"core.register:after:0":    `"0"`,
		"core.register:after:-1":   `"-1"`,
		"core.register:after:x":    `"x"`,
		"core.register:after:1:1":  "STEP:before",
		"core.registered:after":    string(state.StepCoreRegister),
		":after":                   string(state.PutCerts),
		"core.register:after:9e99": `"9e99"`,
	} {
		_, err := faultpoint.Parse(spec, func() {})
		require.ErrorContains(t, err, want, spec)
	}
	assert.Nil(t, parse(t, "", nil))
}

func FuzzParse(f *testing.F) {
	f.Add("core.register:after:3")
	f.Add("a:b:c")
	f.Fuzz(func(t *testing.T, spec string) {
		p, err := faultpoint.Parse(spec, func() {})
		require.Equal(t, err != nil || spec == "", p == nil)
	})
}

// errDead is what a recorded kill panics with: nothing after the point may run.
var errDead = errors.New("dead")

func commit(s state.Store, step state.Step) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errDead
		}
	}()
	_, err = s.Commit(context.Background(), state.NewBatch(step).Put("/"+string(step), 1))
	return err
}

func TestACommitIsStoredAfterItsPointAndNotBefore(t *testing.T) {
	t.Parallel()
	for when, want := range map[string]int{faultpoint.Before: 0, faultpoint.After: 1} {
		inner := memory.New()
		s := faultpoint.Store(inner, parse(t, "group:"+when, func() { panic(errDead) }))
		require.NoError(t, commit(s, state.StepMove), "another step passes")
		require.ErrorIs(t, commit(s, state.StepGroup), errDead)
		p, err := inner.List(t.Context(), "/"+string(state.StepGroup), "", 0)
		require.NoError(t, err)
		n := 0
		for _, e := range p.Entries {
			if e.Key == "/"+string(state.StepGroup) {
				n++
			}
		}
		assert.Equal(t, want, n, when)
	}
}

func TestACommitThatFailedIsNotAStep(t *testing.T) {
	t.Parallel()
	inner := memory.New()
	inner.FailCommit = func(*state.Batch) error { return errors.New("no") }
	killed := false
	s := faultpoint.Store(inner, parse(t, "group:after", func() { killed = true }))
	require.Error(t, commit(s, state.StepGroup))
	assert.False(t, killed)
	inner.FailCommit = nil
	require.NoError(t, commit(s, state.StepGroup))
	assert.True(t, killed)
}

func TestOnlyOneOfManyAtOnceKills(t *testing.T) {
	t.Parallel()
	var killed atomic.Int64
	p := parse(t, "group:before:5", func() { killed.Add(1) })
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() { p.Hit(state.StepGroup, faultpoint.Before) })
	}
	wg.Wait()
	assert.EqualValues(t, 1, killed.Load())
}

type puts struct {
	object.Store
	log *[]string
	err error
}

func (p puts) Put(_ context.Context, _ state.Step, key string, _ io.Reader, _ int64, _ string) error {
	*p.log = append(*p.log, "put "+key)
	return p.err
}

func TestAPutIsBetweenItsPoints(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string][]string{
		"put.certs:before:2": {"put a", "kill", "put b"},
		"put.certs:after":    {"put a", "kill", "put b"},
		"put.config:before":  {"put a", "put b"},
	} {
		var log []string
		o := faultpoint.Objects(puts{log: &log}, parse(t, spec, func() { log = append(log, "kill") }))
		for _, key := range []string{"a", "b"} {
			require.NoError(t, o.Put(t.Context(), state.PutCerts, key, strings.NewReader(""), 0, ""))
		}
		assert.Equal(t, want, log, spec)
	}
	var log []string
	o := faultpoint.Objects(puts{log: &log, err: errors.New("no")}, parse(t, "put.certs:after", func() { log = append(log, "kill") }))
	require.Error(t, o.Put(t.Context(), state.PutCerts, "a", strings.NewReader(""), 0, ""))
	assert.Equal(t, []string{"put a"}, log)
}

func TestWithoutPointsNothingIsWrapped(t *testing.T) {
	t.Parallel()
	s := memory.New()
	assert.Same(t, s, faultpoint.Store(s, nil))
	o := puts{log: new([]string)}
	assert.Equal(t, o, faultpoint.Objects(o, nil))
	(*faultpoint.Points)(nil).Hit(state.StepGroup, faultpoint.Before)
}

func TestAWrappedStoreKeepsTheContract(t *testing.T) {
	t.Parallel()
	p := parse(t, "group:after", func() { os.Exit(1) })
	statetest.Store(t, func(*testing.T) state.Store { return faultpoint.Store(memory.New(), p) })
}
