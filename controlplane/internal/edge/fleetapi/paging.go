package fleetapi

import (
	"encoding/base64"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// page translates what a caller asked for; count is 0 when absent, and checked
// to be positive otherwise.
func page(count api.Count, after string) fleet.Page {
	return fleet.Page{After: after, Count: min(count, fleet.MaxPage)}
}

// pagination is the member of a list's answer: empty, and then left out where
// the document says so, when no count was asked for and nothing follows.
func pagination(count api.Count, last api.LastEvaluated) api.Pagination {
	return api.Pagination{Count: min(count, fleet.MaxPage), LastEvaluated: last}
}

// each translates the elements of a list. The result is never nil, so that an
// empty list is written as [].
func each[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = f(a)
	}
	return out
}

// opt returns what an optional parameter holds, the zero value when it is absent.
func opt[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// toToken and fromToken write where a page begins as an opaque text, for lists
// whose order is not that of a name that callers know.
func toToken(next string) string { return base64.RawURLEncoding.EncodeToString([]byte(next)) }

func fromToken(token *string) (string, error) {
	after, err := base64.RawURLEncoding.DecodeString(opt(token))
	if err != nil || !utf8.Valid(after) {
		return "", fault.Field("exclusiveStartToken", "was not made here; take it from lastEvaluated.nextToken of the page before")
	}
	return string(after), nil
}
