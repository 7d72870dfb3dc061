package deviceapi_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/deviceapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// agents says how many are asking, and lets them wait.
type agents struct {
	deviceapi.Agents
	in, goOn chan struct{}
}

func (a agents) Assignment(_ context.Context, core string, _ protocol.AssignmentQuery) (protocol.CoreAssignment, error) {
	a.in <- struct{}{}
	<-a.goOn
	return protocol.CoreAssignment{Core: core}, nil
}

// serials are identities by the serial of the certificate.
type serials struct{}

func (serials) Identify(_ context.Context, leaf *x509.Certificate) (gateway.Identity, error) {
	core := leaf.Subject.CommonName
	return gateway.Identity{CertificateID: core, Thing: protocol.AgentThing(core), Attributes: map[string]string{protocol.AttributeCore: core}}, nil
}

// of is a call of the agent of core.
func of(core, path string) *http.Request {
	r := from("10.0.0.1:1000", path)
	leaf := &x509.Certificate{}
	leaf.Subject.CommonName = core
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	return r
}

func TestOneDeviceKeepsNoOtherFromCalling(t *testing.T) {
	a := agents{in: make(chan struct{}), goOn: make(chan struct{})}
	h := handler(t, func(c *deviceapi.Config) { c.Identities, c.Agents = serials{}, a })
	done := make(chan int)
	begin := func(core string) {
		go func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, of(core, protocol.PathAgentCore))
			done <- w.Code
		}()
		<-a.in
	}
	for range 32 {
		begin("greedy")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, of("greedy", protocol.PathAgentCore))
	assert.Equal(t, http.StatusTooManyRequests, w.Code)
	assert.Equal(t, "ThrottlingException", w.Header().Get("X-Amzn-Errortype"))
	assert.NotEmpty(t, w.Header().Get("Retry-After"))
	begin("other")
	close(a.goOn)
	for range 33 {
		assert.Equal(t, http.StatusOK, <-done)
	}
}

func TestADeviceThatCallsInALoopIsSlowedDownAndFillsNoLog(t *testing.T) {
	var log bytes.Buffer
	now := time.Now()
	h := handler(t, func(c *deviceapi.Config) {
		c.Identities, c.Log, c.Now = serials{}, slog.New(slog.NewTextHandler(&log, nil)), func() time.Time { return now }
	})
	call := func(core string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, of(core, "/none"))
		return w.Code
	}
	got := map[int]int{}
	for range 1500 {
		got[call("greedy")]++
	}
	assert.Equal(t, map[int]int{http.StatusNotFound: 1000, http.StatusTooManyRequests: 500}, got)
	assert.Equal(t, http.StatusNotFound, call("other"))
	assert.Equal(t, 50, strings.Count(log.String(), "greedy"))
	assert.Equal(t, 1, strings.Count(log.String(), "other"))
	now = now.Add(time.Second)
	assert.Equal(t, http.StatusNotFound, call("greedy"))
}
