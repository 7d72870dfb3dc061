package fleetapi_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/fleetapitest"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestABadBodyIsRefusedWithTheMembersPath(t *testing.T) {
	h := start(t)
	core := func(members string) string {
		return `{"type":"Create","coreVersion":"2.12.0","cores":[{"name":"a","provisioningTemplate":"p"},` + members + `]}`
	}
	for name, c := range map[string]struct{ path, body, field, text string }{
		"an unknown member":                    {"/coreTasks", core(`{"name":"b","provisioningTemplat":"p"}`), "cores[1].provisioningTemplat", "known here: cdfProvisioningParameters, claim, configFileGenerator, configOverlay, name, "},
		"an unknown member at the top":         {"/templates", `{"nam":"x","components":[{"key":"a","version":"1"}]}`, "nam", "known here: components, "},
		"a member in another case":             {"/templates", `{"name":"x","Components":[]}`, "Components", "is unknown"},
		"a wrong type":                         {"/coreTasks", core(`{"name":7,"provisioningTemplate":"p"}`), "cores[1].name", "want a text, got 7"},
		"a parameter that is no text":          {"/coreTasks", core(`{"name":"b","provisioningTemplate":"p","provisioningParameters":{"ThingName":5}}`), "cores[1].provisioningParameters.ThingName", "want a text, got 5"},
		"a name with a bad sign":               {"/coreTasks", core(`{"name":"b b","provisioningTemplate":"p"}`), "cores[1].name", `"b b" does not match`},
		"a name too long":                      {"/coreTasks", core(`{"name":"` + strings.Repeat("x", 129) + `","provisioningTemplate":"p"}`), "cores[1].name", "does not match"},
		"a name twice":                         {"/coreTasks", core(`{"name":"a","provisioningTemplate":"p"}`), "cores[1].name", `"a" is already the name of cores[0]`},
		"no name":                              {"/coreTasks", core(`{"provisioningTemplate":"p"}`), "cores[1].name", "is missing"},
		"no provisioning template":             {"/coreTasks", core(`{"name":"b"}`), "cores[1].provisioningTemplate", "is missing"},
		"no core version":                      {"/coreTasks", `{"type":"Create","cores":[{"name":"a","provisioningTemplate":"p"}]}`, "coreVersion", "is missing"},
		"an unknown type":                      {"/coreTasks", `{"type":"Update","cores":[{"name":"a"}]}`, "type", "want one of Create, Delete"},
		"no cores":                             {"/coreTasks", `{"type":"Create","coreVersion":"1","cores":[]}`, "cores", "at least 1 element"},
		"null for an array":                    {"/coreTasks", `{"type":"Create","coreVersion":"1","cores":null}`, "cores", "must not be null"},
		"a member twice":                       {"/coreTasks", core(`{"name":"b","name":"c","provisioningTemplate":"p"}`), "cores[1].name", "stands twice"},
		"an array":                             {"/coreTasks", `[]`, "", "want an object"},
		"two values":                           {"/coreTasks", coreBody + `{}`, "", "goes on after its JSON value"},
		"broken JSON":                          {"/coreTasks", `{"type":"Create",}`, "", "not JSON"},
		"half a body":                          {"/coreTasks", `{"type":"Cre`, "", "not JSON"},
		"nesting without end":                  {"/coreTasks", `{"options":` + strings.Repeat("[", 100000), "options" + strings.Repeat("[0]", 50) + "…", "nested deeper"},
		"no body":                              {"/coreTasks", ``, "", "needs a body"},
		"a number out of range":                {"/activations", `{"deviceId":"a","registrationLimit":1e999}`, "registrationLimit", "not a number in range"},
		"a template name for no thing group":   {"/templates", `{"name":"a:b","components":[{"key":"a","version":"1"}]}`, "name", "does not match"},
		"no template name":                     {"/templates", `{"components":[{"key":"a","version":"1"}]}`, "name", "is missing"},
		"a component twice":                    {"/templates", `{"name":"x","components":[{"key":"a","version":"1"},{"key":"a","version":"2"}]}`, "components[1].key", "already the key of components[0]"},
		"a merge that is no object":            {"/templates", `{"name":"x","components":[{"key":"a","version":"1","configurationUpdate":{"merge":"[1]"}}]}`, "components[0].configurationUpdate.merge", "JSON object"},
		"a reset that is no pointer":           {"/templates", `{"name":"x","components":[{"key":"a","version":"1","configurationUpdate":{"reset":["/a","b"]}}]}`, "components[0].configurationUpdate.reset[1]", "no JSON pointer"},
		"a version that is no number":          {"/deploymentTasks", `{"template":{"name":"x","version":"two"},"targets":{"thingNames":["a"]}}`, "template.version", "want a whole number of 1 or more"},
		"a version of zero":                    {"/deploymentTasks", `{"template":{"name":"x","version":0},"targets":{"thingNames":["a"]}}`, "template.version", "want a whole number of 1 or more"},
		"no targets":                           {"/deploymentTasks", `{"template":{"name":"x"},"targets":{}}`, "targets", "at least 1 member"},
		"targets without names":                {"/deploymentTasks", `{"template":{"name":"x"},"targets":{"thingNames":[],"thingGroups":[]}}`, "", "name at least one in thingNames"},
		"a target with a bad name":             {"/deploymentTasks", `{"template":{"name":"x"},"targets":{"thingNames":["ok","not ok"]}}`, "targets.thingNames[1]", "does not match"},
		"a device id with a bad sign":          {"/activations", `{"deviceId":"a*b"}`, "deviceId", "no device id"},
		"an expiry below a minute":             {"/activations", `{"deviceId":"a","expiresInSeconds":5}`, "expiresInSeconds", "want 60 or more, got 5"},
		"half a use":                           {"/activations", `{"deviceId":"a","registrationLimit":1.5}`, "registrationLimit", "want a whole number, got 1.5"},
		"a role that is none":                  {"/tokens", `{"name":"x","role":"root"}`, "role", "want one of viewer, operator, admin"},
		"no options to delete a core":          {"/coreTasks", `{"type":"Delete","cores":[{"name":"a"}]}`, "options", "deprovisionClientDevices, deprovisionCores"},
		"empty options":                        {"/coreTasks", `{"type":"Delete","cores":[{"name":"a"}],"options":{}}`, "options", "at least one of"},
		"an unknown option":                    {"/coreTasks", `{"type":"Delete","cores":[{"name":"a"}],"options":{"deprovisionCore":true}}`, "options.deprovisionCore", "is unknown"},
		"W-31: an option that is text":         {"/coreTasks", `{"type":"Delete","cores":[{"name":"a"}],"options":{"deprovisionCores":"false"}}`, "options.deprovisionCores", `want true or false, got "false"`},
		"no options to delete a device":        {"/cores/a/deviceTasks", `{"type":"Delete","devices":[{"name":"a"}]}`, "options", "deprovisionClientDevices"},
		"no type of a device task":             {"/cores/a/deviceTasks", `{"devices":[{"name":"a","provisioningTemplate":"p"}]}`, "type", "is missing"},
		"an unknown type of a device task":     {"/cores/a/deviceTasks", `{"types":"Update","devices":[{"name":"a"}]}`, "types", "want one of Create, Delete"},
		"a device twice":                       {"/cores/a/deviceTasks", `{"type":"Create","devices":[{"name":"a","provisioningTemplate":"p"},{"name":"a","provisioningTemplate":"p"}]}`, "devices[1].name", "already the name of devices[0]"},
		"no template of a device":              {"/cores/a/deviceTasks", `{"type":"Create","devices":[{"name":"a"}]}`, "devices[0].provisioningTemplate", "is missing"},
		"no devices":                           {"/cores/a/deviceTasks", `{"type":"Create","devices":[]}`, "devices", "at least 1 element"},
		"an unknown member of a device":        {"/cores/a/deviceTasks", `{"type":"Create","devices":[{"name":"a","configFileGenerator":"X"}]}`, "devices[0].configFileGenerator", "is unknown"},
		"a unicode name":                       {"/cores/a/deviceTasks", `{"type":"Create","devices":[{"name":"größe"}]}`, "devices[0].name", "does not match"},
		"force as text":                        {"/deploymentTasks", `{"template":{"name":"x"},"targets":{"thingNames":["a"]},"force":"true"}`, "force", "want true or false"},
		"preStage as null":                     {"/deploymentTasks", `{"template":{"name":"x"},"targets":{"thingNames":["a"]},"preStage":null}`, "preStage", "must not be null"},
		"a path that is none":                  {"/deploymentTasks", `{"template":{"name":"x"},"targets":{"assetLibraryGroupPaths":["a"]}}`, "targets.assetLibraryGroupPaths[0]", "does not match"},
		"a query that is text":                 {"/deploymentTasks", `{"template":{"name":"x"},"targets":{"assetLibraryQuery":"a"}}`, "targets.assetLibraryQuery", "want an object"},
		"W-33: targets of empty arrays":        {"/deploymentTasks", `{"template":{"name":"x"},"targets":{"assetLibraryDeviceIds":[],"assetLibraryQuery":{}}}`, "", "name at least one in"},
		"no template of a thing":               {"/things", `{"parameters":{}}`, "provisioningTemplateId", "is missing"},
		"a number as a parameter":              {"/things", `{"provisioningTemplateId":"a","parameters":{"n":1}}`, "parameters.n", "want a text, got 1"},
		"bulk without parameters":              {"/bulkthings", `{"provisioningTemplateId":"a"}`, "parameters", "is missing"},
		"bulk with a text among the things":    {"/bulkthings", `{"provisioningTemplateId":"a","parameters":[{},"x"]}`, "parameters[1]", "want an object"},
		"a patch without device":               {"/patchTasks", `{"patches":[{"patchTemplateName":"a"}]}`, "patches[0].deviceId", "is missing"},
		"no patches":                           {"/patchTasks", `{"patches":[]}`, "patches", "at least 1 element"},
		"too many patches":                     {"/patchTasks", `{"patches":[` + strings.Repeat(`{"deviceId":"a","patchTemplateName":"b"},`, 10_000) + `{"deviceId":"a","patchTemplateName":"b"}]}`, "patches", "10000 or fewer"},
		"a template body that differs from it": {"/templates/y", `{"name":"x","components":[{"key":"a","version":"1"}]}`, "name", "differs from"},
	} {
		t.Run(name, func(t *testing.T) {
			method := "POST"
			if c.path == "/templates/y" {
				method = "PUT"
			}
			a := h.call(t, method, c.path, c.body)
			assert.Equal(t, 400, a.status, a.body)
			got := a.json(t)
			assert.Equal(t, "Invalid request", got["error"])
			assert.Contains(t, got["message"], c.text)
			if c.field == "" {
				assert.NotContains(t, got, "field")
			} else {
				assert.Equal(t, c.field, got["field"])
			}
		})
	}
	assert.JSONEq(t, `{"templates":[]}`, h.call(t, "GET", "/templates", "").body, "nothing was stored")
	assert.JSONEq(t, `{"tasks":[]}`, h.call(t, "GET", "/coreTasks", "").body)
}

