package fleetapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/fleetapitest"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// sse is a reader of server-sent events.
type sse struct {
	res  *http.Response
	body *bufio.Reader
}

func (h *harness) follow(t *testing.T, path string, headers ...string) *sse {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", h.url+path, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+fleetapitest.ViewerToken)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	return &sse{res, bufio.NewReader(res.Body)}
}

// next returns the fields of the next message; a comment has the field "".
func (s *sse) next(t *testing.T) map[string]string {
	t.Helper()
	m := map[string]string{}
	for {
		line, err := s.body.ReadString('\n')
		require.NoError(t, err)
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			return m
		}
		name, value, _ := strings.Cut(line, ":")
		m[name] = strings.TrimPrefix(value, " ")
	}
}

func TestAStreamTellsWhatHappensAndGoesOnWhereItBroke(t *testing.T) {
	h := start(t)
	h.Tell(event.CoreCreated, "press-07", `{"coreName":"press-07","taskId":"x","status":"success"}`)
	h.Tell(event.CoreDeleted, "press-08", `{"coreName":"press-08","taskId":"x","status":"success"}`)

	all := h.follow(t, "/events/stream?after=0")
	require.Equal(t, 200, all.res.StatusCode)
	assert.Equal(t, "text/event-stream", all.res.Header.Get("Content-Type"))
	assert.Equal(t, map[string]string{"retry": "3000", "id": "0"}, all.next(t))
	first := all.next(t)
	assert.Equal(t, "1", first["id"])
	assert.Equal(t, "Core Created Event", first["event"])
	assert.JSONEq(t, `{"id":"9b1deb4d-3b7d-4bad-9bdd-000000000001","sequence":1,"source":"com.aws.cdf.greengrass2-provisioning","detail-type":"Core Created Event","time":"2026-03-02T08:00:00.120Z","core":"press-07","detail":{"coreName":"press-07","taskId":"x","status":"success"}}`, first["data"])
	assert.Equal(t, "2", all.next(t)["id"])

	fresh := h.follow(t, "/events/stream")
	fresh.next(t)
	h.Tell(event.CoreCreated, "press-09", `{}`)
	assert.Equal(t, "3", all.next(t)["id"])
	assert.Equal(t, "3", fresh.next(t)["id"], "without a place to begin, it begins now")

	resumed := h.follow(t, "/events/stream?after=0", "Last-Event-ID", "1")
	resumed.next(t)
	assert.Equal(t, "2", resumed.next(t)["id"], "the header wins")

	some := h.follow(t, "/events/stream?after=0&core=press-08&type=Core+Deleted+Event")
	some.next(t)
	assert.Equal(t, "2", some.next(t)["id"])
}

func TestAStreamWhoseHistoryIsGoneSaysWhereItBegins(t *testing.T) {
	h := start(t)
	for range 5 {
		h.Tell(event.CoreCreated, "a", `{}`)
	}
	h.Prune(4)
	for _, s := range []*sse{h.follow(t, "/events/stream?after=2"), h.follow(t, "/events/stream", "Last-Event-ID", "1")} {
		assert.Equal(t, 412, s.res.StatusCode)
		var refusal map[string]string
		require.NoError(t, json.NewDecoder(s.body).Decode(&refusal))
		assert.Contains(t, refusal["message"], "sequence 4")
	}
	s := h.follow(t, "/events/stream?after=0")
	s.next(t)
	assert.Equal(t, "4", s.next(t)["id"])
	assert.Equal(t, 400, h.call(t, "GET", "/events/stream", "", "Last-Event-ID", "x").status)
	assert.Equal(t, 400, h.call(t, "GET", "/events/stream?after=-1", "").status)
	assert.Equal(t, 400, h.call(t, "GET", "/events/stream?type=Nothing", "").status)
}

func TestAStreamWithoutEventsBeats(t *testing.T) {
	h := start(t, func(c *fleetapi.Config) { c.Heartbeat = time.Millisecond })
	s := h.follow(t, "/events/stream")
	s.next(t)
	assert.Equal(t, map[string]string{"": "still here"}, s.next(t))
}

func TestAStreamThatNobodyReadsIsEnded(t *testing.T) {
	var log lines
	h := start(t, func(c *fleetapi.Config) { c.SlowReader, c.Log = time.Second, logTo(&log) })
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(h.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "GET /events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", fleetapitest.ViewerToken)
	require.NoError(t, err)
	_, err = io.ReadFull(conn, make([]byte, 10))
	require.NoError(t, err)
	large := `{"x":"` + strings.Repeat("x", 1<<20) + `"}`
	require.Eventually(t, func() bool {
		h.Tell(event.CoreCreated, "a", large)
		return strings.Contains(log.String(), "stream of events ended")
	}, 2*time.Minute, 10*time.Millisecond)
}

// revocable knows every token until it is told otherwise.
type revocable struct{ atomic.Bool }

func (r *revocable) Authenticate(context.Context, string) (access.Principal, error) {
	if r.Load() {
		return access.Principal{}, fault.New(fault.Unauthenticated, "the token is not known")
	}
	return access.Principal{Name: "dash", Role: access.Viewer}, nil
}

func TestAStreamEndsWithTheTokenThatOpenedIt(t *testing.T) {
	var tokens revocable
	h := start(t, func(c *fleetapi.Config) { c.Heartbeat, c.Auth = time.Millisecond, &tokens })
	s := h.follow(t, "/events/stream")
	require.Equal(t, 200, s.res.StatusCode)
	s.next(t)
	assert.Contains(t, s.next(t), "", "it beats")
	tokens.Store(true)
	var last map[string]string
	for last = s.next(t); last["event"] == ""; last = s.next(t) {
		assert.Contains(t, last, "", "there are only beats until then")
	}
	assert.Equal(t, "error", last["event"])
	assert.Contains(t, last["data"], "the token is not known")
	_, err := s.body.ReadString('\n')
	assert.ErrorIs(t, err, io.EOF)
}

func TestThereAreOnlySoManyStreams(t *testing.T) {
	h := start(t, func(c *fleetapi.Config) { c.MaxStreams = 2 })
	first := h.follow(t, "/events/stream")
	h.follow(t, "/events/stream")
	assert.Equal(t, 429, h.follow(t, "/events/stream").res.StatusCode)
	require.NoError(t, first.res.Body.Close())
	assert.Eventually(t, func() bool { return h.follow(t, "/events/stream").res.StatusCode == 200 }, 2*time.Minute, 10*time.Millisecond)
}
