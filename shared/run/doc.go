// Package run is how long-lived work is started, supervised and retried.
//
// A part of a program blocks in a func(ctx) error until its context is done or
// it cannot go on. [All] supervises such loops, [Every] repeats a step,
// [Backoff] spaces out retries, [Bell] wakes a loop. Outside this package a go
// statement is rare, and someone waits for it.
package run