func TestW06W27ABadParameterIsRefusedByName(t *testing.T) {
	h := start(t)
	for target, field := range map[string]string{
		"/cores?count=0":                                "count",
		"/cores?count=-1":                               "count",
		"/cores?count=abc":                              "count",
		"/cores?count=1.5":                              "count",
		"/cores?count=":                                 "count",
		"/cores?count=99999999999999999999":             "count",
		"/cores?failedOnly=perhaps":                     "failedOnly",
		"/cores?templateVersion=1":                      "templateVersion",
		"/templates/x/versions?exclusiveStartVersion=x": "exclusiveStartVersion",
		"/templates/x/versions/0":                       "version",
		"/templates/x/versions/cur":                     "version",
		"/templates/x/versions/-1":                      "version",
		"/cores/" + strings.Repeat("x", 129):            "name",
	} {
		a := h.call(t, "GET", target, "")
		assert.Equal(t, 400, a.status, "%s: %s", target, a.body)
		assert.Equal(t, field, a.json(t)["field"], target)
	}
	for _, target := range []string{"/cores?count=1;failedOnly=true", "/cores?%zz=1"} {
		a := h.call(t, "GET", target, "")
		assert.Equal(t, 400, a.status, "%s is not answered as if it asked for all: %s", target, a.body)
		assert.Contains(t, a.json(t)["message"], "the query")
	}
	a := h.call(t, "POST", "/coreTasks", coreBody, "Idempotency-Key", strings.Repeat("k", 129))
	assert.Equal(t, "Idempotency-Key", a.json(t)["field"])
}

