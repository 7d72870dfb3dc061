package problem_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/problem"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

func TestEachKindHasItsStatus(t *testing.T) {
	for kind, want := range map[fault.Kind]int{
		fault.Invalid: 400, fault.NotFound: 404, fault.Exists: 409, fault.Conflict: 409, fault.Stale: 412, fault.Unauthenticated: 401,
		fault.Denied: 403, fault.TooLarge: 413, fault.Exhausted: 429, fault.Unavailable: 503, fault.Unsupported: 501,
		"": 500, "something new": 500,
	} {
		assert.Equal(t, want, problem.Status(kind), "kind %q", kind)
	}
}

func TestW05WhatACallerSees(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		body   string
	}{
		"text of a classified error, under wrappers": {
			fmt.Errorf("reading from 10.0.0.7: %w", fault.New(fault.NotFound, "core %q does not exist", "press-07")), 404,
			`{"error":"Item not found","message":"core \"press-07\" does not exist"}`,
		},
		"the field of an invalid member": {
			fault.Field("cores[3].name", "is missing"), 400,
			`{"error":"Invalid request","message":"cores[3].name: is missing","field":"cores[3].name"}`,
		},
		"nothing of an unclassified error": {
			errors.New("dial tcp 10.0.0.7:2379: refused"), 500,
			`{"error":"Internal error","message":"an error on the server; its log has the details under this answer's x-request-id"}`,
		},
		"a general text for a bare kind": {
			fmt.Errorf("%w: dial tcp 10.0.0.7:2379", fault.Unavailable), 503,
			`{"error":"Service Unavailable","message":"something that the server needs is away; try again"}`,
		},
		"the limit of a body": {
			fmt.Errorf("reading: %w", &http.MaxBytesError{Limit: 10}), 413,
			`{"error":"Too large","message":"the body has more than 10 bytes, the limit of this call"}`,
		},
		"a time limit as something that passes": {
			fmt.Errorf("get: %w", context.DeadlineExceeded), 503,
			`{"error":"Service Unavailable","message":"something that the server needs is away; try again"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			problem.Of(c.err).WriteFleet(w, "application/json")
			assert.Equal(t, c.status, w.Code)
			assert.JSONEq(t, c.body, w.Body.String())
		})
	}
}

func TestHeadersThatBelongToAStatus(t *testing.T) {
	h := http.Header{}
	problem.Of(fault.New(fault.Unauthenticated, "no")).Headers(h)
	assert.Equal(t, `Bearer realm="ggfleet"`, h.Get("WWW-Authenticate"))
	h = http.Header{}
	problem.Of(fault.New(fault.Exhausted, "no")).Headers(h)
	assert.Equal(t, "1", h.Get("Retry-After"))
}

func TestOnlyOurOwnFailuresAreLoggedAsErrors(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"a mistake of the caller": {fault.New(fault.Invalid, "no"), "INFO"},
		"a defect":                {errors.New("boom"), "ERROR"},
		"a caller who went away":  {context.Canceled, "INFO"},
		"what we do not do":       {fault.New(fault.Unsupported, "no"), "INFO"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			problem.Of(c.err).Log(t.Context(), logx.New(&b, slog.LevelDebug, "json"), c.err)
			require.Contains(t, b.String(), `"level":"`+c.want+`"`)
		})
	}
}

func TestWhatACallerSentIsNotRepeatedAtLength(t *testing.T) {
	long := strings.Repeat("ä", 50_000)
	err := fault.Field("jobConfig."+long, "is %q", long)
	p := problem.Of(err)
	assert.Less(t, len(p.Message), 2100)
	assert.Less(t, len(p.Field), 2100)
	assert.True(t, utf8.ValidString(p.Message) && utf8.ValidString(p.Field), "cut between characters")
	var out bytes.Buffer
	p.Log(t.Context(), slog.New(slog.NewJSONHandler(&out, nil)), err)
	assert.Less(t, out.Len(), 5000)
}
