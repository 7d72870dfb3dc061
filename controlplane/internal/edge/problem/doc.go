// Package problem is the one place that turns a kind of error (shared/fault)
// into an HTTP status. Each API surface writes its own body; the choice of
// status, the headers that go with it and the decision what a caller may read
// are made here.
//
// It knows no web framework and no domain package.
package problem