func TestW01MediaTypes(t *testing.T) {
	h := start(t)
	for accept, want := range map[string]string{
		"":                                   api.MediaType,
		api.MediaType:                        api.MediaType,
		"*/*":                                api.MediaType,
		"application/*;q=0.1":                api.MediaType,
		"application/json":                   "application/json",
		"application/json; charset=utf-8":    "application/json",
		"application/json, " + api.MediaType: api.MediaType,
		"text/html, application/json;q=0.9, */*;q=0.8": api.MediaType,
		"text/html":                         "",
		"application/json;q=0":              "",
		"application/vnd.aws-cdf-v2.0+json": "",
	} {
		for path, status := range map[string]int{"/fleet/summary": 200, "/cores/none": 404} {
			a := h.call(t, "GET", path, "", "Accept", accept)
			if want == "" {
				assert.Equal(t, 415, a.status, accept)
				continue
			}
			assert.Equal(t, status, a.status, accept)
			assert.Equal(t, want, a.header.Get("Content-Type"), "%s with Accept %s", path, accept)
		}
	}
	for contentType, status := range map[string]int{
		api.MediaType: 202, "application/json": 202, "application/json; charset=utf-8": 202, strings.ToUpper(api.MediaType): 202,
		"": 415, "text/plain": 415, "application/x-www-form-urlencoded": 415, "application/yaml": 415,
	} {
		assert.Equal(t, status, h.call(t, "POST", "/coreTasks", coreBody, "Content-Type", contentType).status, "Content-Type %q", contentType)
	}
	assert.Equal(t, 415, h.call(t, "POST", "/coreTasks", coreBody, "Content-Encoding", "gzip").status)
	assert.Equal(t, 415, h.call(t, "POST", "/components", "x", "Content-Type", "text/plain").status)
}

