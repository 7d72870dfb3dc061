package fleetapi_test

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each list with the name of its items, of the parameter that begins a page and
// of the key that says where the next begins (spec cdf-services §1.4).
func TestEveryListIsReadByPagesOfOne(t *testing.T) {
	h := populated(t)
	task := func(path, body string) string {
		a := h.call(t, "POST", path, body)
		require.Equal(t, 202, a.status, a.body)
		return a.header.Get("Location")
	}
	for i := range 3 {
		require.Equal(t, 201, h.call(t, "POST", "/templates", fmt.Sprintf(`{"name":"t%d","components":[{"key":"a","version":"1.0.0"}]}`, i)).status)
		require.Equal(t, 204, h.call(t, "PUT", "/templates/t0", `{"components":[{"key":"a","version":"1.0.0"}]}`).status)
		require.Equal(t, 201, h.call(t, "POST", "/patchTemplates", fmt.Sprintf(`{"name":"p%d","patchType":"agentbased","playbookFileContents":"LS0t"}`, i)).status)
	}
	const three = `[{"name":"a","provisioningTemplate":"p"},{"name":"b","provisioningTemplate":"p"},{"name":"c","provisioningTemplate":"p"}]`
	var cores, devices, deployed, patches string
	for range 3 {
		cores = task("/coreTasks", `{"type":"Create","coreVersion":"2.12.0","cores":`+three+`}`)
		devices = task("/cores/press-07/deviceTasks", `{"type":"Create","devices":`+three+`}`)
		deployed = task("/deploymentTasks", `{"template":{"name":"t0"},"targets":{"thingNames":["a","b","c"]}}`)
		patches = task("/patchTasks", `{"patches":[{"deviceId":"a","patchTemplateName":"p0"},{"deviceId":"a","patchTemplateName":"p1"},{"deviceId":"a","patchTemplateName":"p2"}]}`)
	}
	for _, c := range []struct {
		path, items, start, key string
	}{
		{"/templates", "templates", "exclusiveStartName", "name"},
		{"/templates/t0/versions", "templates", "exclusiveStartVersion", "version"},
		{"/coreTasks", "tasks", "exclusiveStartTaskId", "taskId"},
		{cores, "cores", "exclusiveStartThingName", "thingName"},
		{"/cores", "cores", "exclusiveStartThingName", "thingName"},
		{"/cores/a/deployments", "deployments", "exclusiveStartTaskId", "taskId"},
		{"/cores/press-07/devices", "devices", "exclusiveStartThingName", "thingName"},
		{"/cores/press-07/deviceTasks", "tasks", "exclusiveStartTaskId", "taskId"},
		{"/devices", "devices", "exclusiveStartThingName", "thingName"},
		{"/deviceTasks", "tasks", "exclusiveStartTaskId", "taskId"},
		{devices, "devices", "exclusiveStartThingName", "thingName"},
		{"/deploymentTasks", "deploymentTasks", "exclusiveStartTaskId", "taskId"},
		{deployed, "deployments", "exclusiveStartThingName", "thingName"},
		{deployed + "/cores", "cores", "exclusiveStartThingName", "thingName"},
		{deployed + "/deployments", "cores", "exclusiveStartThingName", "thingName"},
		{"/patchTemplates", "templates", "exclusiveStartName", "name"},
		{patches + "/patches", "patches", "exclusiveStartToken", "nextToken"},
		{"/devices/a/patches", "patches", "exclusiveStartToken", "nextToken"},
	} {
		t.Run(c.path, func(t *testing.T) {
			whole := h.call(t, "GET", c.path, "").json(t)
			require.GreaterOrEqual(t, len(whole[c.items].([]any)), 3)
			var paged []any
			for query := "?count=1"; query != ""; {
				page := h.call(t, "GET", c.path+query, "").json(t)
				require.Len(t, page[c.items], 1, query)
				paged = append(paged, page[c.items].([]any)...)
				pagination := page["pagination"].(map[string]any)
				assert.EqualValues(t, 1, pagination["count"], "as a number")
				query = ""
				if last, more := pagination["lastEvaluated"]; more {
					require.Len(t, last, 1)
					query = "?count=1&" + c.start + "=" + url.QueryEscape(fmt.Sprint(last.(map[string]any)[c.key]))
				}
				require.LessOrEqual(t, len(paged), 20, "it comes to an end")
			}
			assert.Equal(t, whole[c.items], paged)
		})
	}
}

func TestW34ATaskSaysHowManyItemsItHas(t *testing.T) {
	h := start(t)
	const three = `[{"name":"a","provisioningTemplate":"p"},{"name":"b","provisioningTemplate":"p"},{"name":"c","provisioningTemplate":"p"}]`
	a := h.call(t, "POST", "/coreTasks", `{"type":"Create","coreVersion":"2.12.0","cores":`+three+`}`)
	for _, query := range []string{"", "?count=2", "?exclusiveStartThingName=a"} {
		task := h.call(t, "GET", a.header.Get("Location")+query, "").json(t)
		assert.EqualValues(t, 3, task["itemsTotal"], "however many are shown")
		assert.EqualValues(t, 3, task["itemsSucceeded"])
		assert.EqualValues(t, 0, task["itemsFailed"])
	}
	assert.EqualValues(t, 3, h.call(t, "GET", "/coreTasks", "").json(t)["tasks"].([]any)[0].(map[string]any)["itemsTotal"])
	assert.NotContains(t, h.call(t, "GET", a.header.Get("Location"), "").json(t), "pagination", "without count it is the task of the original")
}

func TestACoreMayHaveAnOverlayAndBeClaimed(t *testing.T) {
	h := start(t)
	a := h.call(t, "POST", "/coreTasks", `{"type":"Create","coreVersion":"2.12.0","cores":[{"name":"a","provisioningTemplate":"p","configFileGenerator":"FLEET_PROVISIONING","claim":true,"configOverlay":{"system":{"rootpath":"/gg"}}}]}`)
	require.Equal(t, 202, a.status, a.body)
	c := h.LastNewCoreTask.Cores[0]
	assert.True(t, c.Claim)
	assert.JSONEq(t, `{"system":{"rootpath":"/gg"}}`, string(c.ConfigOverlay))
}

func TestW35AnEmptyListIsThere(t *testing.T) {
	h := start(t)
	for path, items := range map[string]string{
		"/templates": "templates", "/templates/none/versions": "templates", "/coreTasks": "tasks", "/cores": "cores",
		"/cores/none/deployments": "deployments", "/cores/none/devices": "devices", "/cores/none/deviceTasks": "tasks",
		"/devices": "devices", "/deviceTasks": "tasks", "/deploymentTasks": "deploymentTasks", "/deploymentTasks/none/cores": "cores",
		"/patchTemplates": "templates", "/devices/none/patches": "patches", "/webhooks": "webhooks", "/events": "events",
	} {
		assert.Equal(t, []any{}, h.call(t, "GET", path, "").json(t)[items], path)
	}
}

func TestW89EveryMemberOfAThingIsFilledOrAbsent(t *testing.T) {
	h := start(t)
	made := h.call(t, "POST", "/things", `{"provisioningTemplateId":"default","parameters":{"ThingName":"gauge-1"}}`)
	require.Equal(t, 201, made.status, made.body)
	thing := h.call(t, "GET", made.header.Get("Location"), "")
	require.Equal(t, 200, thing.status, thing.body)
	for _, body := range []map[string]any{made.json(t), thing.json(t)} {
		assert.NotContains(t, body, "publicKey", "it is never made here")
		for name, value := range body {
			assert.NotZero(t, value, name)
		}
	}
}
