// Package objecttest holds the promises of object.Store as tests. Every
// implementation runs them; it knows none of them.
package objecttest