func TestUnknownPathsAndMethods(t *testing.T) {
	h := start(t)
	for _, path := range []string{"/nothing", "/cores/", "/", "/cores/a/b"} {
		a := h.call(t, "GET", path, "")
		assert.Equal(t, 404, a.status, path)
		assert.Equal(t, "Item not found", a.json(t)["error"])
	}
	a := h.call(t, "DELETE", "/cores", "")
	assert.Equal(t, 405, a.status)
	assert.Equal(t, "GET", a.header.Get("Allow"))
	assert.Equal(t, "Method Not Allowed", a.json(t)["error"])
}

func TestW02TenThousandCoresInOneTask(t *testing.T) {
	h := start(t)
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, `%c{"name":"press-%05d","provisioningTemplate":"default","provisioningParameters":{"ThingName":"press-%05d"}}`, ",["[min(1, i)^1], i, i)
	}
	a := h.call(t, "POST", "/coreTasks", `{"type":"Create","coreVersion":"2.12.0","cores":`+b.String()+`]}`)
	require.Equal(t, 202, a.status, a.body)
	assert.Len(t, h.LastNewCoreTask.Cores, 10_000)
}

func TestABodyOverTheLimitIsRefused(t *testing.T) {
	h := start(t, func(c *fleetapi.Config) { c.MaxBody, c.MaxUpload = 1000, 2000 })
	assert.Equal(t, 413, h.call(t, "POST", "/coreTasks", strings.Repeat(" ", 1001)+coreBody).status, "the length is announced")

	req, err := http.NewRequestWithContext(t.Context(), "POST", h.url+"/coreTasks", bufio.NewReader(strings.NewReader(strings.Repeat(" ", 1001)+coreBody)))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+fleetapitest.AdminToken)
	req.Header.Set("Content-Type", "application/json")
	a := h.send(t, req)
	assert.Equal(t, 413, a.status, "the length is not announced")
	assert.Equal(t, "Too large", a.json(t)["error"])

	assert.Equal(t, 413, h.call(t, "PUT", "/distributions/a/1.0.0?format=zip", strings.Repeat("x", 2001), "Content-Type", "application/octet-stream").status)
	assert.Equal(t, 413, h.call(t, "POST", "/components", strings.Repeat("x", 1001), "Content-Type", "application/yaml").status)
}

func TestABodyThatStopsArrivingIsGivenUp(t *testing.T) {
	h := start(t, func(c *fleetapi.Config) { c.StallTimeout = 50 * time.Millisecond })
	for name, head := range map[string]string{
		"JSON":       "POST /coreTasks HTTP/1.1\r\nContent-Type: application/json\r\n",
		"an archive": "PUT /distributions/a/1.0.0?format=zip HTTP/1.1\r\nContent-Type: application/octet-stream\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(h.url, "http://"))
			require.NoError(t, err)
			defer conn.Close()
			_, err = fmt.Fprintf(conn, "%sHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{", head, fleetapitest.AdminToken)
			require.NoError(t, err)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			defer res.Body.Close()
			assert.Equal(t, 400, res.StatusCode)
		})
	}
}

