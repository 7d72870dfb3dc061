package fleetapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/fleetapitest"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
)

// harness is the API over a fake fleet. Every answer is compared with the API
// document.
type harness struct {
	*fleetapitest.Fake
	url    string
	spec   *openapi3.T
	router routers.Router
}

func start(t testing.TB, change ...func(*fleetapi.Config)) *harness {
	t.Helper()
	fake := fleetapitest.New()
	cfg := fake.Config()
	for _, c := range change {
		c(&cfg)
	}
	handler, err := fleetapi.New(cfg)
	require.NoError(t, err)
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)

	spec, err := api.GetSpec()
	require.NoError(t, err)
	spec.Servers = nil
	router, err := gorillamux.NewRouter(spec)
	require.NoError(t, err)
	return &harness{Fake: fake, url: s.URL, spec: spec, router: router}
}

// answer is a response, read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.body), &v), "body: %s", a.body)
	return v
}

// call sends a request as an admin in the vendor media type; headers are
// name: value pairs and replace those; an empty value leaves one out.
func (h *harness) call(t testing.TB, method, path, body string, headers ...string) answer {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, h.url+path, r)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+fleetapitest.AdminToken)
	req.Header.Set("Accept", api.MediaType)
	req.Header.Set("Content-Type", api.MediaType)
	for i := 0; i < len(headers); i += 2 {
		if req.Header.Del(headers[i]); headers[i+1] != "" {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	return h.send(t, req)
}

func (h *harness) send(t testing.TB, req *http.Request) answer {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	if res.Header.Get("Content-Type") == "text/event-stream" { // has no end
		return answer{res.StatusCode, res.Header, ""}
	}
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	h.conforms(t, req, res, b)
	return answer{res.StatusCode, res.Header, string(b)}
}

// conforms checks an answer against the document, if it describes the request.
func (h *harness) conforms(t testing.TB, req *http.Request, res *http.Response, body []byte) {
	t.Helper()
	route, params, err := h.router.FindRoute(req)
	if err != nil {
		return
	}
	header := res.Header.Clone()
	if header.Get("Content-Type") == "application/json" { // another name of the same
		header.Set("Content-Type", api.MediaType)
	}
	if strings.HasPrefix(header.Get("Content-Type"), "application/x-pem-file") || strings.HasPrefix(header.Get("Content-Type"), "application/zip") {
		return // the validator reads neither
	}
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
		Status:                 res.StatusCode,
		Header:                 header,
		Options:                &openapi3filter.Options{IncludeResponseStatus: true},
	}
	in.SetBodyBytes(body)
	assert.NoError(t, openapi3filter.ValidateResponse(context.WithoutCancel(t.Context()), in), "%s %s: %s", req.Method, req.URL.Path, bytes.TrimSpace(body))
}

const (
	templateBody = `{"name":"press-line","components":[{"key":"com.example.Press","version":"1.0.0"}]}`
	coreBody     = `{"type":"Create","coreVersion":"2.12.0","cores":[{"name":"press-07","provisioningTemplate":"default","provisioningParameters":{"ThingName":"press-07"},"configFileGenerator":"MANUAL_INSTALL"}]}`
	deployBody   = `{"template":{"name":"press-line","version":"1"},"targets":{"thingNames":["press-07"]}}`
)

// populated has one of everything.
func populated(t testing.TB, change ...func(*fleetapi.Config)) *harness {
	t.Helper()
	h := start(t, change...)
	for _, c := range []struct{ method, path, body, contentType string }{
		{"POST", "/templates", templateBody, ""},
		{"PUT", "/templates/press-line", templateBody, ""},
		{"POST", "/coreTasks", coreBody, ""},
		{"POST", "/deploymentTasks", deployBody, ""},
		{"POST", "/components", "ComponentName: com.example.Press\nComponentVersion: 1.0.0\nURI: greengrass:press.tar.gz\n", "application/yaml"},
		{"PUT", "/provisioningTemplates/default", `{"Parameters":{},"Resources":{}}`, ""},
		{"PUT", "/distributions/aws.greengrass.NucleusLite/1.0.0?format=tar.gz", "archive", "application/octet-stream"},
		{"PUT", "/distributions/aws.greengrass.NucleusLite/2.3.0?format=tar.gz&platform=linux/arm64", "archive", "application/octet-stream"},
		{"PUT", "/cores/press-07/nucleus", `{"name":"aws.greengrass.NucleusLite","version":"2.3.0"}`, ""},
		{"POST", "/activations", `{"deviceId":"press-07"}`, ""},
		{"POST", "/cores/press-07/deviceTasks", `{"type":"Create","devices":[{"name":"gauge-1","provisioningTemplate":"default"}]}`, ""},
		{"POST", "/things", `{"provisioningTemplateId":"default","parameters":{"ThingName":"gauge-1"}}`, ""},
		{"POST", "/bulkthings", `{"provisioningTemplateId":"default","parameters":[{"ThingName":"a"}]}`, ""},
		{"POST", "/patchTemplates", `{"name":"set-clock","patchType":"agentbased","playbookFileContents":"LS0tCg==","extraVars":{"zone":"UTC"}}`, ""},
		{"POST", "/patchTasks", `{"patches":[{"deviceId":"press-07","patchTemplateName":"set-clock"}]}`, ""},
		{"POST", "/cores/press-07/helpRequests", `{"kind":"logs.tail"}`, ""},
		{"PUT", "/agentReleases/1.0.0/files/ggfleet-agent_1.0.0_linux_amd64", "binary", "application/octet-stream"},
		{"PUT", "/enrollmentRules/line-2", `{"action":"approve","names":["press-*"]}`, ""},
		{"POST", "/webhooks", `{"url":"https://hooks.example.com"}`, ""},
	} {
		ct := c.contentType
		if ct == "" {
			ct = api.MediaType
		}
		a := h.call(t, c.method, c.path, c.body, "Content-Type", ct)
		require.Less(t, a.status, 300, "%s %s: %s", c.method, c.path, a.body)
	}
	h.Tell(event.CoreCreated, "press-07", `{"coreName":"press-07","taskId":"core-0001","status":"success"}`)
	h.Tell(event.DeviceCreated, "gauge-1", `{"deviceName":"gauge-1","taskId":"devi-0001","status":"success"}`)
	return h
}
