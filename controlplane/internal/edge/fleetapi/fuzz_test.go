package fleetapi_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/fleetapitest"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Whatever stands in a body, the answer is one of those that the API document
// promises, and a refusal comes with a message.
func FuzzBodies(f *testing.F) {
	paths := []string{"/templates", "/coreTasks", "/deploymentTasks", "/activations", "/tokens", "/accessKeys"}
	for i, b := range []string{templateBody, coreBody, deployBody, `{"deviceId":"a"}`, `{"name":"a","role":"viewer"}`, `{}`, `[`, `{"a":1,"a":2}`, "\x00", `{"cores":[{"name":{}}]}`} {
		f.Add(i, b)
	}
	handler, err := fleetapi.New(fleetapitest.New().Config())
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, which int, body string) {
		path := paths[uint(which)%uint(len(paths))]
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+fleetapitest.AdminToken)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		switch w.Code {
		case 200, 201, 202:
		case 400, 404, 409, 429, 501:
			require.Contains(t, w.Body.String(), `"message":"`)
		default:
			t.Fatalf("%s: status %d for %q: %s", path, w.Code, body, w.Body)
		}
	})
}

// Whatever is sent to whichever operation, the answer is one that the API document
// promises, and a refusal comes with a message.
func FuzzOperations(f *testing.F) {
	spec, err := api.GetSpec()
	require.NoError(f, err)
	type operation struct{ method, path, contentType string }
	var ops []operation
	for _, path := range spec.Paths.InMatchingOrder() {
		for method, op := range spec.Paths.Value(path).Operations() {
			o := operation{method: method, path: path}
			if op.RequestBody != nil {
				for t := range op.RequestBody.Value.Content {
					o.contentType = t
				}
			}
			if op.OperationID != "StreamEvents" { // has no end
				ops = append(ops, o)
			}
		}
	}
	slices.SortFunc(ops, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	for i := range ops {
		f.Add(uint(i), "press-07", "count=1", `{"name":"a"}`, `"1"`)
	}
	f.Add(uint(1), "%2e%2e", "count=%zz&&=;", "\x00", "*")
	fake := fleetapitest.New()
	handler, err := fleetapi.New(fake.Config())
	require.NoError(f, err)
	variable := regexp.MustCompile(`\{[^}]+\}`)
	f.Fuzz(func(t *testing.T, which uint, name, query, body, header string) {
		op := ops[which%uint(len(ops))]
		r := httptest.NewRequestWithContext(t.Context(), op.method, "/", strings.NewReader(body))
		r.URL.Path = variable.ReplaceAllLiteralString(op.path, name)
		r.URL.RawPath = variable.ReplaceAllLiteralString(op.path, url.PathEscape(name))
		r.URL.RawQuery = query
		r.Header.Set("Authorization", "Bearer "+fleetapitest.AdminToken)
		for _, h := range []string{"If-Match", "Idempotency-Key"} {
			r.Header.Set(h, header)
		}
		if op.contentType != "" {
			r.Header.Set("Content-Type", op.contentType)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		switch {
		case w.Code < 300:
		case w.Code == 405: // the name made another path
		case w.Code >= 400 && w.Code < 500, w.Code == 501:
			require.Contains(t, w.Body.String(), `"message":"`)
		default:
			t.Fatalf("%s %s: status %d: %s", op.method, r.URL, w.Code, w.Body)
		}
	})
}

// What decodes is what encoding/json reads too, and what fails says why.
func FuzzDecodeStrict(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":null}]}`, `{"a":1,"a":1}`, `1e999`, `"\ud800"`, `[[[[`, `{} {}`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := fleetapi.DecodeStrict(b); err != nil {
			require.Equal(t, fault.Invalid, fault.KindOf(err), "%q", b)
			require.NotEmpty(t, fault.Message(err))
		}
	})
}
