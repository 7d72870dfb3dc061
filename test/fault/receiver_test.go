package fault_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// receiver is who a webhook tells what happens. One of its first
// requests is not taken at the first try.
type receiver struct {
	*httptest.Server

	mu       sync.Mutex
	requests int
	taken    map[string][]int64 // core → sequence numbers as they came
	times    map[int64]int      // sequence number → how often it was taken
	ids      map[string]int64
	wrong    []string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{taken: map[string][]int64{}, times: map[int64]int{}, ids: map[string]int64{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var e struct{ ID, Subject, Sequence string }
	err := json.NewDecoder(req.Body).Decode(&e)
	n, nerr := strconv.ParseInt(e.Sequence, 10, 64)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || nerr != nil || e.ID != req.Header.Get("Webhook-Id") || req.Header.Get("Webhook-Signature") == "" {
		r.wrong = append(r.wrong, fmt.Sprintf("%+v", e))
	}
	if r.requests++; r.requests == 3 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if before, seen := r.ids[e.ID]; seen && before != n {
		r.wrong = append(r.wrong, fmt.Sprintf("event %s came as %d and as %d", e.ID, before, n))
	}
	r.ids[e.ID] = n
	if r.times[n]++; r.times[n] == 1 {
		r.taken[e.Subject] = append(r.taken[e.Subject], n)
	}
}

// told returns how many events came.
func (r *receiver) told() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.times)
}

// audit requires that all events of the log came, those of a core in order, and
// none twice unless the process was killed in between.
func (r *receiver) audit(t *testing.T, events []loggedEvent, kills int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Empty(t, r.wrong)
	want := map[string]int64{}
	for _, e := range events {
		want[e.ID] = e.Sequence
	}
	assert.Equal(t, want, r.ids, "what the webhook was told, and the log")
	for core, numbers := range r.taken {
		assert.IsIncreasing(t, append([]int64{0}, numbers...), "events of %s came out of order", core)
	}
	if kills > 0 {
		return
	}
	for n, times := range r.times {
		assert.Equal(t, 1, times, "event %d", n)
	}
}

// subscribe makes a webhook to a receiver of the story.
func (s *story) subscribe() {
	s.receiver = newReceiver(s.t)
	path := s.post("/webhooks", "hook", object{"url": s.receiver.URL, "secret": "example-only-not-a-secret"}, http.StatusCreated).Header.Get("Location")
	s.put(http.MethodPatch, path, object{"active": true})
}

// heard waits until all that happened is in the log and with the receiver.
func (s *story) heard() {
	s.t.Helper()
	s.until(func() string {
		var page struct{ Events []loggedEvent }
		s.get("/events?count=1000", &page)
		require.Less(s.t, len(page.Events), 1000)
		happened := 0
		for _, e := range page.Events {
			if !e.perhaps() {
				happened++
			}
		}
		if told := s.receiver.told(); happened < happenings || told < len(page.Events) {
			return fmt.Sprintf("%d events in the log, %d told, %d of %d happened", len(page.Events), told, happened, happenings)
		}
		return ""
	})
}

// loggedEvent is an event in the log.
type loggedEvent struct {
	ID       string `json:"id"`
	Sequence int64  `json:"sequence"`
	Type     string `json:"type"`
	Told     string `json:"detail-type"` // the type, as the API tells it
	Core     string `json:"core"`
	Detail   struct {
		Status, Message string
	} `json:"detail"`
}

// perhaps reports whether e is told or not, as it comes: a core that is deleted
// while a deployment waits for it may be gone when that one is withdrawn.
func (e loggedEvent) perhaps() bool {
	return e.Core == queued && e.Type+e.Told == "Core Template Updated Event"
}

// events requires that the log is consecutive, without an event that stands there
// twice, that nothing waits for its place in it, and that the histories tell the
// same. It returns the log.
func (l *ledger) events(t *testing.T) []loggedEvent {
	t.Helper()
	log := under[loggedEvent](t, l, "event/log/")
	var all []loggedEvent
	told := map[string]string{} // by id
	for i, key := range slices.Sorted(maps.Keys(log)) {
		e := log[key]
		assert.Equal(t, int64(i+1), e.Sequence, "the log is not consecutive")
		assert.NotContains(t, told, e.ID, "event %d stands there twice", e.Sequence)
		told[e.ID] = e.Core
		all = append(all, e)
	}
	waiting := slices.DeleteFunc(slices.Collect(maps.Values(under[loggedEvent](t, l, "event/outbox/"))), func(e loggedEvent) bool {
		return e.Type == "Core Status Changed" // of cores that went away at the end
	})
	assert.Empty(t, waiting, "events without a place in the log")
	type entry struct {
		ID       string `json:"i"`
		Sequence int64  `json:"s"`
	}
	seen := map[string]string{}
	for core, h := range under[struct {
		Entries []entry `json:"e"`
	}](t, l, "event/history/") {
		for _, e := range h.Entries {
			if e.Sequence != 0 {
				assert.NotContains(t, seen, e.ID, "history of %s", core)
				seen[e.ID] = core
			}
		}
	}
	maps.DeleteFunc(told, func(_, core string) bool { return core == "" })
	assert.Equal(t, told, seen, "the histories and the log")
	return all
}

// what is how often each thing happened, without ids.
func what(events []loggedEvent) map[string]int {
	out := map[string]int{}
	for _, e := range events {
		if e.perhaps() {
			continue
		}
		core := e.Core
		if slices.Contains(waiting, core) {
			core, e.Detail.Message = "one that waits", ""
		}
		out[strings.TrimSpace(e.Type+" "+core+" "+e.Detail.Status+" "+e.Detail.Message)]++
	}
	return out
}
