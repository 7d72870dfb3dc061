// Package nucleus keeps the nucleus process running: starts it in a process
// group of its own, starts it again with growing waits when it ends by itself,
// proves that it works (the health gate), and stops it.
//
// The process outlives an agent that is killed. Its pid, start time and a token
// in its environment are stored, the token before the start, so that the next
// agent takes it up again and never starts a second one.
//
// It does not install and does not decide which version runs.
package nucleus
