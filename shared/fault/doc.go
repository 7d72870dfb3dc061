// Package fault says what a caller can do about an error.
//
// Every error that crosses a package boundary either carries a [Kind] or is a
// defect. The text given to [New] and [Field] may be shown to whoever called
// the API; everything wrapped around it with %w is for the log only. One place
// (edge/problem) turns a kind into a status; nothing else may look at kinds to
// choose a status code, and nobody looks inside the text.
package fault
