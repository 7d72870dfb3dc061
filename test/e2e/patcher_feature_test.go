package e2e_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

const itPing = "---\n- hosts: all\n  tasks:\n    - ansible.builtin.ping:\n"

const (
	itPatched = "IntegrationTestPatchedDevice" // in place of an EC2 instance: a core with an agent
	itInstall = "ggv2_ec2_amazonlinux2_template"
)

// patcher is device-patcher/*.feature.
type patcher struct {
	feature
	ran string // folder of what the last playbook was run with
}

func TestDevicePatcherFeature(t *testing.T) {
	f := patcher{ran: ansible(t), feature: newFeature(t, world.Options{})}
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
		scenario{"A-42 Patch a device", f.patchDevice},
		scenario{"A-43 Patch teardown", func(t *testing.T) { f.gone(t, "/patchTemplates/integration_test_template") }},
		scenario{"A-44 Patch enhanced setup", func(t *testing.T) {
			f.create(t, itInstall, object{})
			f.get(t, "/patchTemplates/"+itInstall).is(http.StatusOK)
		}},
		scenario{"A-45 Install Greengrass through a patch", f.install},
		scenario{"A-46 Patch enhanced teardown", func(t *testing.T) { f.gone(t, "/patchTemplates/"+itInstall) }},
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
		soon(t, func(c *assert.CollectT) {
			f.get(c, listing).is(http.StatusOK).has(map[string]any{
				"patches.#": 1, "patches.0.deviceId": device, "patches.0.patchId": uuidText, "patches.0.taskId": id,
				"patches.0.createdAt": like(date), "patches.0.updatedAt": like(date), "patches.0.patchType": "agentbased",
				"patches.0.extraVars.uniqueVar1": "uniqueVarVal1", "patches.0.extraVars.uniqueVar2": "uniqueVarVal2",
				"patches.0.patchStatus": "failed", "patches.0.statusMessage": "DEVICE_ACTIVATION_NOT_FOUND", "patches.0.associationId": "null",
			})
		})
	}
}

// ansible puts an ansible-playbook on the path that does nothing but keep what it
// was run with, in the folder that it returns.
func ansible(t *testing.T) (ran string) {
	t.Helper()
	bin, ran := t.TempDir(), t.TempDir()
	script := "#!/bin/sh\nset -e\ncp vars.json playbook.yml '" + ran + "'\necho done\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "ansible-playbook"), []byte(script), 0o700))
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	return ran
}

// vars are the variables that the last playbook saw, decoded as it does.
func (f patcher) vars(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(f.ran, "vars.json"))
	require.NoError(t, err)
	var vars map[string]string
	require.NoError(t, json.Unmarshal(raw, &vars))
	for name, encoded := range vars {
		text, err := base64.StdEncoding.DecodeString(encoded)
		require.NoError(t, err, "%s: %s", name, encoded)
		vars[name] = string(text)
	}
	return vars
}

// patch makes a patch for the device and waits until it succeeded, in the listing
// that path names.
func (f patcher) patch(t *testing.T, template string, vars object, path func(taskID string) string) {
	t.Helper()
	a := f.send(t, http.MethodPost, "/patchTasks", object{"patches": []any{object{
		"deviceId": itPatched, "patchTemplateName": template, "extraVars": vars,
	}}}).is(http.StatusAccepted)
	id := a.Header.Get("x-taskid")
	want := map[string]any{
		"patches.#": 1, "patches.0.deviceId": itPatched, "patches.0.patchStatus": "success", "patches.0.patchId": uuidText,
		"patches.0.taskId": id, "patches.0.associationId": uuidText, "patches.0.createdAt": like(date), "patches.0.updatedAt": like(date),
	}
	soon(t, func(c *assert.CollectT) { f.get(c, path(id)).is(http.StatusOK).has(want) })
}

func (f patcher) patchDevice(t *testing.T) {
	offerNucleus(t, f.world)
	createCore(t, f.world, itPatched, "default")
	enrol(f.t, f.world, itPatched, "--allow", "patches") // it runs until the feature ends
	f.patch(t, "integration_test_template", object{"uniqueVar1": "uniqueVarVal1", "uniqueVar2": "uniqueVarVal2"},
		func(id string) string { return "/patchTasks/" + id + "/patches" })
	assert.Equal(t, map[string]string{"uniqueVar1": "uniqueVarVal1", "uniqueVar2": "uniqueVarVal2", "commonVar": "commonVarVal"}, f.vars(t))
	playbook, err := os.ReadFile(filepath.Join(f.ran, "playbook.yml"))
	require.NoError(t, err)
	assert.Equal(t, itPing, string(playbook))
}

// install makes a patch whose variables are links to a core's artifacts, and gets
// them as the installing playbook would.
func (f patcher) install(t *testing.T) {
	core := f.get(t, "/cores/"+itPatched).is(http.StatusOK)
	link := func(artifact string) string {
		return "${aws:s3:presign:https://" + core.text("artifacts."+artifact+".bucket") + "/" + core.text("artifacts."+artifact+".key") + "?expiresIn=604800}"
	}
	for _, p := range f.patches(t) { // so that the listing has but the one
		f.send(t, http.MethodDelete, "/patches/"+p, nil).is(http.StatusNoContent)
	}
	f.patch(t, itInstall, object{"iot_device_cred_zip_url": link("certs"), "iot_device_config_url": link("config")},
		func(string) string { return "/devices/" + itPatched + "/patches" })
	vars := f.vars(t)
	for name, want := range map[string]string{"iot_device_cred_zip_url": "certs/cert.pem", "iot_device_config_url": "thingName: " + itPatched} {
		content := f.download(t, vars[name])
		assert.Contains(t, content, want, name)
	}
}

// patches are the ids of the device's patches.
func (f patcher) patches(t *testing.T) (ids []string) {
	t.Helper()
	var page struct{ Patches []struct{ PatchID string } }
	f.get(t, "/devices/"+itPatched+"/patches").is(http.StatusOK).into(&page)
	for _, p := range page.Patches {
		ids = append(ids, p.PatchID)
	}
	return ids
}

// download follows a link as a device does, which trusts our CA.
func (f patcher) download(t *testing.T, link string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: f.world.Roots}}}
	defer client.CloseIdleConnections()
	res, err := client.Get(link)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, "%s", b)
	return string(b)
}
