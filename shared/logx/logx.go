// Package logx names the fields of log records and hides secrets.
//
// Records are written with log/slog, a constant lower-case message, and
// everything variable in fields. A field that appears in more than one package
// has its key here, so that an operator can search one word everywhere.
package logx

import (
	"io"
	"log/slog"
)

// Keys of fields that more than one package writes.
const (
	Err         = "error"
	Thing       = "thing"
	Core        = "core"
	Certificate = "certificate"
	ClientID    = "client_id"
	Topic       = "topic"
	Task        = "task"
	Deployment  = "deployment"
	Job         = "job"
	Component   = "component"
	ThingGroup  = "thing_group"
	Request     = "request_id"
	Actor       = "actor"
	Address     = "address"
)

// New returns a logger of JSON records at level. Format "text" gives the
// key=value form for people.
func New(w io.Writer, level slog.Level, format string) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// Discard returns a logger that writes nothing: the default of every Config.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Secret is a text that no log, error, JSON or %v shows. It holds a pointer
// because fmt prints the plain bytes of a string kept in an unexported field,
// whatever methods its type has.
type Secret struct{ p *string }

// NewSecret hides s.
func NewSecret(s string) Secret { return Secret{&s} }

// LogValue hides the text from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// String hides the text from fmt.
func (Secret) String() string { return "***" }

// GoString hides the text from %#v.
func (Secret) GoString() string { return "***" }

// MarshalText hides the text from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Reveal is the one way to the text; a search for it lists every use.
func (s Secret) Reveal() string {
	if s.p == nil {
		return ""
	}
	return *s.p
}
