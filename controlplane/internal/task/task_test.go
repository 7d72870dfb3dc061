package task_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// work is a kind whose items count their effect in records of their own.
func work(do func(context.Context, *task.Work) error) task.Kind {
	return task.Kind{Name: "work", Do: do}
}

func effectKey(name string) string { return state.Root + "effect/" + name }

// effect ends an item together with a record that must be written once.
func effect(ctx context.Context, s state.Store, w *task.Work) error {
	key := effectKey(w.Task.ID + "/" + w.Item.Name)
	r, err := state.ReadOr[int](ctx, s, key)
	if err != nil {
		return err
	}
	b := state.NewBatch(state.StepCoreRegister).If(key, r.Rev).Put(key, r.Value+1)
	return w.Finish(ctx, b, task.Result{Status: task.Success, Message: "made"})
}

func engine(t testing.TB, s state.Store, kinds ...task.Kind) *task.Engine {
	e, err := task.New(task.Config{Store: s, Kinds: kinds})
	require.NoError(t, err)
	return e
}

func start(t testing.TB, e *task.Engine) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
	})
}

func items(n int) []task.NewItem {
	var list []task.NewItem
	for i := range n {
		list = append(list, task.NewItem{Name: fmt.Sprintf("gw-%04d", i), Spec: map[string]int{"n": i}})
	}
	return list
}

// await polls until the task ended.
func await(t testing.TB, e *task.Engine, id string) task.Task {
	for {
		tk, err := e.Get(t.Context(), id)
		if err == nil && tk.Ended() {
			return tk
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("task %s did not end: %+v", id, tk)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func TestTaskRunsToItsEndOnBothStores(t *testing.T) {
	for name, open := range map[string]func(testing.TB) state.Store{
		"memory": func(testing.TB) state.Store { return memory.New() },
		"etcd":   func(t testing.TB) state.Store { return etcdtest.Open(t) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			e := engine(t, s, work(func(ctx context.Context, w *task.Work) error {
				if w.Item.Name == "gw-0007" {
					return fault.New(fault.Denied, "the registry says no")
				}
				return effect(ctx, s, w)
			}))
			tk, err := e.Create(t.Context(), task.NewTask{Kind: "work", Items: items(45), Spec: map[string]string{"coreVersion": "2.5.0"}})
			require.NoError(t, err)
			assert.Regexp(t, `^[A-Za-z0-9_\-]{9}$`, tk.ID)

			before, err := e.Get(t.Context(), tk.ID)
			require.NoError(t, err)
			assert.Equal(t, task.Waiting, before.Status)
			assert.Nil(t, before.UpdatedAt)
			assert.Equal(t, 3, *before.BatchesTotal)

			start(t, e)
			tk = await(t, e, tk.ID)
			assert.Equal(t, task.Failure, tk.Status, "one item failed")
			assert.Equal(t, []int{45, 44, 1, 3}, []int{tk.Items, tk.Succeeded, tk.Failed, tk.BatchesComplete})
			assert.Empty(t, tk.StatusMessage)
			assert.JSONEq(t, `{"coreVersion":"2.5.0"}`, string(tk.Spec))

			failed, err := e.Item(t.Context(), tk.ID, "gw-0007")
			require.NoError(t, err)
			assert.Equal(t, task.Failure, failed.Status)
			assert.Equal(t, "the registry says no", failed.Message)
			done, err := e.Item(t.Context(), tk.ID, "gw-0044")
			require.NoError(t, err)
			assert.Equal(t, task.Success, done.Status)
			assert.Equal(t, "made", done.Message)
			assert.JSONEq(t, `{"n":44}`, string(done.Spec))
			assert.NotNil(t, done.UpdatedAt)

			var seen []string
			after, more := "", true
			for more {
				var page []task.Item
				page, more, err = e.Items(t.Context(), tk.ID, after, 7)
				require.NoError(t, err)
				for _, i := range page {
					seen = append(seen, i.Name)
					after = i.Name
				}
			}
			require.Len(t, seen, 45)
			assert.Equal(t, "gw-0000", seen[0])
			assert.Equal(t, "gw-0044", seen[44])

			named, more, err := e.ListByName(t.Context(), "work", "gw-0007", "", 10)
			require.NoError(t, err)
			assert.False(t, more)
			require.Len(t, named, 1)
			assert.Equal(t, tk.ID, named[0].Task.ID)
			assert.Equal(t, task.Failure, named[0].Item.Status)

			list, _, err := e.List(t.Context(), "work", "", 10)
			require.NoError(t, err)
			require.Len(t, list, 1)

			live, err := s.List(t.Context(), state.Root+"task/live/", "", 0)
			require.NoError(t, err)
			assert.Empty(t, live.Entries, "an ended task leaves nothing for workers to look at")
		})
	}
}

func TestTargetsBecomeItemsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		tries := 0
		k := work(func(ctx context.Context, w *task.Work) error { return effect(ctx, s, w) })
		k.Expand = func(context.Context, task.Task) ([]task.NewItem, string, error) {
			if tries++; tries < 3 {
				return nil, "", errors.New("the group cannot be listed now")
			}
			return append(items(30), items(30)...), "2 names skipped", nil
		}
		e := engine(t, s, k)
		tk, err := e.Create(t.Context(), task.NewTask{Kind: "work", BatchSize: 7})
		require.NoError(t, err)
		assert.Nil(t, tk.BatchesTotal)
		none, _, err := e.Items(t.Context(), tk.ID, "", 0)
		require.NoError(t, err)
		assert.Empty(t, none)

		start(t, e)
		tk = await(t, e, tk.ID)
		assert.Equal(t, task.Success, tk.Status)
		assert.Equal(t, 30, tk.Succeeded)
		assert.Equal(t, "2 names skipped", tk.StatusMessage)
		assert.Equal(t, 5, *tk.BatchesTotal)
	})
}

