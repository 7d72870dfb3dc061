package fleetapi_test

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/fleetapitest"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type templates = fleetapi.Templates

// broken panics where a service should answer.
type broken struct{ templates }

func TestAPanicIsAnsweredAndLoggedWithTheRequestsID(t *testing.T) {
	var log lines
	h := start(t, func(c *fleetapi.Config) {
		c.Log = logx.New(&log, slog.LevelDebug, "json")
		c.Templates = broken{}
	})
	a := h.call(t, "GET", "/templates/x", "", "x-request-id", "find-me")
	assert.Equal(t, 500, a.status)
	assert.NotContains(t, a.body, "nil pointer")
	assert.Contains(t, log.String(), `"request_id":"find-me"`)
	assert.Contains(t, log.String(), "nil pointer")
	assert.Contains(t, log.String(), `"actor":"ada"`)
	assert.NotContains(t, log.String(), fleetapitest.AdminToken)
}

func logTo(l *lines) *slog.Logger { return logx.New(l, slog.LevelDebug, "json") }
