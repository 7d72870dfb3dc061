package task_test

import (
	"bytes"
	"context"
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

func TestCancelEndsWhatWaitsAtOnceAndLetsTheRestComeToItsEnd(t *testing.T) {
	for name, do := range map[string]func(context.Context) error{
		"in Later":    func(context.Context) error { return task.Later(24 * time.Hour) },
		"in back-off": func(context.Context) error { return fault.New(fault.Unavailable, "away") },
		"in Do":       func(context.Context) error { time.Sleep(time.Minute); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memory.New()
				k := work(func(ctx context.Context, w *task.Work) error {
					if w.Item.Name == "gw-0003" {
						return effect(ctx, s, w)
					}
					return do(ctx)
				})
				var failures atomic.Int64
				k.Failed = func(_ context.Context, _ task.Task, i task.Item, message string, b *state.Batch) error {
					failures.Add(1)
					b.If(effectKey(i.Name), 0).Put(effectKey(i.Name), message)
					return nil
				}
				e := engine(t, s, k)
				start(t, e)
				tk, err := e.Create(t.Context(), task.NewTask{Kind: "work", Items: items(1000)})
				require.NoError(t, err)
				time.Sleep(time.Second)
				began := time.Now()
				require.NoError(t, e.Cancel(t.Context(), tk.ID, "the operator said so"))
				require.NoError(t, e.Cancel(t.Context(), tk.ID, "another reason"), "repeatable")
				tk = await(t, e, tk.ID)
				assert.Equal(t, task.Failure, tk.Status)
				assert.Equal(t, "the operator said so", tk.StatusMessage)
				assert.Less(t, time.Since(began), 2*time.Minute)
				assert.Equal(t, []int{1, 999}, []int{tk.Succeeded, tk.Failed})
				assert.EqualValues(t, 999, failures.Load())
				it, err := e.Item(t.Context(), tk.ID, "gw-0999")
				require.NoError(t, err)
				assert.Equal(t, "the operator said so", it.Message)
				assert.Equal(t, task.Failure, it.Status)
			})
		})
	}
}

func TestATaskThatEndedCannotBeCanceledNorOneUnderWayDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := engine(t, memory.New(), work(func(context.Context, *task.Work) error { return nil }))
		tk, err := e.Create(t.Context(), task.NewTask{Kind: "work", Items: items(1)})
		require.NoError(t, err)
		require.ErrorIs(t, e.Delete(t.Context(), tk.ID, nil), fault.Conflict)
		start(t, e)
		await(t, e, tk.ID)
		require.ErrorIs(t, e.Cancel(t.Context(), tk.ID, "late"), fault.Conflict)
		require.NoError(t, e.Delete(t.Context(), tk.ID, nil))
		require.ErrorIs(t, e.Delete(t.Context(), tk.ID, nil), fault.NotFound)
		require.ErrorIs(t, e.Cancel(t.Context(), tk.ID, "later still"), fault.NotFound)
	})
}

func TestATaskWhoseTargetsAreBeingFoundIsOverWhenCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := work(func(context.Context, *task.Work) error { return nil })
		k.Expand = func(context.Context, task.Task) ([]task.NewItem, string, error) {
			time.Sleep(time.Minute)
			return items(30), "", nil
		}
		s := memory.New()
		e := engine(t, s, k)
		start(t, e)
		tk, err := e.Create(t.Context(), task.NewTask{Kind: "work"})
		require.NoError(t, err)
		time.Sleep(30 * time.Second)
		require.NoError(t, e.Cancel(t.Context(), tk.ID, "enough"))
		tk, err = e.Get(t.Context(), tk.ID)
		require.NoError(t, err)
		assert.True(t, tk.Ended())
		time.Sleep(time.Hour)
		tk, err = e.Get(t.Context(), tk.ID)
		require.NoError(t, err)
		assert.Equal(t, task.Failure, tk.Status)
		assert.Nil(t, tk.BatchesTotal)
	})
}