func TestTargetsThatNameNothingFailTheTask(t *testing.T) {
	for name, tc := range map[string]struct {
		expand  func(context.Context, task.Task) ([]task.NewItem, string, error)
		message string
	}{
		"nothing": {func(context.Context, task.Task) ([]task.NewItem, string, error) { return nil, "", nil }, "name nothing"},
		"permanent": {func(context.Context, task.Task) ([]task.NewItem, string, error) {
			return nil, "", fault.New(fault.NotFound, "no thing group x")
		}, "no thing group x"},
		"always passing": {func(context.Context, task.Task) ([]task.NewItem, string, error) {
			return nil, "", fault.New(fault.Unavailable, "registry is away")
		}, "gave up after 10m"},
		"panic": {func(context.Context, task.Task) ([]task.NewItem, string, error) { panic("index") }, "internal error"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := work(func(context.Context, *task.Work) error { return nil })
				k.Expand = tc.expand
				e := engine(t, memory.New(), k)
				tk, err := e.Create(t.Context(), task.NewTask{Kind: "work"})
				require.NoError(t, err)
				start(t, e)
				tk = await(t, e, tk.ID)
				assert.Equal(t, task.Failure, tk.Status)
				assert.Contains(t, tk.StatusMessage, tc.message)
				assert.Nil(t, tk.BatchesTotal)
				assert.NotNil(t, tk.UpdatedAt)
			})
		})
	}
}

func TestW38W64AnItemThatNeverWorksIsGivenUpAndSaysWhy(t *testing.T) {
	for name, tc := range map[string]struct {
		do      func() error
		message string
	}{
		"passing":      {func() error { return fault.New(fault.Unavailable, "S3 is away") }, "gave up after 10m"},
		"unclassified": {func() error { return errors.New("secret detail") }, "internal error"},
		"panic":        {func() error { panic("nil map") }, "internal error"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memory.New()
				k := work(func(context.Context, *task.Work) error { return tc.do() })
				k.Failed = func(_ context.Context, _ task.Task, i task.Item, message string, b *state.Batch) error {
					b.If(effectKey(i.Name), 0).Put(effectKey(i.Name), message)
					return nil
				}
				e := engine(t, s, k)
				began := time.Now()
				tk, err := e.Create(t.Context(), task.NewTask{Kind: "work", Items: items(1)})
				require.NoError(t, err)
				start(t, e)
				tk = await(t, e, tk.ID)
				assert.Equal(t, task.Failure, tk.Status)
				assert.InDelta(t, 10*time.Minute, time.Since(began), float64(time.Minute))
				it, err := e.Item(t.Context(), tk.ID, "gw-0000")
				require.NoError(t, err)
				assert.Contains(t, it.Message, tc.message)
				assert.NotContains(t, it.Message, "secret detail")
				own, err := state.Read[string](t.Context(), s, effectKey("gw-0000"))
				require.NoError(t, err)
				assert.Equal(t, it.Message, own.Value, "the kind records the failure in the same commit")
			})
		})
	}
}

func TestTheStoreBeingAwayCostsNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFlaky()
		e := engine(t, s, work(func(ctx context.Context, w *task.Work) error { return effect(ctx, s, w) }))
		tk, err := e.Create(t.Context(), task.NewTask{Kind: "work", Items: items(5)})
		require.NoError(t, err)
		s.away.Store(true)
		start(t, e)
		time.Sleep(3 * time.Hour)
		s.away.Store(false)
		assert.Equal(t, task.Success, await(t, e, tk.ID).Status)
	})
}

func TestLaterWaitsWithoutASlotAndWithoutCounting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := time.Now().Add(2 * time.Hour)
		s := memory.New()
		var begun sync.Map
		e := engine(t, s, work(func(ctx context.Context, w *task.Work) error {
			begun.Store(w.Item.Name, true)
			if w.Item.Name != "quick" && time.Now().Before(turn) {
				return task.Later(10 * time.Minute)
			}
			return effect(ctx, s, w)
		}))
		slow, err := e.Create(t.Context(), task.NewTask{Kind: "work", Items: items(200)})
		require.NoError(t, err)
		start(t, e)
		time.Sleep(time.Minute)
		waiting := 0
		begun.Range(func(any, any) bool { waiting++; return true })
		assert.LessOrEqual(t, waiting, 60, "few batches are claimed by items that only wait")
		quick, err := e.Create(t.Context(), task.NewTask{Kind: "work", Items: []task.NewItem{{Name: "quick"}}})
		require.NoError(t, err)
		began := time.Now()
		assert.Equal(t, task.Success, await(t, e, quick.ID).Status)
		assert.Less(t, time.Since(began), time.Second, "a task that waits does not hold up another")
		assert.Equal(t, task.Success, await(t, e, slow.ID).Status)
	})
}

func TestALargeTaskDoesNotStarveASmallOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		e := engine(t, s, work(func(ctx context.Context, w *task.Work) error {
			time.Sleep(time.Second)
			return effect(ctx, s, w)
		}))
		large, err := e.Create(t.Context(), task.NewTask{Kind: "work", Items: items(2000)})
		require.NoError(t, err)
		start(t, e)
		time.Sleep(5 * time.Second)
		began := time.Now()
		small, err := e.Create(t.Context(), task.NewTask{Kind: "work", Items: items(2)})
		require.NoError(t, err)
		await(t, e, small.ID)
		assert.Less(t, time.Since(began), 10*time.Second)
		tk, err := e.Get(t.Context(), large.ID)
		require.NoError(t, err)
		assert.Equal(t, task.InProgress, tk.Status)
		await(t, e, large.ID)
	})
}

func TestReleaseAllHandsOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFlaky()
		var stuck atomic.Bool
		stuck.Store(true)
		k := work(func(ctx context.Context, w *task.Work) error {
			if stuck.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			return effect(ctx, s, w)
		})
		dead := engine(t, s, k)
		tk, err := dead.Create(t.Context(), task.NewTask{Kind: "work", Items: items(50)})
		require.NoError(t, err)
		ctx, kill := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- dead.Run(ctx) }()
		synctest.Wait()
		kill()
		require.NoError(t, <-ended) // flaky leaves the claims, like kill -9
		stuck.Store(false)

		began := time.Now()
		e := engine(t, s, k)
		require.NoError(t, e.ReleaseAll(t.Context()))
		start(t, e)
		await(t, e, tk.ID)
		assert.Less(t, time.Since(began), time.Second)
	})
}

