package task

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// Status is the state of a task or an item, in the words of the API
// (cdf-services §3.2).
type Status string

// The states. Success and Failure are final for an item. A task may be Failure
// while batches still run; [Task.Ended] says whether work is over.
const (
	Waiting    Status = "Waiting"    // no worker has begun
	InProgress Status = "InProgress" // a worker has begun, nothing failed so far
	Success    Status = "Success"    // everything ended well
	Failure    Status = "Failure"    // it, or at least one of its items, failed
)

// Final reports whether an item in state s is over.
func (s Status) Final() bool { return s == Success || s == Failure }

// Limits of one task.
const (
	MaxItems     = 100_000 // items
	MaxBatchSize = 100     // items of a batch
	MaxBlob      = 1 << 24 // bytes of a task's blob
	MaxSpec      = 1 << 20 // bytes of the task's own specification
	MaxItemSpec  = 1 << 18 // bytes of one item's specification
	MaxName      = 256     // bytes of an item's name
	MaxMessage   = 4096    // bytes kept of a message
)

// Task is a task and how far it is.
type Task struct {
	ID            string
	Kind          string
	Spec          json.RawMessage // as given to Create
	Status        Status
	StatusMessage string // why the task as a whole could not be carried out, or what Expand says of it
	CreatedAt     time.Time
	UpdatedAt     *time.Time // nil while Waiting

	Items, Succeeded, Failed int  // Succeeded and Failed count ended batches only
	BatchesTotal             *int // nil until the items are known
	BatchesComplete          int

	batchSize int
	ended     bool
}

// Ended reports whether nothing more will happen to the task.
func (t Task) Ended() bool { return t.ended }

// Decode decodes the task's specification into v.
func (t Task) Decode(v any) error { return decode("task "+t.ID, t.Spec, v) }

// Item is one piece of work of a task.
type Item struct {
	Seq       int // position in the task, from 0
	Name      string
	Spec      json.RawMessage // as given to Create or by Expand
	Status    Status
	Message   string
	Data      json.RawMessage // what the handler added to the result
	CreatedAt time.Time
	UpdatedAt *time.Time // nil while Waiting
}

// Decode decodes the item's specification into v.
func (i Item) Decode(v any) error { return decode("item "+i.Name, i.Spec, v) }

func decode(what string, raw json.RawMessage, v any) error {
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("decode specification of %s: %w", what, err)
	}
	return nil
}

// Result is how an item ends.
type Result struct {
	Status  Status // Success or Failure
	Message string // shown on the item; may be empty
	Data    any    // kept with the item as JSON; nil: nothing
}

// Kind is a sort of task: how its work is done.
type Kind struct {
	// Name is stored with each task and must never change: "core-create".
	Name string

	// Do carries out one item and ends it by w.Finish. If it returns an error
	// without having finished, a permanent one (fault.Permanent) ends the item as
	// Failure with fault.Message, any other is retried with back-off, and [Later]
	// without counting. Returning nil without finishing ends the item as Success.
	// Do runs again after a crash or a lost claim, so whatever it does outside the
	// commit of Finish must be safe to repeat.
	Do func(ctx context.Context, w *Work) error

	// Expand finds the items of a task that was created without. It may run
	// several times; one result takes effect. Items of the same name are merged.
	// No item, or a permanent error, ends the task as Failure. message, which may
	// be empty, becomes the task's StatusMessage: "2 names skipped: ...". Nil: items
	// are given to Create.
	Expand func(ctx context.Context, t Task) (items []NewItem, message string, err error)

	// Failed adds what else to record when the engine, not Do, ends an item as
	// Failure: to b, in the same commit. Optional.
	Failed func(ctx context.Context, t Task, i Item, message string, b *state.Batch) error

	// GiveUp is how long passing errors of an item are retried, default 10
	// minutes. It starts over after [Later] and when another worker takes the batch.
	GiveUp time.Duration

	// Timeout bounds one call of Do or Expand, default 2 minutes.
	Timeout time.Duration
}

// laterError asks for another attempt after a while.
type laterError time.Duration

func (l laterError) Error() string { return "not before " + time.Duration(l).String() }

// Later is returned by Do when the item's turn has not come yet, for example
// because the pace of a rollout is used up: Do is called again after wait, no slot
// is held meanwhile, and it does not count towards [Kind.GiveUp]. Items of other
// tasks go on; of the task itself no more batches are taken than hold a few times
// the items that can be worked on at once.
func Later(wait time.Duration) error { return laterError(max(wait, time.Millisecond)) }

// now is the time as the API shows it: UTC, milliseconds.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
