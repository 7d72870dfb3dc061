package e2e_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

const itPing = "---\n- hosts: all\n  tasks:\n    - ansible.builtin.ping:\n"

// patcher is device-patcher/*.feature, as far as it needs no EC2 instance.
type patcher struct{ feature }

func TestDevicePatcherFeature(t *testing.T) {
	f := patcher{newFeature(t, world.Options{})}
	const template, other = "/patchTemplates/test-patch-template", "/patchTemplates/test_patch_template"
	f.play(
		scenario{"A-30 Activation life cycle", f.activation},
		scenario{"A-31 Template setup", func(t *testing.T) { f.gone(t, template) }},
		scenario{"A-32 Create a template", func(t *testing.T) {
			f.create(t, "test-patch-template", object{"description": "test template", "extraVars": object{"uniqueVar1": "uniqueVarVal1", "uniqueVar2": "uniqueVarVal2"}})
			f.get(t, template).is(http.StatusOK).has(map[string]any{
				"name": "test-patch-template", "description": "test template", "patchType": "agentbased", "versionNo": 1, "enabled": true,
				"extraVars.uniqueVar1": "uniqueVarVal1", "extraVars.uniqueVar2": "uniqueVarVal2", "createdAt": like(date),
			})
		}},
		scenario{"A-33 Update a template", func(t *testing.T) {
			f.send(t, http.MethodPatch, template, object{"description": "updated", "extraVars": object{"uniqueVar1": "new1", "uniqueVar2": "new2"}}).is(http.StatusNoContent)
			f.get(t, template).is(http.StatusOK).has(map[string]any{
				"description": "updated", "versionNo": 2, "extraVars.uniqueVar1": "new1", "extraVars.uniqueVar2": "new2",
				"patchType": "agentbased", "createdAt": like(date), "updatedAt": like(date),
			})
		}},
		scenario{"A-34 Update a template with a new file", func(t *testing.T) {
			f.send(t, http.MethodPatch, template, object{"playbookFileContents": base64.StdEncoding.EncodeToString([]byte(itPing + "\n"))}).is(http.StatusNoContent)
			f.get(t, template).is(http.StatusOK).has(map[string]any{"versionNo": 3, "description": "updated"})
		}},
		scenario{"A-35 Delete a template", func(t *testing.T) {
			f.send(t, http.MethodDelete, template, nil).is(http.StatusNoContent)
			f.missing(t, template)
		}},
		scenario{"A-36 Get a template that is not there", func(t *testing.T) { f.missing(t, template) }},
		scenario{"A-37 Template teardown", func(t *testing.T) { f.gone(t, other) }},
		scenario{"A-40 Patch setup", func(t *testing.T) {
			f.create(t, "integration_test_template", object{"extraVars": object{"commonVar": "commonVarVal"}})
			f.get(t, "/patchTemplates/integration_test_template").is(http.StatusOK)
		}},
		scenario{"A-41 Patch a device that was never activated", f.patchUnknown},
		scenario{"A-43 Patch teardown", func(t *testing.T) { f.gone(t, "/patchTemplates/integration_test_template") }},
	)
}

// gone deletes what is at path, if there is anything.
func (f patcher) gone(t *testing.T, path string) {
	t.Helper()
	f.send(t, http.MethodDelete, path, nil)
	f.missing(t, path)
}

func (f patcher) create(t *testing.T, name string, more object) {
	t.Helper()
	body := object{
		"name": name, "patchType": "agentbased", "playbookName": "ping.yml",
		"playbookFileContents": base64.StdEncoding.EncodeToString([]byte(itPing)),
	}
	for k, v := range more {
		body[k] = v
	}
	a := f.send(t, http.MethodPost, "/patchTemplates", body)
	assert.Contains(t, []int{http.StatusCreated, http.StatusNoContent}, a.Status, "%s", a.Body)
}

func (f patcher) activation(t *testing.T) {
	f.missing(t, "/activations/abc-123")
	made := f.send(t, http.MethodPost, "/activations", object{"deviceId": "edge_device_01"}).is(http.StatusOK).has(map[string]any{
		"activationId": uuidText, "activationCode": like(`^[A-Za-z0-9 _@./#&+-]{20}$`), "activationRegion": like(`^.{9,}$`),
	})
	path := "/activations/" + made.text("activationId")
	f.get(t, path).is(http.StatusOK).has(map[string]any{"deviceId": "edge_device_01", "createdAt": like(date)})
	f.send(t, http.MethodDelete, path, nil).is(http.StatusNoContent)
	f.missing(t, path)
}

func (f patcher) patchUnknown(t *testing.T) {
	const device = "edge_device_never_activated"
	a := f.send(t, http.MethodPost, "/patchTasks", object{"patches": []any{object{
		"deviceId": device, "patchTemplateName": "integration_test_template", "extraVars": object{"uniqueVar1": "uniqueVarVal1", "uniqueVar2": "uniqueVarVal2"},
	}}}).is(http.StatusAccepted)
	id, path := a.Header.Get("x-taskid"), a.Header.Get("Location")
	assert.Equal(t, "/patchTasks/"+id, path)
	f.get(t, path).is(http.StatusOK).has(map[string]any{"taskId": uuidText, "createdAt": like(date)})
	for _, listing := range []string{path + "/patches", "/devices/" + url.PathEscape(device) + "/patches"} {
		within(t, 3*time.Second, func(c *assert.CollectT) {
			f.get(c, listing).is(http.StatusOK).has(map[string]any{
				"patches.#": 1, "patches.0.deviceId": device, "patches.0.patchId": uuidText, "patches.0.taskId": id,
				"patches.0.createdAt": like(date), "patches.0.updatedAt": like(date), "patches.0.patchType": "agentbased",
				"patches.0.extraVars.uniqueVar1": "uniqueVarVal1", "patches.0.extraVars.uniqueVar2": "uniqueVarVal2",
				"patches.0.patchStatus": "failed", "patches.0.statusMessage": "DEVICE_ACTIVATION_NOT_FOUND", "patches.0.associationId": "null",
			})
		})
	}
}
