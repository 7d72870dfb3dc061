// Package task is the one engine for every long work: creating and deleting
// cores, deployment tasks, client devices, patches and bulk imports.
//
// A task is a list of items. Items are grouped into batches; a batch is what a
// worker claims, under its lease. The [Kind] of a task says how one item is
// done, and, if the items are known only later, how targets become items.
//
// What is promised, whatever process dies at whatever instant:
//
//   - A task exists whole or not at all: items are written first, the record last.
//   - An item ends exactly once. Its result is written only if absent, only by the
//     holder of the batch's claim, and in the same commit as the records that the
//     handler changed: effect and result are both there or neither is.
//   - A batch counts once, a task ends once: the commit that ends a batch adds its
//     counts to the task, and the one that ends the last batch ends the task.
//   - A task that was canceled ends no more item as Success, from the commit of the
//     cancel on: every Success needs the task's open record as it was when the
//     item's batch was claimed.
//   - An item that cannot be done ends as Failure with the reason: at once for a
//     permanent error, after [Kind.GiveUp] for a passing one. While the store of
//     record is away nothing is given up.
//
// Records (below task/): rec, the task as submitted, never changed; state, its
// progress; batch, the inputs of a batch, never changed; unit, when a batch began
// and ended; item, the results; blob, what a task keeps beside its specification;
// name, which tasks name an item; idem, idempotency keys; making, creates under way
// and deleted tasks of which something is left. Workers watch live/ alone, which
// holds the unfinished tasks and the claims.
//
// There is no write for "item begun": an item without result shows InProgress from
// the moment its batch was first claimed. That saves half of the writes.
//
// The package knows the store of record and nothing of cores, clouds or HTTP.
package task
