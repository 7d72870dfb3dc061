package load_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// TestEvents measures how far behind a webhook and a stream are while cores are
// created, and how fast each gets what is in the log already.
func TestEvents(t *testing.T) {
	n := size(t, "EVENTS", 5000, 40)
	w, profiles := start(t)
	var hook, stream arrivals
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e happened
		if json.NewDecoder(r.Body).Decode(&e) == nil {
			hook.came(e)
		}
	}))
	defer receiver.Close()
	a := w.Call(t, http.MethodPost, "/webhooks", map[string]any{"url": receiver.URL}, nil)
	webhook := a.Header.Get("Location")
	readStream(t, w, "", &stream)

	hook.reset()
	stream.reset()
	var took time.Duration
	profile(t, profiles, "events", func() {
		took = provision(t, w, coreNames(n))
		hook.await(t, n)
		stream.await(t, n)
	})
	for _, r := range []struct {
		what string
		*arrivals
	}{{"a webhook", &hook}, {"a stream", &stream}} {
		lag, last := r.lags()
		row(t, "from a change to "+r.what+", creating "+strconv.Itoa(n)+" cores", fmt.Sprintf("p50 %d, p99 %d ms; all %.1f s after the task began, at %.0f events/s made",
			quantile(lag, 0.5).Milliseconds(), quantile(lag, 0.99).Milliseconds(), last.Sub(r.began).Seconds(), float64(n)/took.Seconds()), "", "", "")
	}

	again := func(what string, r *arrivals, ask func()) {
		r.reset()
		ask()
		r.await(t, n)
		_, last := r.lags()
		row(t, "what is in the log, to "+what, fmt.Sprintf("%.0f events/s", float64(n)/last.Sub(r.began).Seconds()), "", "", "")
	}
	again("a webhook", &hook, func() {
		w.Call(t, http.MethodPost, "/webhooks/"+path.Base(webhook)+"/replay", map[string]any{"fromSequence": 1}, nil)
	})
	var old arrivals
	again("a stream", &old, func() { readStream(t, w, "?after=0", &old) })
}

// happened is what the events of webhooks and streams have in common.
type happened struct {
	Time time.Time `json:"time"`
}

// arrivals are the events that one receiver got.
type arrivals struct {
	mu    sync.Mutex // guards all below
	began time.Time
	last  time.Time
	lag   []time.Duration
}

func (r *arrivals) came(e happened) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = time.Now()
	r.lag = append(r.lag, r.last.Sub(e.Time))
}

func (r *arrivals) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began, r.lag = time.Now(), nil
}

func (r *arrivals) lags() ([]time.Duration, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lag, r.last
}

func (r *arrivals) await(t *testing.T, n int) {
	t.Helper()
	world.Eventually(t, func() string {
		if lag, _ := r.lags(); len(lag) < n {
			return fmt.Sprintf("%d of %d events came", len(lag), n)
		}
		return ""
	})
}

// readStream counts what the stream of events has, until the test ends.
func readStream(t *testing.T, w *world.World, query string, into *arrivals) {
	t.Helper()
	ctx, cancel := background(t)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.API+"/events/stream"+query, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+w.Token)
	res, err := (&http.Client{Transport: &http.Transport{}}).Do(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		defer func() { _ = res.Body.Close() }()
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
			var e happened
			if ok && json.Unmarshal(data, &e) == nil {
				into.came(e)
			}
		}
	}()
}

// TestPace measures how evenly a paced deployment task lets cores join.
func TestPace(t *testing.T) {
	perMinute, n := 600, 300
	if !full() {
		perMinute, n = 1000, 20
	}
	w, _ := start(t)
	provision(t, w, coreNames(n))
	w.PutComponent(t, []byte(fmt.Sprintf(benchRecipe, "1.0.0")), map[string][]byte{"hello.sh": []byte("sleep 1\n")})
	version := w.PutTemplate(t, "pace", world.TemplateComponent{Name: "com.example.Bench", Version: "1.0.0"})
	a := w.Call(t, http.MethodPost, "/deploymentTasks", map[string]any{
		"template": map[string]any{"name": "pace", "version": version}, "targets": map[string]any{"thingNames": coreNames(n)}, "preStage": true,
		"iotJobConfig": map[string]any{"jobExecutionsRolloutConfig": map[string]any{"maximumPerMinute": perMinute}},
	}, nil)
	awaitTask(t, w, a.Header.Get("Location"))
	joined := make([]time.Time, n)
	for i, name := range coreNames(n) {
		var core struct {
			UpdatedAt time.Time `json:"updatedAt"`
		}
		w.Call(t, http.MethodGet, "/cores/"+name, nil, &core)
		joined[i] = core.UpdatedAt
	}
	slot := time.Minute / time.Duration(perMinute)
	off := make([]time.Duration, n)
	for i, at := range joined {
		off[i] = (at.Sub(joined[0]) - time.Duration(i)*slot).Abs()
	}
	rate := float64(n-1) / joined[n-1].Sub(joined[0]).Minutes()
	row(t, fmt.Sprintf("deployment task at %d cores a minute, %d cores", perMinute, n), fmt.Sprintf("%.1f a minute; off their time p50 %d, p99 %d ms",
		rate, quantile(off, 0.5).Milliseconds(), quantile(off, 0.99).Milliseconds()), strconv.Itoa(perMinute), fmt.Sprintf("%.3f", rate/float64(perMinute)), "")
}
