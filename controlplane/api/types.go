package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// timestampLayout is ISO-8601 in UTC with exactly three fractional digits
// (spec cdf-services §1.3).
const timestampLayout = "2006-01-02T15:04:05.000Z"

// Timestamp is a date of the API. The zero value stands for a date that was
// never set and is written as null.
type Timestamp struct{ time.Time }

// At makes a Timestamp of t.
func At(t time.Time) Timestamp { return Timestamp{t} }

// String writes t as it stands in JSON, or "" when it was never set.
func (t Timestamp) String() string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timestampLayout)
}

// MarshalJSON writes milliseconds, always three digits.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return []byte(`"` + t.String() + `"`), nil
}

// MarshalYAML writes the same text as MarshalJSON.
func (t Timestamp) MarshalYAML() (any, error) {
	if t.IsZero() {
		return nil, nil
	}
	return t.String(), nil
}

// UnmarshalJSON reads null or any RFC 3339 date.
func (t *Timestamp) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		t.Time = time.Time{}
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("date: %w", err)
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return fmt.Errorf("date: %w", err)
	}
	t.Time = at
	return nil
}

// TemplateVersion is a template version in a request. Clients send it as a
// number or as text (spec cdf-services D-04); zero stands for the latest.
type TemplateVersion int

// UnmarshalJSON reads a number, or the same as text.
func (v *TemplateVersion) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return fmt.Errorf("template version: %w", err)
		}
		b = []byte(s)
	}
	n, err := strconv.Atoi(string(b))
	if err != nil || n < 1 {
		return fmt.Errorf("template version %q is not a whole number of 1 or more", b)
	}
	*v = TemplateVersion(n)
	return nil
}

// RawJSON is a value that is handed through as it was written.
type RawJSON = json.RawMessage
