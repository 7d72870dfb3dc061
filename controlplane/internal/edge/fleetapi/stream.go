package fleetapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// StreamEvents looks at the log before it says 200, so that a caller who comes
// too late for what it wants learns it by a status.
func (s *server) StreamEvents(ctx context.Context, r gen.StreamEventsRequestObject) (gen.StreamEventsResponseObject, error) {
	c, ok := ctx.(*gin.Context)
	if !ok {
		return nil, errors.New("events: no request behind the context")
	}
	p := r.Params
	var after int64
	switch {
	case p.LastEventID != nil:
		after = *p.LastEventID
	case p.After != nil:
		after = *p.After
	default: // from now on, so that nothing is missed between the 200 and the first look
		_, last, err := s.Events.Bounds(ctx)
		if err != nil {
			return nil, fmt.Errorf("beginning a stream of events: %w", err)
		}
		after = last
	}
	if _, _, err := s.Events.List(ctx, event.Filter{}, after, 1); err != nil {
		return nil, fmt.Errorf("beginning a stream of events: %w", err)
	}
	return &eventStream{server: s, c: c, filter: event.Filter{Core: opt(p.Core), Type: event.Type(p.Type)}, after: after}, nil
}

// eventStream is an answer of server-sent events.
type eventStream struct {
	*server
	c      *gin.Context // of the request, which this answers
	filter event.Filter
	after  int64

	w    http.ResponseWriter
	conn *http.ResponseController
}

// VisitStreamEventsResponse writes until the caller goes away, takes too long
// for what was sent, or events are lost to it.
func (e *eventStream) VisitStreamEventsResponse(w http.ResponseWriter) error {
	select {
	case e.streams <- struct{}{}:
		defer func() { <-e.streams }()
	default:
		return fault.New(fault.Exhausted, "there are %d streams of events already; close one, or come again later", e.MaxStreams)
	}
	e.w, e.conn = w, http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy would hold events back
	w.WriteHeader(http.StatusOK)
	// The id lets a caller go on from here who loses the connection before the
	// first event.
	if err := e.send(fmt.Appendf(nil, "retry: 3000\nid: %d\n\n", e.after)); err != nil {
		return nil //nolint:nilerr // the caller went away
	}
	ctx, stop := context.WithCancel(e.c.Request.Context())
	defer stop()
	batches, ended := make(chan []event.Event), make(chan error, 1)
	go func() {
		ended <- e.Events.Stream(ctx, e.filter, e.after, func(events []event.Event) error {
			select {
			case batches <- events:
				return nil
			case <-ctx.Done():
				return ctx.Err() //nolint:wrapcheck // ends the stream, nobody reads it
			}
		})
	}()
	// A write that fails ends the request's context too, so that says nothing.
	if err := e.pump(ctx, batches, ended); err != nil {
		e.Log.DebugContext(ctx, "stream of events ended", logx.Err, err)
	}
	return nil
}

func (e *eventStream) pump(ctx context.Context, batches <-chan []event.Event, ended <-chan error) error {
	beat := time.NewTicker(e.Heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case events := <-batches:
			err = e.sendAll(events)
		case <-beat.C:
			if err = e.stillAllowed(); err != nil {
				return errors.Join(err, e.sendFailure(err))
			}
			err = e.send([]byte(": still here\n\n"))
		case err = <-ended:
			if err != nil && ctx.Err() == nil {
				return errors.Join(err, e.sendFailure(err))
			}
			return err
		}
		if err != nil {
			return err
		}
	}
}

// stillAllowed looks whether the token that opened the stream is still good. That
// nobody can say so now is no reason to end it.
func (e *eventStream) stillAllowed() error {
	who, err := e.principal(e.c)
	switch kind := fault.KindOf(err); {
	case kind == fault.Unauthenticated || kind == fault.Denied:
		return err
	case err == nil && !who.Role.Includes(needs("StreamEvents")):
		return fault.New(fault.Denied, "%q may not read events any more", who.Name)
	}
	return nil
}

func (e *eventStream) sendAll(events []event.Event) error {
	var b bytes.Buffer
	for _, one := range events {
		data, err := json.Marshal(envelope(one))
		if err != nil {
			return fmt.Errorf("encoding event %d: %w", one.Sequence, err)
		}
		fmt.Fprintf(&b, "id: %d\nevent: %s\ndata: %s\n\n", one.Sequence, one.Type, data)
	}
	return e.send(b.Bytes())
}

// sendFailure tells why the stream ends. It has no id: the caller comes back
// with the last one it has, and gets the answer as a status.
func (e *eventStream) sendFailure(err error) error {
	text := fault.Message(err)
	if text == "" {
		text = "an error on the server; connect again"
	}
	data, err := json.Marshal(map[string]string{"message": text})
	if err != nil {
		return fmt.Errorf("encoding the end of a stream: %w", err)
	}
	return e.send(fmt.Appendf(nil, "event: error\ndata: %s\n\n", data))
}

// send gives the reader SlowReader to take b.
func (e *eventStream) send(b []byte) error {
	_ = e.conn.SetWriteDeadline(time.Now().Add(e.SlowReader)) // not every connection takes one
	if _, err := e.w.Write(b); err != nil {
		return fmt.Errorf("writing an event: %w", err)
	}
	if err := e.conn.Flush(); err != nil {
		return fmt.Errorf("writing an event: %w", err)
	}
	return nil
}
