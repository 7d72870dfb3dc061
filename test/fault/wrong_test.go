package fault_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// residentKB is how much memory a process holds.
func residentKB(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Skip("no /proc here")
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(t, err)
			return n
		}
	}
	require.Fail(t, "no VmRSS")
	return 0
}

// endless is a body of n spaces.
type endless struct{ left int64 }

func (e *endless) Read(b []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := min(int64(len(b)), e.left)
	copy(b[:n], bytes.Repeat([]byte(" "), int(n)))
	e.left -= n
	return int(n), nil
}

func TestWhatIsWrongIsRefusedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{})
	w.CreateCores(t, "press-07")
	world.Eventually(t, func() string { // that it was created has its place in the log
		var told struct{ Events []any }
		w.Call(t, http.MethodGet, "/cores/press-07/history", nil, &told)
		if len(told.Events) == 2 {
			return ""
		}
		return fmt.Sprintf("history: %v", told.Events)
	})
	w.Stop(t)
	records, files := withoutClock(w.Dump(t)), objects(t, w.Dir)
	w.Restart(t)

	names := coreNames(10_000)
	twice := slices.Clone(names)
	twice[9_999] = names[17]
	bad := slices.Clone(names[:3])
	bad[2] = "press 07"
	core := func(change func(map[string]any)) any {
		body := world.NewCores("press-09")
		change(body["cores"].([]map[string]any)[0])
		return body
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'l'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	type wrong struct {
		name, method, path string
		body               any
		status             int
		field              string
	}
	cases := []wrong{
		{"a name that stands twice among ten thousand", "POST", "/coreTasks", world.NewCores(twice...), 400, "cores[9999].name"},
		{"a name that cannot be", "POST", "/coreTasks", world.NewCores(bad...), 400, "cores[2].name"},
		{"no core", "POST", "/coreTasks", world.NewCores(), 400, "cores"},
		{"an unknown field", "POST", "/coreTasks", core(func(c map[string]any) { c["colour"] = "x" }), 400, "cores[0].colour"},
		{"a wrong type", "POST", "/coreTasks", core(func(c map[string]any) { c["provisioningTemplate"] = 7 }), 400, "cores[0].provisioningTemplate"},
		{"a parameter that is no text", "POST", "/coreTasks", core(func(c map[string]any) { c["provisioningParameters"] = map[string]any{"ThingName": []int{1}} }), 400, "cores[0].provisioningParameters.ThingName"},
		{"an unknown generator", "POST", "/coreTasks", core(func(c map[string]any) { c["configFileGenerator"] = "NONE" }), 400, "cores[0].configFileGenerator"},
		{"half a body", "POST", "/coreTasks", world.YAML(`{"type":"Create"`), 415, ""},
		{"a template without version of a component", "POST", "/templates", map[string]any{"name": "press", "components": []any{map[string]any{"key": "a"}}}, 400, "components[0].version"},
		{"a deployment to a name that cannot be", "POST", "/deploymentTasks", map[string]any{"template": map[string]any{"name": "x"}, "targets": map[string]any{"thingNames": []string{"ok", "not ok"}}}, 400, "targets.thingNames[1]"},
		{"a deployment of no template", "POST", "/deploymentTasks", map[string]any{"template": map[string]any{"name": "nowhere"}, "targets": map[string]any{"thingNames": []string{"press-07"}}}, 404, ""},
		{"a recipe that is no YAML", "POST", "/components", world.YAML("a: [b\n c: }"), 400, ""},
		{"a recipe of many aliases", "POST", "/components", world.YAML(bomb), 400, "d[7][7][7][3]"},
		{"a recipe that is deep", "POST", "/components", world.YAML("a: " + strings.Repeat("[", 15_000)), 400, ""},
		{"a recipe without name", "POST", "/components", world.YAML(`{"RecipeFormatVersion":"2020-01-25","ComponentVersion":"1.0.0"}`), 400, "ComponentName"},
		{"a recipe with a version that is none", "POST", "/components", world.YAML(`{"RecipeFormatVersion":"2020-01-25","ComponentName":"a","ComponentVersion":"one","Manifests":[]}`), 400, "ComponentVersion"},
		{"an artifact that no recipe names", "PUT", "/components/aws.greengrass.Cli/versions/2.5.0/artifacts/x", []byte("x"), 404, ""},
		{"a provisioning template without resources", "PUT", "/provisioningTemplates/mine", map[string]any{"Parameters": map[string]any{}}, 400, "Resources"},
		{"an unknown type of core task", "POST", "/coreTasks", object{"type": "Burn", "cores": named("press-07")}, 400, "type"},
		{"a deletion without options", "POST", "/coreTasks", object{"type": "Delete", "cores": named("press-07")}, 400, "options"},
		{"an option that is text", "POST", "/coreTasks", object{"type": "Delete", "cores": named("press-07"), "options": object{"deprovisionCores": "false"}}, 400, "options.deprovisionCores"},
		{"a device twice", "POST", "/cores/press-07/deviceTasks", newDevices("gauge-1", "gauge-1"), 400, "devices[1].name"},
		{"a device without template", "POST", "/cores/press-07/deviceTasks", object{"type": "Create", "devices": named("gauge-1")}, 400, "devices[0].provisioningTemplate"},
		{"devices of no core", "POST", "/cores/nowhere/deviceTasks", newDevices("gauge-1"), 400, "coreName"},
		{"no device", "DELETE", "/devices/nowhere", nil, 404, ""},
		{"an option that is neither", "DELETE", "/devices/gauge-1?deprovision=maybe", nil, 400, "deprovision"},
		{"cancel of no task", "POST", "/deploymentTasks/nowhere/cancel", nil, 404, ""},
		{"retry of no task", "POST", "/deploymentTasks/nowhere/retry", nil, 404, ""},
		{"no template to delete", "DELETE", "/templates/nowhere", nil, 404, ""},
		{"a thing of no template", "POST", "/things", object{"provisioningTemplateId": "nowhere"}, 400, ""},
		{"a thing without its name", "POST", "/things", object{"provisioningTemplateId": "default"}, 400, "parameters.ThingName"},
		{"no thing", "DELETE", "/things/nowhere", nil, 404, ""},
		{"a status that is none", "PATCH", "/things/press-07/certificates", object{"certificateStatus": "BURNT"}, 400, "certificateStatus"},
		{"bulk things of nothing", "POST", "/bulkthings", object{"provisioningTemplateId": "default", "parameters": []any{}}, 400, "parameters"},
		{"a webhook by ftp", "POST", "/webhooks", object{"url": "ftp://example.com/"}, 400, "url"},
		{"a webhook to where clouds hand out credentials", "POST", "/webhooks", object{"url": "http://169.254.169.254/"}, 400, "url"},
		{"a webhook for an unknown event", "POST", "/webhooks", object{"url": "https://example.com/", "types": []string{"Core Exploded Event"}}, 400, "types[0]"},
		{"a webhook with a short secret", "POST", "/webhooks", object{"url": "https://example.com/", "secret": "short"}, 400, "secret"},
		{"a replay of no webhook", "POST", "/webhooks/nowhere/replay", object{"deadLetters": true}, 404, ""},
		{"a playbook that is no base64", "POST", "/patchTemplates", object{"name": "p", "patchType": "agentbased", "playbookFileContents": "%%%"}, 400, "playbookFileContents"},
		{"a patch type that is none", "POST", "/patchTemplates", object{"name": "p", "patchType": "magic", "playbookFileContents": "LS0t"}, 400, "patchType"},
		{"an activation for less than a minute", "POST", "/activations", object{"deviceId": "press-07", "expiresInSeconds": 1}, 400, "expiresInSeconds"},
		{"an archive that is none", "PUT", "/distributions/aws.greengrass.NucleusLite/2.6.0?format=zip", []byte("PK\x03\x04 and no more"), 400, ""},
	}
	send := func(t *testing.T, c wrong) {
		t.Helper()
		a, err := w.Do(t.Context(), c.method, c.path, c.body)
		require.NoError(t, err)
		assert.Equal(t, c.status, a.Status, "%s", a.Body)
		var refusal struct{ Error, Message, Field string }
		require.NoError(t, json.Unmarshal(a.Body, &refusal), "%s", a.Body)
		assert.NotEmpty(t, refusal.Message)
		assert.Equal(t, c.field, refusal.Field, refusal.Message)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { send(t, c) })
	}

	huge := func(t *testing.T, path, kind string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.API+path, &endless{4 << 30})
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+w.Token)
		req.Header.Set("Content-Type", kind)
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return // hung up on while it was still sending
		}
		defer func() { _ = res.Body.Close() }()
		assert.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
	}
	t.Run("memory stays flat", func(t *testing.T) {
		again := func() {
			for _, path := range []string{"/coreTasks", "/templates", "/deploymentTasks"} {
				huge(t, path, mediaType)
			}
			huge(t, "/components", "application/yaml")
			for _, c := range cases {
				send(t, c)
			}
		}
		again() // pools and heap have found their size then
		before := residentKB(t, w.PID())
		for range 5 {
			again()
		}
		after := residentKB(t, w.PID())
		assert.Less(t, after, before+96<<10, "kB before %d and after %d", before, after)
	})

	w.Stop(t)
	assert.Equal(t, records, withoutClock(w.Dump(t)), "the store changed")
	assert.Equal(t, slices.Sorted(maps.Keys(files)), slices.Sorted(maps.Keys(objects(t, w.Dir))), "the artifacts changed")
}

// withoutClock leaves out what a process writes on its own.
func withoutClock(records []world.Record) []world.Record {
	return slices.DeleteFunc(records, func(r world.Record) bool {
		return strings.HasPrefix(r.Key, root+"fleet/results-cursor") || strings.HasPrefix(r.Key, root+"fleet/status-cursor")
	})
}
