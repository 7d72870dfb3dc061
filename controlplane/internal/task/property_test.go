package task_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// scenario is one course of events, drawn before the bubble of virtual time.
type scenario struct {
	expands   bool
	batchSize int
	items     []string // behaviour of each: ok, slow, twice, later, denied, never
	fates     []byte   // of the first commits of the workers
	events    []event
}

type event struct {
	after  time.Duration
	what   string // expire, kill, away, cancel
	worker int
}

func draw(t *rapid.T) scenario {
	return scenario{
		expands:   rapid.Bool().Draw(t, "expands"),
		batchSize: rapid.IntRange(1, 9).Draw(t, "batch size"),
		items:     rapid.SliceOfN(rapid.SampledFrom([]string{"ok", "ok", "ok", "slow", "twice", "later", "denied", "never"}), 1, 40).Draw(t, "items"),
		fates:     rapid.SliceOfN(rapid.SampledFrom([]byte("    la")), 0, 200).Draw(t, "fates"),
		events: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event {
			return event{
				after:  time.Duration(rapid.IntRange(0, 8000).Draw(t, "after")) * time.Millisecond,
				what:   rapid.SampledFrom([]string{"expire", "kill", "away", "cancel"}).Draw(t, "what"),
				worker: rapid.IntRange(0, 1).Draw(t, "worker"),
			}
		}), 0, 12).Draw(t, "events"),
	}
}

func TestW36W37EveryItemEndsOnceWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		sc := draw(rt)
		var problems []string
		synctest.Test(t, func(t *testing.T) { problems = sc.play(t) })
		if len(problems) > 0 {
			rt.Fatalf("%s", strings.Join(problems, "\n"))
		}
	})
}

// play runs the scenario with two workers and returns what is wrong at its end.
func (sc scenario) play(t *testing.T) (problems []string) {
	s := newFlaky()
	var mu sync.Mutex
	attempts := map[string]int{}
	k := work(func(ctx context.Context, w *task.Work) error {
		mu.Lock()
		attempts[w.Item.Name]++
		n := attempts[w.Item.Name]
		mu.Unlock()
		switch behaviour, _, _ := strings.Cut(w.Item.Name, "-"); behaviour {
		case "slow":
			time.Sleep(3 * time.Second)
		case "twice":
			if n <= 2 {
				return fault.New(fault.Exhausted, "too fast")
			}
		case "later":
			if n <= 3 {
				return task.Later(20 * time.Second)
			}
		case "denied":
			return fault.New(fault.Denied, "no")
		case "never":
			return errors.New("always")
		}
		return effect(ctx, s, w)
	})
	k.Failed = func(ctx context.Context, t task.Task, i task.Item, _ string, b *state.Batch) error {
		key := failureKey(t.ID + "/" + i.Name)
		r, err := state.ReadOr[int](ctx, s, key)
		b.If(key, r.Rev).Put(key, r.Value+1)
		return err
	}
	var list []task.NewItem
	for i, b := range sc.items {
		list = append(list, task.NewItem{Name: fmt.Sprintf("%s-%d", b, i)})
	}
	n := task.NewTask{Kind: "work", Items: list, BatchSize: sc.batchSize}
	if sc.expands {
		n.Items = nil
		k.Expand = func(context.Context, task.Task) ([]task.NewItem, string, error) { return list, "", nil }
	}

	e := engine(t, s, k)
	tk, err := e.Create(t.Context(), n)
	if err != nil {
		return []string{err.Error()}
	}
	s.fates, s.slow = sc.fates, true
	workers := [2]*worker{begin(t, e), begin(t, e)}
	canceled := map[string]bool(nil) // the items that had succeeded when the task was canceled
	for _, ev := range sc.events {
		time.Sleep(ev.after)
		switch ev.what {
		case "expire":
			s.expire(ev.worker)
		case "kill":
			workers[ev.worker].kill()
			workers[ev.worker] = begin(t, e)
		case "away":
			s.away.Store(true)
			time.Sleep(15 * time.Second)
			s.away.Store(false)
		case "cancel":
			for err = errAway; errors.Is(err, errAway); {
				err = e.Cancel(t.Context(), tk.ID, "enough")
			}
			if canceled == nil && err == nil {
				canceled = succeeded(t, e, tk.ID)
			}
		}
	}
	// A dead item is given up after ten minutes; leases that end start it over.
	limit := time.Now().Add(2 * time.Hour)
	for time.Now().Before(limit) {
		if tk, err = e.Get(t.Context(), tk.ID); err != nil {
			return []string{err.Error()}
		}
		if tk.Ended() {
			break
		}
		time.Sleep(5 * time.Second)
	}
	for _, w := range workers {
		w.kill()
	}
	problems = sc.judge(t.Context(), s, e, tk, canceled)
	return append(problems, gone(t, s, e, tk.ID)...)
}