func TestABlobIsKeptWithTheTaskAndGoesWithIt(t *testing.T) {
	s := etcdtest.Open(t)
	e := engine(t, s, work(func(context.Context, *task.Work) error { return nil }))
	blob := bytes.Repeat([]byte("0123456789abcdef"), task.MaxBlob/16)
	n := task.NewTask{Kind: "work", Items: items(30), Blob: blob, IdempotencyKey: "k"}
	tk, err := e.Create(t.Context(), n)
	require.NoError(t, err)
	got, err := e.Blob(t.Context(), tk.ID)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(blob, got))
	n.Blob = nil
	_, err = e.Create(t.Context(), n)
	require.ErrorIs(t, err, fault.Conflict, "the blob is part of what an idempotency key stands for")
	none, err := e.Create(t.Context(), task.NewTask{Kind: "work", Items: items(1)})
	require.NoError(t, err)
	got, err = e.Blob(t.Context(), none.ID)
	require.NoError(t, err)
	assert.Nil(t, got)
	_, err = e.Create(t.Context(), task.NewTask{Kind: "work", Items: items(1), Blob: append(blob, 'x')})
	require.ErrorIs(t, err, fault.TooLarge)

	start(t, e)
	for _, id := range []string{tk.ID, none.ID} {
		await(t, e, id)
		require.NoError(t, e.Delete(t.Context(), id, nil))
	}
	_, err = e.Blob(t.Context(), tk.ID)
	require.ErrorIs(t, err, fault.NotFound)
	assert.Eventually(t, func() bool {
		left, err := s.List(t.Context(), state.Root+"task/", "", 0)
		return err == nil && len(left.Entries) == 0
	}, time.Minute, 20*time.Millisecond, "everything of a deleted task is removed, its idempotency key too")
}

func TestW29TheTasksOfAnItemAreListedNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := engine(t, memory.New(), work(func(context.Context, *task.Work) error { return nil }))
		var want []string
		for range 5 {
			tk, err := e.Create(t.Context(), task.NewTask{Kind: "work", Items: items(2)})
			require.NoError(t, err)
			want = append([]string{tk.ID}, want...)
			time.Sleep(time.Millisecond)
		}
		var got []string
		after, more := "", true
		for more {
			var page []task.Named
			var err error
			page, more, err = e.ListByName(t.Context(), "work", "gw-0001", after, 2)
			require.NoError(t, err)
			for _, n := range page {
				after = n.Task.ID
				got = append(got, after)
			}
		}
		assert.Equal(t, want, got)
		_, _, err := e.ListByName(t.Context(), "work", "gw-0001", "nosuchtask", 2)
		require.ErrorIs(t, err, fault.Invalid)
	})
}

func TestCancelHoldsOnEveryWorkerOverEtcd(t *testing.T) {
	s := etcdtest.Open(t)
	var canceled, late atomic.Bool
	kind := func() task.Kind {
		return work(func(ctx context.Context, w *task.Work) error {
			was := canceled.Load()
			err := effect(ctx, s, w)
			if was && err == nil {
				late.Store(true)
			}
			return err
		})
	}
	one, two := engine(t, s, kind()), engine(t, s, kind())
	start(t, one)
	start(t, two)
	tk, err := one.Create(t.Context(), task.NewTask{Kind: "work", Items: items(2000)})
	require.NoError(t, err)
	assert.Eventually(t, func() bool {
		r, err := one.Get(t.Context(), tk.ID)
		return err == nil && r.Succeeded > 200
	}, time.Minute, time.Millisecond)
	require.NoError(t, two.Cancel(t.Context(), tk.ID, "enough"))
	canceled.Store(true)
	tk = await(t, one, tk.ID)
	assert.False(t, late.Load(), "no item ends as Success once Cancel has returned")
	assert.Equal(t, 2000, tk.Succeeded+tk.Failed)
	assert.Positive(t, tk.Failed)
	effects := 0
	require.NoError(t, state.All(t.Context(), s, effectKey(tk.ID+"/"), func(string, state.Record[int]) error { effects++; return nil }))
	assert.Equal(t, tk.Succeeded, effects)
}
