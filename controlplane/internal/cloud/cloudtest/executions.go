package cloudtest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// executionTests are about deployments on their way to a core, and its status.
var executionTests = map[string]func(*testing.T, subject){
	"what waits is withdrawn, what runs goes on":             withdraw,
	"a withdrawal that is not committed does not happen":     withdrawNothing,
	"a core's own time limit replaces the deployment's":      timeout,
	"what a core takes up is told before its end":            takenUp,
	"a change of status is told once, and only if it is one": statuses,
	"without a cursor, statuses begin now":                   statusesFromNow,
}

func (s subject) withdraw(e cloud.Execution) (withdrawn bool) {
	s.t.Helper()
	calls := 0
	require.NoError(s.t, s.Withdraw(s.t.Context(), e, func(b *state.Batch, did bool) error {
		calls++
		withdrawn = did
		return s.Commit(s.t.Context(), b)
	}))
	require.Equal(s.t, 1, calls)
	return withdrawn
}

func withdraw(t *testing.T, s subject) {
	s.register("core")
	d := s.ensure(prefix+"v1", "1.0.0")
	e := s.move("core", prefix+"v1", false)
	later := e
	later.Number++
	assert.False(t, s.withdraw(later), "another execution")
	assert.True(t, s.withdraw(e))
	assert.False(t, s.withdraw(e), "there is nothing left")
	require.Error(t, s.Finish(t.Context(), "core", d.JobID, "SUCCEEDED"))
	list, _ := s.follow("", "core", nil)
	assert.Equal(t, "CANCELED", list[len(list)-1].Status)
	assert.Equal(t, e.Number, list[len(list)-1].Number)
	assert.Equal(t, []string{prefix + "v1"}, s.groups())

	e = s.move("core", prefix+"v1", true)
	require.NoError(t, s.Finish(t.Context(), "core", d.JobID, "IN_PROGRESS"))
	assert.False(t, s.withdraw(e), "it runs")
	require.NoError(t, s.Finish(t.Context(), "core", d.JobID, "SUCCEEDED"))
	assert.False(t, s.withdraw(e), "it ended")
	assert.False(t, s.withdraw(cloud.Execution{Core: "stranger", JobID: d.JobID, Number: 1}))
}

func withdrawNothing(t *testing.T, s subject) {
	if !s.Atomic {
		t.Skip("this cloud has no part in the commit")
	}
	s.register("core")
	s.ensure(prefix+"v1", "1.0.0")
	e := s.move("core", prefix+"v1", false)
	lost := errors.New("lost")
	require.ErrorIs(t, s.Withdraw(t.Context(), e, func(*state.Batch, bool) error { return lost }), lost)
	assert.True(t, s.withdraw(e))
}

func timeout(t *testing.T, s subject) {
	if !s.OwnTimeout {
		s.register("core")
		s.ensure(prefix+"v1", "1.0.0")
		err := s.Move(t.Context(), cloud.Move{Core: "core", Leave: ours, Join: prefix + "v1", TimeoutMinutes: 5}, func(*state.Batch, cloud.Execution) error {
			t.Error("nothing may be committed")
			return nil
		})
		require.ErrorIs(t, err, fault.Unsupported)
		assert.Empty(t, s.groups())
		g := s.deployment(prefix+"v2", "1.0.0")
		g.JobConfig = []byte(`{"timeoutConfig":{"inProgressTimeoutInMinutes":60}}`)
		_, err = s.Ensure(t.Context(), g, "token")
		require.NoError(t, err)
		same := cloud.Move{Core: "core", Leave: ours, Join: prefix + "v2", TimeoutMinutes: 60}
		require.NoError(t, s.Move(t.Context(), same, func(*state.Batch, cloud.Execution) error { return nil }), "as the deployment says")
		return
	}
	if s.Pass == nil {
		t.Skip("this cloud's clock cannot be set")
	}
	for _, n := range []string{"short", "long", "waits"} {
		s.register(n)
	}
	g := s.deployment(prefix+"v1", "1.0.0")
	g.JobConfig = []byte(`{"timeoutConfig":{"inProgressTimeoutInMinutes":60}}`)
	d, err := s.Ensure(t.Context(), g, "token")
	require.NoError(t, err)
	move := func(core string, minutes int) error {
		return s.Move(t.Context(), cloud.Move{Core: core, Leave: ours, Join: prefix + "v1", TimeoutMinutes: minutes}, func(b *state.Batch, _ cloud.Execution) error {
			return s.Commit(t.Context(), b)
		})
	}
	require.NoError(t, move("short", 0))
	require.NoError(t, move("short", 5), "it has not begun yet")
	require.NoError(t, move("long", 0))
	require.NoError(t, move("waits", 5))
	require.ErrorIs(t, move("waits", -1), fault.Invalid)
	require.ErrorIs(t, move("waits", 10081), fault.Invalid)
	for _, n := range []string{"short", "long"} {
		require.NoError(t, s.Finish(t.Context(), n, d.JobID, "IN_PROGRESS"))
	}
	require.NoError(t, s.Pass(t.Context(), 10*time.Minute))
	require.Error(t, s.Finish(t.Context(), "short", d.JobID, "SUCCEEDED"), "it timed out")
	require.NoError(t, s.Finish(t.Context(), "long", d.JobID, "SUCCEEDED"))
	require.NoError(t, s.Finish(t.Context(), "waits", d.JobID, "IN_PROGRESS"), "the time begins with IN_PROGRESS")
}

