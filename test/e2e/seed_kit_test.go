package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
	"github.com/ggfleet/ggfleet/test/simulator"
)

const (
	mediaType = "application/vnd.aws-cdf-v1.0+json"
	taskID    = `^[A-Za-z0-9_\-]{9}$`
	date      = `^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$`
)

type object = map[string]any

func first(t *testing.T, list any) object {
	t.Helper()
	l, _ := list.([]any)
	require.NotEmpty(t, l)
	o, _ := l[0].(object)
	require.NotNil(t, o)
	return o
}

// seedServer is the control plane that the README's requests are sent to.
type seedServer struct {
	*testing.T
	url, token string
	world      *world.World // nil: a server of somebody else's
}

// seed starts a ggfleet, unless GGFLEET_E2E_URL names one that runs, with
// GGFLEET_E2E_TOKEN. There, no core is powered on.
func seed(t *testing.T) seedServer {
	if u := os.Getenv("GGFLEET_E2E_URL"); u != "" {
		return seedServer{T: t, url: u, token: os.Getenv("GGFLEET_E2E_TOKEN")}
	}
	w := world.Start(t, world.Options{})
	return seedServer{t, w.API, w.Token, w}
}

// send fills the placeholders of a raw request, sends it, and checks status and
// media type.
func (s seedServer) send(raw string, want int, fill ...string) (http.Header, object) {
	s.Helper()
	raw = strings.NewReplacer(fill...).Replace(raw)
	head, body, _ := strings.Cut(raw, "\n\n")
	line, fields, _ := strings.Cut(head, "\n")
	head = fmt.Sprintf("%s HTTP/1.1\r\nHost: seed\r\nConnection: close\r\nContent-Length: %d\r\n", line, len(body))
	if fields != "" {
		head += strings.ReplaceAll(fields, "\n", "\r\n") + "\r\n"
	}
	if s.token != "" {
		head += "Authorization: Bearer " + s.token + "\r\n"
	}
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\r\n" + body)))
	require.NoError(s, err, "the request is not HTTP:\n%s", head)
	u, err := url.Parse(s.url)
	require.NoError(s, err)
	req.URL.Scheme, req.URL.Host, req.RequestURI, req.Host = u.Scheme, u.Host, "", u.Host
	ctx, cancel := context.WithTimeout(s.Context(), 5*time.Minute)
	defer cancel()
	res, err := http.DefaultClient.Do(req.WithContext(ctx))
	require.NoError(s, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	require.NoError(s, err)
	require.Equal(s, want, res.StatusCode, "%s: %s", line, b)
	assert.Equal(s, mediaType, res.Header.Get("Content-Type"), line)
	var v object
	if len(bytes.TrimSpace(b)) > 0 {
		require.NoError(s, json.Unmarshal(b, &v), "%s: %s", line, b)
	}
	return res.Header, v
}

// task waits until a task has ended.
func (s seedServer) task(path string) object {
	s.Helper()
	var task object
	world.Eventually(s, func() string {
		if _, task = s.send(seedGet(path), http.StatusOK); task["taskStatus"] == "Success" || task["taskStatus"] == "Failure" {
			return ""
		}
		return fmt.Sprintf("%s is %v", path, task["taskStatus"])
	})
	return task
}

// powerOn runs a simulated core with what the artifact store holds for it, until
// the test ends, and waits until it is HEALTHY.
func (s seedServer) powerOn(core string) {
	s.Helper()
	if s.world == nil {
		return
	}
	made := s.world.FetchCore(s, core)
	cfg, _, err := simulator.ParseInstallerConfig(made.Config)
	require.NoError(s, err)
	cfg.Certificate, cfg.RootCAs = made.Certificate, s.world.Roots
	cfg.RetryBase, cfg.ReconnectMin, cfg.ReconnectMax = 20*time.Millisecond, 20*time.Millisecond, 200*time.Millisecond
	sim, err := simulator.New(cfg)
	require.NoError(s, err)
	// The core must leave before the world ends, so the test's own context is too late.
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.Context()))
	done := make(chan error, 1)
	go func() { done <- sim.Run(ctx) }()
	s.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			assert.NoError(s, err)
		}
	})
	world.Eventually(s, func() string {
		_, c := s.send(seedGet("/cores/"+core), http.StatusOK)
		if d, _ := c["device"].(object); d["status"] != "HEALTHY" {
			return fmt.Sprintf("core %s is %v", core, d["status"])
		}
		return ""
	})
}

// deployed waits until a core has reported a template's deployment. On a server
// of somebody else's the core is off, and its item says so.
func (s seedServer) deployed(core, template string, task object) {
	s.Helper()
	if s.world == nil {
		assert.Equal(s, "Failure", task["taskStatus"])
		return
	}
	assert.Equal(s, "Success", task["taskStatus"])
	world.Eventually(s, func() string {
		_, c := s.send(seedGet("/cores/"+core), http.StatusOK)
		reported, _ := c["template"].(object)["reported"].(object)
		if reported["name"] != template || reported["deploymentStatus"] != "Success" {
			return fmt.Sprintf("core %s reports %v", core, reported)
		}
		return ""
	})
}
