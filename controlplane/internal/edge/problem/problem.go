package problem

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// Problem is an error as a caller of an API may see it.
type Problem struct {
	Status  int
	Kind    fault.Kind // "" when nobody classified the error
	Title   string     // short fixed text for the status
	Message string     // what is wrong; never empty
	Field   string     // path of the member that is wrong, or ""
}

// retryAfter is what a caller is told to wait, in seconds, when something that
// passes stands in its way. Callers double it by themselves.
const retryAfter = 1

// mostText is how much of a text is shown, in bytes: messages quote what callers
// send, and that can be megabytes.
const mostText = 2000

// Of says what a caller may see of err. An error that nobody classified is a
// 500 without its text, because that names hosts, keys and paths.
func Of(err error) Problem {
	kind := fault.KindOf(err)
	if big, ok := errors.AsType[*http.MaxBytesError](err); ok && kind == "" {
		return New(http.StatusRequestEntityTooLarge, "the body has more than "+strconv.FormatInt(big.Limit, 10)+" bytes, the limit of this call")
	}
	if kind == "" && errors.Is(err, context.DeadlineExceeded) {
		kind = fault.Unavailable
	}
	p := New(Status(kind), fault.Clip(fault.Message(err), mostText))
	p.Kind, p.Field = kind, fault.Clip(fault.FieldOf(err), mostText)
	if kind == fault.Conflict {
		p.Title = "Conflict"
	}
	return p
}

// New makes a Problem for what is not an error of ours: an unknown path, a
// method, a media type. An empty message is replaced by a general one.
func New(status int, message string) Problem {
	p := Problem{Status: status, Title: title(status), Message: message}
	if p.Message == "" {
		p.Message = general(status)
	}
	return p
}

// Status returns the HTTP status of a kind. Kinds that are not listed, "" among
// them, are 500: never a wrong 4xx.
func Status(k fault.Kind) int {
	switch k {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Exists, fault.Conflict:
		return http.StatusConflict
	case fault.Stale:
		return http.StatusPreconditionFailed
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Denied:
		return http.StatusForbidden
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.Exhausted:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.Unsupported:
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}

// Headers sets the headers that belong to the status. A Retry-After that is set stays.
func (p Problem) Headers(h http.Header) {
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="ggfleet"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if h.Get("Retry-After") == "" {
			h.Set("Retry-After", strconv.Itoa(retryAfter))
		}
	}
}

// Log writes err once, at any length that a log bears. What the caller did wrong is not our
// alarm; what we did wrong is.
func (p Problem) Log(ctx context.Context, log *slog.Logger, err error, attrs ...slog.Attr) {
	level := slog.LevelInfo
	if p.Status >= http.StatusInternalServerError && p.Kind != fault.Unsupported {
		level = slog.LevelError
	}
	if errors.Is(err, context.Canceled) {
		level = slog.LevelInfo // the caller went away
	}
	log.LogAttrs(ctx, level, "request refused", append(attrs, slog.Int("status", p.Status), slog.String(logx.Err, fault.Clip(err.Error(), mostText)))...)
}

// WriteFleet answers with the fleet API's body, {"error","message","field"}
// (spec cdf-services §1.2).
func (p Problem) WriteFleet(w http.ResponseWriter, contentType string) {
	p.Headers(w.Header())
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(struct {
		Error   string `json:"error"`
		Message string `json:"message"`
		Field   string `json:"field,omitempty"`
	}{p.Title, p.Message, p.Field})
}

func title(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "Invalid request"
	case http.StatusNotFound:
		return "Item not found"
	case http.StatusConflict:
		return "Item already exists"
	case http.StatusRequestEntityTooLarge:
		return "Too large"
	case http.StatusInternalServerError:
		return "Internal error"
	}
	return http.StatusText(status)
}

func general(status int) string {
	switch status {
	case http.StatusNotFound:
		return "there is nothing under this path"
	case http.StatusInternalServerError:
		return "an error on the server; its log has the details under this answer's x-request-id"
	case http.StatusServiceUnavailable:
		return "something that the server needs is away; try again"
	case http.StatusUnauthorized:
		return "send a valid token as Authorization: Bearer <token>"
	}
	return http.StatusText(status)
}
