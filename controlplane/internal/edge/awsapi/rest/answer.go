package rest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Error is an error as a service's clients know it.
type Error struct {
	Status  int
	Code    string // the shape's name: ResourceNotFoundException
	Message string
	// Members stand beside the message in the body.
	Members map[string]any
	// RetryAfter tells the client when to come back; 0: it is not told.
	RetryAfter time.Duration
}

func (e *Error) Error() string { return e.Message }

// Is makes errors.Is(err, fault.NotFound) and the like work on an Error, so that a
// handler's helper can be asked as any domain error.
func (e *Error) Is(target error) bool {
	k, ok := target.(fault.Kind)
	return ok && (k == fault.NotFound && e.Status == http.StatusNotFound || k == fault.Conflict && e.Status == http.StatusConflict)
}

// Fail returns an Error. members may be nil.
func Fail(status int, code, message string, members map[string]any) error {
	return &Error{Status: status, Code: code, Message: message, Members: members}
}

// write sends an answer or an error; a client of this protocol reads the code from
// the header and the rest from the body.
func write(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	if status != http.StatusNoContent {
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if status != http.StatusNoContent {
		_, _ = w.Write(body)
	}
}

func (e *Error) write(w http.ResponseWriter) {
	members := maps.Clone(e.Members)
	if members == nil {
		members = map[string]any{}
	}
	members["message"] = e.Message
	body, err := json.Marshal(members)
	if err != nil { // members are texts and lists of texts
		body = []byte(`{}`)
	}
	w.Header().Set("X-Amzn-Errortype", e.Code)
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(e.RetryAfter.Round(time.Second)/time.Second))))
	}
	write(w, e.Status, body)
}

func encode(out any) ([]byte, error) {
	body, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return body, nil
}
