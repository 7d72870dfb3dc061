package event_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/event/webhook"
	"github.com/ggfleet/ggfleet/controlplane/internal/seal"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// detail is what the events of the tests say.
type detail struct {
	N      int    `json:"n"`
	Status string `json:"status"`
}

func numberOf(t testing.TB, e event.Event) int {
	t.Helper()
	var d detail
	require.NoError(t, json.Unmarshal(e.Detail, &d))
	return d.N
}

func numbers(t testing.TB, events []event.Event) (out []int) {
	t.Helper()
	for _, e := range events {
		out = append(out, numberOf(t, e))
	}
	return out
}

func upTo(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

// happen commits one event.
func happen(t testing.TB, s state.Store, typ event.Type, core string, n int) {
	t.Helper()
	b := state.NewBatch(state.StepRegistry)
	event.Add(b, typ, core, time.Now(), detail{N: n, Status: "success"})
	_, err := s.Commit(t.Context(), b)
	require.NoError(t, err)
}

// happenMany commits n events of cores 0 to cores-1 in turn, forty at once.
func happenMany(t testing.TB, s state.Store, from, n, cores int) {
	t.Helper()
	for i := from; i < from+n; {
		b := state.NewBatch(state.StepRegistry)
		for ; i < from+n && b.Len() < 40; i++ {
			event.Add(b, event.CoreCreated, coreName(i%cores), time.Now(), detail{N: i, Status: "success"})
		}
		_, err := s.Commit(t.Context(), b)
		require.NoError(t, err)
	}
}

func sealer(t testing.TB) seal.Sealer {
	t.Helper()
	s, err := seal.New(bytes.Repeat([]byte{7}, seal.KeySize))
	require.NoError(t, err)
	return s
}

func newService(t testing.TB, cfg event.Config) *event.Service {
	t.Helper()
	cfg.Sealer = sealer(t)
	if cfg.Sender == nil {
		cfg.Sender = webhook.New(webhook.Config{})
	}
	s, err := event.New(cfg)
	require.NoError(t, err)
	return s
}

// start runs s until stop is called.
func start(t testing.TB, s *event.Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		assert.NoError(t, s.Run(ctx))
	}()
	return func() {
		cancel()
		<-done
	}
}

// all reads the whole log.
func all(t testing.TB, s *event.Service) (events []event.Event) {
	t.Helper()
	after := event.Oldest
	for {
		page, next, err := s.List(t.Context(), event.Filter{}, after, 1000)
		require.NoError(t, err)
		events = append(events, page...)
		if next == 0 {
			return events
		}
		after = next
	}
}

// receiver is the other end of a webhook.
type receiver struct {
	mu       sync.Mutex
	answer   func(webhook.CloudEvent, int) (*http.Response, error) // n is the attempt of this event, from 1
	attempts map[string]int
	got      []webhook.CloudEvent // those answered 2xx
	requests []*http.Request
	bodies   [][]byte
}

func newReceiver(answer func(e webhook.CloudEvent, n int) (*http.Response, error)) *receiver {
	return &receiver{answer: answer, attempts: map[string]int{}}
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	var e webhook.CloudEvent
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.attempts[e.ID]++
	n := r.attempts[e.ID]
	r.requests, r.bodies = append(r.requests, req), append(r.bodies, body)
	answer := r.answer
	r.mu.Unlock()
	res, err := answer(e, n)
	if err == nil && res == nil { // hang
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	if err == nil && res.StatusCode/100 == 2 {
		r.mu.Lock()
		r.got = append(r.got, e)
		r.mu.Unlock()
	}
	return res, err
}

func (r *receiver) taken() []webhook.CloudEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *receiver) set(answer func(webhook.CloudEvent, int) (*http.Response, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func status(code int, headers ...string) (*http.Response, error) {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(bytes.NewReader([]byte("ok")))}, nil
}

func always(code int) func(webhook.CloudEvent, int) (*http.Response, error) {
	return func(webhook.CloudEvent, int) (*http.Response, error) { return status(code) }
}

func (r *receiver) numbers(t testing.TB) (out []int) {
	t.Helper()
	for _, e := range r.taken() {
		var d detail
		require.NoError(t, json.Unmarshal(e.Data.Detail, &d))
		out = append(out, d.N)
	}
	return out
}

func coreName(n int) string { return fmt.Sprintf("core-%d", n) }

// to sends to r.
func to(r *receiver) event.Sender { return webhook.New(webhook.Config{Transport: r}) }

// settle lets time pass in the bubble, until all is at rest.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
