package fault

import (
	"errors"
	"fmt"
)

// Kind says what a caller can do about an error. It is an error itself, so
// errors.Is(err, fault.NotFound) works through any number of wrappers.
type Kind string

// The kinds. A kind is added only when some caller acts differently on it.
const (
	Invalid         Kind = "invalid"         // the request can never succeed as it is
	NotFound        Kind = "not_found"       // the named thing is not there
	Exists          Kind = "exists"          // the name is taken
	Conflict        Kind = "conflict"        // someone else changed it first: read again, retry
	Stale           Kind = "stale"           // the caller named a version (If-Match) that is not the current one
	Unauthenticated Kind = "unauthenticated" // the caller did not prove who it is
	Denied          Kind = "denied"          // the caller may not
	TooLarge        Kind = "too_large"       // more bytes or items than the limit named in the text
	Exhausted       Kind = "exhausted"       // a quota or rate limit: retry later
	Unavailable     Kind = "unavailable"     // a dependency is away: retry later
	Unsupported     Kind = "unsupported"     // valid, but this server does not do it
)

// Error makes a Kind usable as a target of errors.Is.
func (k Kind) Error() string { return string(k) }

type shownError struct {
	kind  Kind
	field string
	text  string
}

func (e *shownError) Error() string {
	if e.field == "" {
		return e.text
	}
	return e.field + ": " + e.text
}

func (e *shownError) Is(target error) bool { return target == error(e.kind) }

// New makes an error of kind k whose text may be shown to the API's caller.
func New(k Kind, format string, args ...any) error {
	return &shownError{kind: k, text: fmt.Sprintf(format, args...)}
}

// Field makes an error of kind Invalid about one member of the input. path is
// written as the caller would: cores[3].provisioningParameters.ThingName.
func Field(path, format string, args ...any) error {
	return &shownError{kind: Invalid, field: path, text: fmt.Sprintf(format, args...)}
}

// Under prefixes the field path of err (made by Field) with parent, so that a
// validator of a nested value need not know where it stands. Other errors pass
// unchanged.
func Under(parent string, err error) error {
	var e *shownError
	if err == nil || !errors.As(err, &e) || e.field == "" {
		return err
	}
	c := *e
	if e.field[0] == '[' {
		c.field = parent + e.field
	} else {
		c.field = parent + "." + e.field
	}
	return &c
}

// KindOf returns the kind of err, or "" when nobody classified it.
func KindOf(err error) Kind {
	var e *shownError
	if errors.As(err, &e) {
		return e.kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	return ""
}

// Message returns the text that may be shown to the caller, or "" when err
// holds none.
func Message(err error) string {
	var e *shownError
	if errors.As(err, &e) {
		return e.Error()
	}
	return ""
}

// FieldOf returns the field path of err, or "".
func FieldOf(err error) string {
	var e *shownError
	if errors.As(err, &e) {
		return e.field
	}
	return ""
}

// Permanent reports whether trying the same call again can never help.
// Unclassified errors count as passing: a defect in a dependency is retried
// within the caller's bound rather than given up at once.
func Permanent(err error) bool {
	switch KindOf(err) {
	case Invalid, NotFound, Exists, Stale, Unauthenticated, Denied, TooLarge, Unsupported:
		return true
	case Conflict, Exhausted, Unavailable:
		return false
	}
	return false
}
