package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/shared/run"
)

// The server says something every 15 seconds. maxSilence is after how much of it
// a connection counts as broken.
const maxSilence = time.Minute

// maxEventLine bounds a line of the stream, in bytes.
const maxEventLine = 1 << 20

// subscription is which events are asked for.
type subscription struct {
	core  string
	kind  api.EventType // empty: all
	after int64         // sequence number of the last event that is known; -1: from now on
	limit int           // 0: without end
}

// kindOnly takes a type out of a request that names none: the generated client
// has no absent one.
func (s *subscription) kindOnly(_ context.Context, r *http.Request) error {
	if q := r.URL.Query(); s.kind == "" {
		q.Del("type")
		r.URL.RawQuery = q.Encode()
	}
	return nil
}

// errEnough ends a stream that has given what was asked for.
var errEnough = errors.New("enough")

// brokenError is the end of a connection; another one can go on.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// follow shows events until ctx is done or limit is reached, over breaks of the
// connection and restarts of the server. Events that are no longer kept end it:
// a gap is never silent.
func (s *subscription) follow(ctx context.Context, c *client, show func(api.Event) error) error {
	wait := run.Backoff{Min: 200 * time.Millisecond, Max: 10 * time.Second}
	connected, seen := false, 0
	for {
		err := s.connect(ctx, c, func() {
			connected = true
			wait.Reset()
		}, func(e api.Event) error {
			if err := show(e); err != nil {
				return err
			}
			if seen++; seen == s.limit {
				return errEnough
			}
			return nil
		})
		if ctx.Err() != nil || errors.Is(err, errEnough) {
			return nil
		}
		if _, broken := errors.AsType[*brokenError](err); !broken || !connected {
			return err
		}
		c.note("the stream of events broke off: %v; connecting again", err)
		if run.Sleep(ctx, wait.Next()) != nil {
			return nil
		}
	}
}

// connect reads events from one connection until it ends, which is an error.
func (s *subscription) connect(ctx context.Context, c *client, opened func(), show func(api.Event) error) error {
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	p := &api.StreamEventsParams{Core: given(s.core), Type: s.kind}
	if s.after >= 0 {
		p.LastEventID = &s.after
	}
	res, err := c.StreamEvents(ctx, p, s.kindOnly, func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept", "text/event-stream")
		return nil
	})
	if err != nil || res.StatusCode != http.StatusOK {
		_, _, refused := read(res, err)
		if err != nil || res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests {
			return &brokenError{refused}
		}
		return refused
	}
	defer func() { _ = res.Body.Close() }() // only read
	opened()
	silence := time.AfterFunc(maxSilence, cut)
	defer silence.Stop()
	return s.events(res.Body, func() { silence.Reset(maxSilence) }, show)
}

// events reads server-sent events. alive is called for each line.
func (s *subscription) events(r io.Reader, alive func(), show func(api.Event) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEventLine)
	var id, name, data string
	for lines.Scan() {
		alive()
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			id = value
		case "event":
			name = value
		case "data":
			data += value
		case "": // the end of an event, or a comment
			if lines.Text() != "" {
				continue
			}
			if err := s.event(id, name, data, show); err != nil {
				return err
			}
			id, name, data = "", "", ""
		}
	}
	err := lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return &brokenError{failure(ExitUnreachable, "reading events: %w", err)}
}

// event handles one event. One without data only says where the stream is.
func (s *subscription) event(id, name, data string, show func(api.Event) error) error {
	if name == "error" {
		var e api.Error
		if json.Unmarshal([]byte(data), &e) != nil || e.Message == "" {
			e.Message = "the server ended the stream"
		}
		return &brokenError{failure(ExitUnreachable, "%s", e.Message)}
	}
	if data != "" {
		var e api.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return failure(ExitFailed, "an event is not what the API promises: %w", err)
		}
		if err := show(e); err != nil {
			return err
		}
	}
	if n, err := strconv.ParseInt(id, 10, 64); err == nil {
		s.after = n
	}
	return nil
}