// succeeded returns the items that ended as Success.
func succeeded(t *testing.T, e *task.Engine, id string) map[string]bool {
	names := map[string]bool{}
	list, _, err := e.Items(t.Context(), id, "", 0)
	require.NoError(t, err)
	for _, it := range list {
		if it.Status == task.Success {
			names[it.Name] = true
		}
	}
	return names
}

// gone deletes the task and returns what is left of it.
func gone(t *testing.T, s *flaky, e *task.Engine, id string) (problems []string) {
	s.fates = nil
	also := func(b *state.Batch) error { b.Put(effectKey("deleted/"+id), true); return nil }
	if err := e.Delete(t.Context(), id, also); err != nil {
		return []string{err.Error()}
	}
	w := begin(t, e)
	time.Sleep(time.Second)
	w.kill()
	left, err := s.List(t.Context(), state.Root+"task/", "", 0)
	for _, entry := range left.Entries {
		problems = append(problems, "left: "+entry.Key)
	}
	if _, gerr := s.Get(t.Context(), effectKey("deleted/"+id)); err != nil || gerr != nil {
		problems = append(problems, fmt.Sprintf("delete: %v, %v", err, gerr))
	}
	return problems
}

func failureKey(name string) string { return state.Root + "failure/" + name }

type worker struct {
	cancel context.CancelFunc
	ended  chan error
}

func begin(t *testing.T, e *task.Engine) *worker {
	ctx, cancel := context.WithCancel(t.Context())
	w := &worker{cancel: cancel, ended: make(chan error, 1)}
	go func() { w.ended <- e.Run(ctx) }()
	return w
}

func (w *worker) kill() {
	w.cancel()
	<-w.ended
}

func (sc scenario) judge(ctx context.Context, s state.Store, e *task.Engine, tk task.Task, canceled map[string]bool) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if !tk.Ended() {
		wrong("the task did not end: %+v", tk)
	}
	if sc.expands && tk.BatchesTotal == nil {
		if canceled == nil || tk.Status != task.Failure || tk.StatusMessage != "enough" {
			wrong("the task ended without items: %+v", tk)
		}
		return problems
	}
	got, _, err := e.Items(ctx, tk.ID, "", 0)
	if err != nil || len(got) != len(sc.items) {
		wrong("%d items, %v", len(got), err)
	}
	succeeded := 0
	for _, it := range got {
		behaviour, _, _ := strings.Cut(it.Name, "-")
		want, effects, failures := task.Success, 1, 0
		if behaviour == "denied" || behaviour == "never" || canceled != nil && !canceled[it.Name] {
			want, effects, failures = task.Failure, 0, 1
		}
		if want == task.Success {
			succeeded++
		}
		r, err := state.ReadOr[int](ctx, s, effectKey(tk.ID+"/"+it.Name))
		f, ferr := state.ReadOr[int](ctx, s, failureKey(tk.ID+"/"+it.Name))
		if it.Status != want || r.Value != effects || f.Value != failures || err != nil || ferr != nil {
			wrong("item %s: %s %q with %d effects and %d failures, %v, %v", it.Name, it.Status, it.Message, r.Value, f.Value, err, ferr)
		}
		if canceled != nil && want == task.Failure && behaviour != "denied" && behaviour != "never" && it.Message != "enough" {
			wrong("item %s was canceled, but says %q", it.Name, it.Message)
		}
	}
	if tk.Succeeded != succeeded || tk.Failed != len(sc.items)-succeeded || tk.BatchesComplete != *tk.BatchesTotal {
		wrong("counts do not match: %+v", tk)
	}
	want := task.Success
	if succeeded < len(sc.items) || canceled != nil {
		want = task.Failure
	}
	if tk.Status != want {
		wrong("the task is %s, not %s", tk.Status, want)
	}
	live, err := s.List(ctx, state.Root+"task/live/", "", 0)
	if err != nil || len(live.Entries) != 0 {
		wrong("%d live records are left, %v", len(live.Entries), err)
	}
	return problems
}
