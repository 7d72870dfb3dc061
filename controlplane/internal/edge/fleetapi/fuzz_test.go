package fleetapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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