func TestOneCallerCannotAskTooMuch(t *testing.T) {
	h := start(t, func(c *fleetapi.Config) { c.Rate, c.Burst = 0.001, 2 })
	assert.Equal(t, 200, h.call(t, "GET", "/system", "").status)
	assert.Equal(t, 200, h.call(t, "GET", "/system", "").status)
	a := h.call(t, "GET", "/system", "")
	assert.Equal(t, 429, a.status)
	assert.NotEmpty(t, a.header.Get("Retry-After"))
	assert.Equal(t, 200, h.call(t, "GET", "/system", "", "Authorization", "Bearer "+fleetapitest.ViewerToken).status, "others go on")
	assert.Equal(t, 200, h.call(t, "GET", "/healthz", "").status)
}

func TestTokens(t *testing.T) {
	h := start(t)
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic " + fleetapitest.AdminToken, fleetapitest.AdminToken} {
		a := h.call(t, "GET", "/cores", "", "Authorization", header)
		assert.Equal(t, 401, a.status, "%q", header)
		assert.Equal(t, `Bearer realm="ggfleet"`, a.header.Get("WWW-Authenticate"))
	}
	assert.Equal(t, 200, h.call(t, "GET", "/cores", "", "Authorization", "bearer  "+fleetapitest.ViewerToken).status)

	open := start(t, func(c *fleetapi.Config) { c.Anonymous = &access.Principal{Name: "anonymous", Role: access.Admin} })
	assert.Equal(t, 200, open.call(t, "GET", "/cores", "", "Authorization", "").status)
	assert.Equal(t, 401, open.call(t, "GET", "/cores", "", "Authorization", "Bearer wrong").status)
}

func TestErrorsOfTheServiceKeepTheirKind(t *testing.T) {
	h := populated(t)
	for _, c := range []struct {
		err    error
		status int
	}{
		{fault.New(fault.Conflict, "someone else was first"), 409},
		{fault.New(fault.Unavailable, "away"), 503},
		{fault.New(fault.Exhausted, "too many"), 429},
		{fault.New(fault.Denied, "no"), 403},
		{errors.New("dial tcp 10.0.0.7:2379: refused"), 500},
	} {
		h.Fail = c.err
		for path, item := range h.spec.Paths.Map() {
			op := item.Get
			if op == nil || op.OperationID == "GetHealth" || op.OperationID == "GetMetrics" || op.OperationID == "GetReadiness" {
				continue
			}
			a := h.call(t, "GET", exampleURL(t, path, item, op), "")
			assert.Equal(t, c.status, a.status, path)
			assert.NotContains(t, a.body, "10.0.0.7", path)
		}
		a := h.call(t, "GET", "/readyz", "")
		assert.Equal(t, 503, a.status, "whatever is missing")
		assert.NotContains(t, a.body, "10.0.0.7")
		h.Fail = nil
	}
}

func TestPagesOfAnotherOriginMayCallOnlyIfSaidSo(t *testing.T) {
	assert.Empty(t, start(t).call(t, "GET", "/cores", "", "Origin", "https://ui.example").header.Get("Access-Control-Allow-Origin"))
	h := start(t, func(c *fleetapi.Config) { c.CORSOrigin = "https://ui.example" })
	a := h.call(t, "OPTIONS", "/cores", "", "Authorization", "", "Origin", "https://ui.example", "Access-Control-Request-Method", "POST")
	assert.Equal(t, 204, a.status)
	assert.Contains(t, a.header.Get("Access-Control-Allow-Headers"), "authorization")
	exposed := strings.Split(h.call(t, "GET", "/cores", "").header.Get("Access-Control-Expose-Headers"), ",")
	for _, header := range []string{"location", "x-taskid", "x-name", "x-version", "etag", "idempotency-replayed"} {
		assert.Contains(t, exposed, header, "W-03")
	}
}

func TestARequestIDIsKeptIfItCanStandInALog(t *testing.T) {
	h := start(t)
	assert.Equal(t, "abc-1", h.call(t, "GET", "/healthz", "", "x-request-id", "abc-1").header.Get("x-request-id"))
	made := h.call(t, "GET", "/healthz", "", "x-request-id", "a b").header.Get("x-request-id")
	assert.NotEqual(t, "a b", made)
	assert.NotEmpty(t, made)
}

func TestEveryPortIsRequired(t *testing.T) {
	_, err := fleetapi.New(fleetapi.Config{})
	require.ErrorContains(t, err, "Templates is required")
	require.ErrorContains(t, err, "Metrics is required")
}