func takenUp(t *testing.T, s subject) {
	s.register("core")
	s.register("other")
	d := s.ensure(prefix+"v1", "1.0.0")
	e := s.move("core", prefix+"v1", false)
	s.move("other", prefix+"v1", false)
	require.NoError(t, s.Finish(t.Context(), "core", d.JobID, "IN_PROGRESS"))
	first, cursor := s.follow("", "core", nil)
	require.NotEmpty(t, first)
	want := cloud.Execution{Core: "core", Group: prefix + "v1", JobID: d.JobID, DeploymentID: d.ID, Number: 1, Order: e.Order, Status: "IN_PROGRESS"}
	assert.Equal(t, want, first[len(first)-1], "what is still known")
	if cursor == "" {
		_, cursor = s.follow("", "other", func() { assert.NoError(t, s.Finish(t.Context(), "other", d.JobID, "IN_PROGRESS")) })
	}
	require.NoError(t, s.Finish(t.Context(), "core", d.JobID, "SUCCEEDED"))
	s.move("core", prefix+"v1", true)
	require.NoError(t, s.Finish(t.Context(), "core", d.JobID, "IN_PROGRESS"))
	require.NoError(t, s.Finish(t.Context(), "core", d.JobID, "FAILED"))
	var told []string
	for !slices.Contains(told, "FAILED 2") {
		var list []cloud.Execution
		list, cursor = s.follow(cursor, "core", nil)
		for _, e := range list {
			if e.Core == "core" {
				told = append(told, e.Status+" "+string(rune('0'+e.Number)))
				assert.Equal(t, e.Status != "IN_PROGRESS", e.Ended)
			}
		}
	}
	if told[0] == "IN_PROGRESS 1" { // again, which is allowed
		told = told[1:]
	}
	if s.Polled {
		assert.True(t, slices.IsSortedFunc(told, func(a, b string) int { return cmp.Compare(a[len(a)-1], b[len(b)-1]) }), "%v", told)
		return
	}
	assert.Equal(t, []string{"SUCCEEDED 1", "IN_PROGRESS 2", "FAILED 2"}, told)
}

// watch follows statuses from a cursor until n changes came; begun is called once
// the call listens.
func (s subject) watch(from string, n int, begun func()) (list []cloud.StatusChange, cursor string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	enough := errors.New("enough")
	var once sync.Once
	var wg sync.WaitGroup
	if from != "" {
		wg.Go(begun)
	}
	err := s.Statuses(ctx, from, func(changes []cloud.StatusChange, at string) error {
		if from == "" {
			once.Do(func() { wg.Go(begun) })
		}
		list, cursor = append(list, changes...), at
		if len(list) >= n {
			return enough
		}
		return nil
	})
	wg.Wait()
	require.ErrorIs(s.t, err, enough)
	return list, cursor
}

func statuses(t *testing.T, s subject) {
	s.register("core")
	said := func(list []cloud.StatusChange) (out []string) {
		for _, c := range list {
			assert.Equal(t, "core", c.Core)
			assert.False(t, c.At.IsZero())
			out = append(out, c.Status)
		}
		return out
	}
	list, cursor := s.watch("", 2, func() {
		for _, say := range []func(context.Context, string) error{s.Appear, s.Appear, s.Ail} {
			assert.NoError(t, say(t.Context(), "core"))
		}
	})
	assert.Equal(t, []string{"HEALTHY", "UNHEALTHY"}, said(list))
	require.NotEmpty(t, cursor)
	require.NoError(t, s.Ail(t.Context(), "core"))
	require.NoError(t, s.Appear(t.Context(), "core"))
	list, _ = s.watch(cursor, 1, func() {})
	assert.Equal(t, []string{"HEALTHY"}, said(list), "from the cursor on")
	require.NoError(t, s.ForgetCore(t.Context(), "core"))
	require.NoError(t, s.Ail(t.Context(), "core"))
	list, _ = s.watch(cursor, 2, func() {})
	assert.Equal(t, []string{"HEALTHY", "UNHEALTHY"}, said(list))
}

func statusesFromNow(t *testing.T, s subject) {
	s.register("core")
	require.NoError(t, s.Appear(t.Context(), "core"))
	list, _ := s.watch("", 1, func() { assert.NoError(t, s.Ail(t.Context(), "core")) })
	assert.Equal(t, "UNHEALTHY", list[0].Status)
}
