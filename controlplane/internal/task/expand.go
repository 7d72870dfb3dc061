package task

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// expand finds the items of a task, stores them, and then, in one commit, makes
// them known. What an expansion that died left behind is removed first, and every
// write needs the claim, so that two expansions never mix.
func (s *session) expand(ctx context.Context, c *claim) error {
	in, message, err := s.findItems(ctx, c)
	if err != nil {
		if ctx.Err() != nil || !fault.Permanent(err) {
			return err
		}
		return s.insist(ctx, "end task", func() error { return s.endUnexpanded(ctx, c, err) })
	}
	largest := 0
	for _, i := range in {
		largest = max(largest, len(i.Name)+len(i.Spec))
	}
	size, err := batchSize(c.task.batchSize, largest)
	if err != nil {
		return err
	}
	err = s.insist(ctx, "store items", func() error {
		if err := s.stillOurs(ctx, c); err != nil {
			return err
		}
		if err := s.removeBatches(ctx, c.task, state.StepTaskItems, c.guard); err != nil {
			return err
		}
		return s.writeItems(ctx, c.task, in, size, now(), c.guard)
	})
	if err != nil {
		return err
	}
	at := now()
	c.unit.EndedAt = &at
	return s.insist(ctx, "end expansion", func() error { return s.endExpansion(ctx, c, len(in), size, message) })
}

func (s *session) endExpansion(ctx context.Context, c *claim, items, size int, message string) error {
	stateAt := stateKey(c.task.Kind, c.task.ID)
	st, err := state.Read[stateRecord](ctx, s.store, stateAt)
	if err != nil {
		return fmt.Errorf("read state of task %s: %w", c.task.ID, err)
	}
	st.Value.BatchSize, st.Value.StatusMessage = size, fault.Clip(message, MaxMessage)
	st.Value.known(items)
	b := state.NewBatch(state.StepTaskExpand).If(stateAt, st.Rev).
		Put(openKey(c.task.ID), openRecord{Kind: c.task.Kind, BatchSize: size, Batches: st.Value.BatchesTotal})
	return s.endUnit(ctx, c, b, stateAt, st.Value)
}

// endUnexpanded ends a task whose items could not be found.
func (s *session) endUnexpanded(ctx context.Context, c *claim, cause error) error {
	stateAt := stateKey(c.task.Kind, c.task.ID)
	st, err := state.Read[stateRecord](ctx, s.store, stateAt)
	if err != nil {
		return fmt.Errorf("read state of task %s: %w", c.task.ID, err)
	}
	at := now()
	c.unit.EndedAt = &at
	v := st.Value
	v.Status, v.StatusMessage, v.UpdatedAt, v.Ended = Failure, fault.Clip(fault.Message(cause), MaxMessage), &at, true
	return s.endUnit(ctx, c, state.NewBatch(state.StepTaskFinish).If(stateAt, st.Rev), stateAt, v)
}

// findItems calls the kind's Expand until it answers or is given up. A permanent
// error is the task's failure.
func (s *session) findItems(ctx context.Context, c *claim) (in []input, message string, err error) {
	var wait run.Backoff
	var spent time.Duration // on attempts that failed while the store was there
	for {
		began := time.Now()
		items, message, err := s.callExpand(ctx, c)
		took := time.Since(began)
		if err == nil {
			in, err = merge(items, message)
			return in, message, err
		}
		if ctx.Err() != nil || fault.Permanent(err) {
			return nil, "", shown(err)
		}
		s.log.WarnContext(ctx, "targets of a task not found; trying again", logx.Task, c.task.ID, logx.Err, err)
		tries := 0
		if cerr := s.insist(ctx, "look at claim", func() error { tries++; return s.stillOurs(ctx, c) }); cerr != nil {
			return nil, "", cerr
		}
		d := wait.Next()
		if tries == 1 {
			spent += took + d
		}
		if spent >= c.kind.GiveUp {
			return nil, "", fault.New(fault.Invalid, "gave up after %s: %s", spent.Round(time.Second), fault.Message(shown(err)))
		}
		if err := c.recall.sleep(ctx, d); err != nil {
			return nil, "", err
		}
	}
}

// shown gives err a text for people if it has none.
func shown(err error) error {
	if fault.Message(err) != "" {
		return err
	}
	kind := fault.KindOf(err)
	if kind == "" {
		kind = fault.Unavailable
	}
	return errors.Join(fault.New(kind, "internal error; the log of the control plane has the details"), err)
}

func (s *session) callExpand(ctx context.Context, c *claim) (items []NewItem, message string, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.kind.Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "expansion of a task panicked", logx.Task, c.task.ID, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if c.kind.Expand == nil {
		return nil, "", fault.New(fault.Unsupported, "this server cannot find the items of a task of kind %s", c.task.Kind)
	}
	return c.kind.Expand(ctx, c.task)
}

// merge drops repeated names and checks the rest. message says why there may be
// none.
func merge(items []NewItem, message string) ([]input, error) {
	seen := make(map[string]bool, len(items))
	var once []NewItem
	for _, i := range items {
		if !seen[i.Name] {
			seen[i.Name] = true
			once = append(once, i)
		}
	}
	if len(once) == 0 {
		if message == "" {
			message = "the targets of the task name nothing"
		}
		return nil, fault.New(fault.Invalid, "there is nothing to do: %s", message)
	}
	in, _, err := inputs(once)
	return in, err
}