func TestCreateRefusesWhatCannotBeDone(t *testing.T) {
	e := engine(t, memory.New(), work(func(context.Context, *task.Work) error { return nil }))
	for name, tc := range map[string]struct {
		n    task.NewTask
		want string
	}{
		"no items":        {task.NewTask{Kind: "work"}, "items"},
		"same name twice": {task.NewTask{Kind: "work", Items: append(items(3), items(1)...)}, "items[3].name"},
		"empty name":      {task.NewTask{Kind: "work", Items: []task.NewItem{{}}}, "items[0].name"},
		"batch size":      {task.NewTask{Kind: "work", Items: items(1), BatchSize: 101}, "batchSize"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.Create(t.Context(), tc.n)
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, tc.want, fault.FieldOf(err))
		})
	}
	_, err := e.Create(t.Context(), task.NewTask{Kind: "work", Items: items(task.MaxItems + 1)})
	require.ErrorIs(t, err, fault.TooLarge)
	_, err = e.Get(t.Context(), "abcdefghi")
	require.ErrorIs(t, err, fault.NotFound)
}

func TestAnIdempotencyKeyMakesOneTask(t *testing.T) {
	s := memory.New()
	e := engine(t, s, work(func(context.Context, *task.Work) error { return nil }))
	n := task.NewTask{Kind: "work", Items: items(3), IdempotencyKey: "order 66/ä"}
	first, err := e.Create(t.Context(), n)
	require.NoError(t, err)
	again, err := e.Create(t.Context(), n)
	require.NoError(t, err)
	assert.Equal(t, first.ID, again.ID)
	n.Items = items(4)
	_, err = e.Create(t.Context(), n)
	require.ErrorIs(t, err, fault.Conflict)
	assert.ErrorContains(t, err, first.ID)
	list, _, err := e.List(t.Context(), "work", "", 0)
	require.NoError(t, err)
	assert.Len(t, list, 1)
}

func TestW39ACreateThatBreaksLeavesNothing(t *testing.T) {
	for _, step := range []state.Step{state.StepTaskItems, state.StepTaskCreate} {
		t.Run(string(step), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memory.New()
				e := engine(t, s, work(func(context.Context, *task.Work) error { return nil }))
				fails, dead := 2, false // the commits from the third on: then the process is dead
				var mu sync.Mutex
				s.FailCommit = func(b *state.Batch) error {
					mu.Lock()
					defer mu.Unlock()
					if b.Step == step {
						fails--
					}
					if b.Step == step && (fails < 0 || step == state.StepTaskCreate) {
						dead = true
					}
					if dead {
						return fault.New(fault.Unavailable, "away")
					}
					return nil
				}
				_, err := e.Create(t.Context(), task.NewTask{Kind: "work", Items: items(500)})
				require.ErrorIs(t, err, fault.Unavailable)
				s.FailCommit = nil
				left, err := s.List(t.Context(), state.Root+"task/", "", 0)
				require.NoError(t, err)
				require.NotEmpty(t, left.Entries)

				require.NoError(t, e.Sweep(t.Context()), "too young to be swept")
				time.Sleep(11 * time.Minute)
				require.NoError(t, e.Sweep(t.Context()))
				left, err = s.List(t.Context(), state.Root+"task/", "", 0)
				require.NoError(t, err)
				assert.Empty(t, left.Entries)
			})
		})
	}
}

func TestAnotherProcessGoesOnWhereOneDied(t *testing.T) {
	s := etcdtest.Open(t)
	var done atomic.Int64
	ctx, kill := context.WithCancel(t.Context())
	dead := engine(t, s, work(func(ctx context.Context, w *task.Work) error {
		if done.Add(1) > 150 {
			kill()
		}
		return effect(ctx, s, w)
	}))
	tk, err := dead.Create(t.Context(), task.NewTask{Kind: "work", Items: items(500)})
	require.NoError(t, err)
	require.NoError(t, dead.Run(ctx))
	half, err := dead.Get(t.Context(), tk.ID)
	require.NoError(t, err)
	require.False(t, half.Ended())

	e := engine(t, s, work(func(ctx context.Context, w *task.Work) error { return effect(ctx, s, w) }))
	require.NoError(t, e.ReleaseAll(t.Context()))
	start(t, e)
	tk = await(t, e, tk.ID)
	assert.Equal(t, task.Success, tk.Status)
	assert.Equal(t, 500, tk.Succeeded)
	effects := 0
	require.NoError(t, state.All(t.Context(), s, effectKey(tk.ID+"/"), func(key string, r state.Record[int]) error {
		effects++
		assert.Equal(t, 1, r.Value, key)
		return nil
	}))
	assert.Equal(t, 500, effects)
}
