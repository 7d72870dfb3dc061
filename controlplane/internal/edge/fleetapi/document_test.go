package fleetapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/fleetapitest"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
)

func TestTheDocumentAndItsExamplesAreValid(t *testing.T) {
	spec, err := api.GetSpec()
	require.NoError(t, err)
	require.NoError(t, spec.Validate(t.Context(), openapi3.EnableExamplesValidation()))
}

// Every example of a request is sent; none may be refused.
func TestTheExamplesOfTheDocumentWork(t *testing.T) {
	h := populated(t)
	for path, item := range h.spec.Paths.Map() {
		for method, op := range item.Operations() {
			bodies := map[string]string{"": ""}
			contentType := ""
			if op.RequestBody != nil {
				bodies = map[string]string{}
				for ct, m := range op.RequestBody.Value.Content {
					contentType = ct
					for name, e := range examples(m) {
						b, err := json.Marshal(e)
						require.NoError(t, err)
						bodies[name] = string(b)
					}
				}
				if len(bodies) == 0 {
					bodies["made up"] = "ComponentName: com.example.Other\nComponentVersion: 1.0.0\n"
				}
			}
			for name, body := range bodies {
				t.Run(strings.TrimSpace(method+" "+path+" "+name), func(t *testing.T) {
					fresh := populated(t)
					fillDocument(t, fresh, op.OperationID)
					a := fresh.call(t, method, exampleURL(t, path, item, op), body, "Content-Type", contentType)
					assert.Less(t, a.status, 300, a.body)
				})
			}
		}
	}
}

// fillDocument makes what an operation's example needs beyond populated.
func fillDocument(t *testing.T, h *harness, operation string) {
	t.Helper()
	switch operation {
	case "CreateTemplate":
		require.Equal(t, 204, h.call(t, "DELETE", "/templates/press-line", "").status)
	case "CreatePatchTemplate":
		require.Equal(t, 204, h.call(t, "DELETE", "/patchTemplates/set-clock", "").status)
	case "CancelDeploymentTask":
		h.SetDeployment(fleet.DeploymentTask{TaskState: fleet.TaskState{ID: "depl-0001", Status: fleet.TaskInProgress}})
	case "DeleteAccessKey":
		require.Equal(t, 201, h.call(t, "POST", "/accessKeys", `{}`).status)
	case "DeleteToken":
		require.Equal(t, 201, h.call(t, "POST", "/tokens", `{"name":"dashboard","role":"viewer"}`).status)
	}
}

func examples(m *openapi3.MediaType) map[string]any {
	out := map[string]any{}
	if m.Example != nil {
		out["example"] = m.Example
	}
	for name, e := range m.Examples {
		out[name] = e.Value.Value
	}
	return out
}

// exampleURL fills a path with the document's examples, or with the ids that
// the fake gives.
func exampleURL(t *testing.T, path string, item *openapi3.PathItem, op *openapi3.Operation) string {
	t.Helper()
	q := url.Values{}
	for _, ref := range slices.Concat(item.Parameters, op.Parameters) {
		p := ref.Value
		value := fmt.Sprint(p.Example)
		switch {
		case p.Name == "taskId" && strings.Contains(op.OperationID, "DeploymentTask"):
			value = "depl-0001"
		case p.Name == "taskId" && strings.Contains(op.OperationID, "DeviceTask"):
			value = "devi-0001"
		case p.Name == "taskId" && strings.Contains(op.OperationID, "Bulk"):
			value = "bulk-0001"
		case p.Name == "taskId" && strings.Contains(op.OperationID, "Patch"):
			value = "7c9e6679-7425-40de-944b-000000000001"
		case p.Name == "taskId":
			value = "core-0001"
		case p.Name == "patchId":
			value = "1f0e7a30-5c3b-4b5e-9a57-000000000001"
		case p.Name == "requestId" && slices.Contains(op.Tags, "help"):
			value = fleetapitest.HelpID
		case p.Name == "id" && slices.Contains(op.Tags, "webhooks"):
			value = "hook-1"
		case p.Name == "activationId":
			value = "3b241101-e2bb-4255-8caf-000000000001"
		case p.Name == "accessKeyId":
			value = "AKIAEXAMPLE00001"
		}
		switch {
		case p.In == openapi3.ParameterInPath:
			require.NotNil(t, p.Example, "%s has no example", p.Name)
			path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(value))
		case p.In == openapi3.ParameterInQuery && p.Example != nil:
			q.Set(p.Name, value)
		}
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path
}

// Who may do what follows from the document: reading, changing, and access.
func TestEachOperationNeedsItsRole(t *testing.T) {
	h := populated(t)
	for path, item := range h.spec.Paths.Map() {
		for method, op := range item.Operations() {
			t.Run(op.OperationID, func(t *testing.T) {
				target := exampleURL(t, path, item, op)
				allowed := map[string]bool{}
				for token, role := range map[string]string{"": "nobody", fleetapitest.ViewerToken: "viewer", fleetapitest.OperatorToken: "operator", fleetapitest.AdminToken: "admin"} {
					header := "Bearer " + token
					if token == "" {
						header = ""
					}
					a := h.call(t, method, target, "", "Authorization", header)
					if a.status == http.StatusUnauthorized {
						assert.Equal(t, "nobody", role)
						assert.Contains(t, a.header.Get("WWW-Authenticate"), "Bearer")
						continue
					}
					allowed[role] = a.status != http.StatusForbidden
				}
				want := map[string]bool{"viewer": true, "operator": true, "admin": true}
				switch {
				case op.Security != nil:
					want["nobody"] = true
				case slices.Contains(op.Tags, "access"):
					want["viewer"], want["operator"] = false, false
				case slices.Contains(op.Tags, "webhooks"), slices.Contains(op.Tags, "help"):
					want["viewer"] = false
				case method != http.MethodGet:
					want["viewer"] = false
				}
				assert.Equal(t, want, allowed, "tags %v, operations %v", op.Tags, slices.Collect(maps.Keys(item.Operations())))
			})
		}
	}
}
