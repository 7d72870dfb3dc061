package fault_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

type object = map[string]any

// post sends a POST until it is answered; after a kill the same key must get the
// answer of a request that was carried out once.
func (s *story) post(path, key string, body any, status int) world.Answer {
	s.t.Helper()
	a := s.insist(http.MethodPost, path, key, body)
	require.Equal(s.t, status, a.Status, "POST %s: %s", path, a.Body)
	return a
}

// made is post for what has a name. It is made once as well, but who lost the
// answer to a kill is told that the name is taken.
func (s *story) made(path, key string, body any) {
	s.t.Helper()
	before := s.kills
	a := s.insist(http.MethodPost, path, key, body)
	if a.Status != http.StatusConflict || s.kills == before {
		require.Equal(s.t, http.StatusCreated, a.Status, "POST %s: %s", path, a.Body)
	}
}

// start posts a task and returns its path.
func (s *story) start(path, key string, body any) string {
	s.t.Helper()
	return s.post(path, key, body, http.StatusAccepted).Header.Get("Location")
}

// gone deletes what is at path. After a kill it may be gone already.
func (s *story) gone(path string) {
	s.t.Helper()
	before := s.kills
	a := s.insist(http.MethodDelete, path, "", nil)
	if a.Status == http.StatusNotFound && s.kills > before {
		return
	}
	require.Equal(s.t, http.StatusNoContent, a.Status, "DELETE %s: %s", path, a.Body)
}

// put sends a PUT or PATCH, which can be repeated.
func (s *story) put(method, path string, body any) {
	s.t.Helper()
	a := s.insist(method, path, "", body)
	require.Equal(s.t, 2, a.Status/100, "%s %s: %s", method, path, a.Body)
}

// done waits for a task's end and requires its status.
func (s *story) done(path, status string) world.Task {
	s.t.Helper()
	task := s.ended(path)
	require.Equal(s.t, status, task.Status, "%s: %+v", path, task)
	return task
}

// Who is who in the whole story. Of the cores not named here nothing special is told.
const (
	kept     = "core-0000" // runs, and loses two of its client devices
	released = "core-0003" // runs, and is deleted without its thing and its client devices
	alone    = "core-0004" // runs, and is deleted with its client devices
	ended    = "core-0005" // runs, and is deleted
	late     = "core-0006" // connects after the first deployment failed for it
	queued   = "core-0010" // is deleted while a deployment waits for it
)

const (
	allCores     = 14
	runFromStart = 6
	bulkThings   = 130 // more than one batch
	// happenings are the events of the whole story: 14 cores and 7 devices made, 4 cores
	// and 4 devices deleted, 20 cores named by deployment tasks, of which one was
	// deleted, and 15 that learnt how a deployment ended on a core.
	happenings = 65
)

// waiting are named by a task that is cancelled; which of them is deployed to
// before is not certain.
var waiting = []string{"core-0011", "core-0012", "core-0013"}

func newDevices(names ...string) object {
	var all []object
	for _, n := range names {
		all = append(all, object{
			"name": n, "provisioningTemplate": "default", "provisioningParameters": object{"ThingName": n},
			"cdfProvisioningParameters": object{"certInfo": object{"country": "DE"}},
		})
	}
	return object{"type": "Create", "devices": all}
}

func named(names ...string) []object {
	var all []object
	for _, n := range names {
		all = append(all, object{"name": n})
	}
	return all
}

func deployment(template string, version int, cores []string, more object) object {
	body := object{"template": object{"name": template, "version": version}, "targets": object{"thingNames": cores}}
	for k, v := range more {
		body[k] = v
	}
	return body
}

func rate(perMinute int) object {
	return object{"jobExecutionsRolloutConfig": object{"maximumPerMinute": perMinute}}
}

// all is everything that an operator does with a fleet, from the first core to
// the deletion of some.
func (s *story) all(names []string) {
	s.subscribe()
	s.prepare()
	s.create(names)
	s.fleet = runCores(s.t, s.w, names[:runFromStart])
	s.healthy(names[:runFromStart])
	for core, devices := range map[string][]string{
		kept: {"gauge-0-0", "gauge-0-1", "gauge-0-2"}, alone: {"gauge-4-0", "gauge-4-1"}, released: {"gauge-3-0", "gauge-3-1"},
	} {
		s.done(s.start("/cores/"+core+"/deviceTasks", "devices-of-"+core, newDevices(devices...)), "Success")
	}
	s.singles()
	s.rollouts(names[:runFromStart])
	s.patches()
	s.ends()
	s.heard()
}

// prepare makes what cores need.
func (s *story) prepare() {
	s.component("com.example.Tool", "1.0.0")
	s.component("com.example.Tool", "2.0.0")
	s.template("press", 1, "com.example.Tool")
	s.template("press", 2, "com.example.Tool")
	s.template("unused", 1, "com.example.Tool")
	s.gone("/templates/unused")
	s.put(http.MethodPut, "/provisioningTemplates/plain", object{
		"Parameters": object{"ThingName": object{"Type": "String"}},
		"Resources":  object{"thing": object{"Type": "AWS::IoT::Thing", "Properties": object{"ThingName": object{"Ref": "ThingName"}}}},
	})
	s.made("/tokens", "token", object{"name": "watcher", "role": "viewer"})
	s.post("/activations", "activation", object{"deviceId": alone}, http.StatusOK)
}

// singles are things of the provisioning service.
func (s *story) singles() {
	for _, name := range []string{"lamp-1", "lamp-2"} {
		s.post("/things", name, object{
			"provisioningTemplateId": "default", "parameters": object{"ThingName": name}, "cdfProvisioningParameters": object{"certInfo": object{"country": "DE"}},
		}, http.StatusCreated)
	}
	s.put(http.MethodPatch, "/things/lamp-2/certificates", object{"certificateStatus": "INACTIVE"})
	s.gone("/things/lamp-1")
	var bulk []object
	for i := range bulkThings {
		bulk = append(bulk, object{"ThingName": fmt.Sprintf("bulk-%02d", i)})
	}
	a := s.post("/bulkthings", "bulk", object{"provisioningTemplateId": "plain", "parameters": bulk}, http.StatusCreated)
	s.until(func() string {
		var b struct {
			Status       string
			SuccessCount int
		}
		s.get(a.Header.Get("Location"), &b)
		if b.Status == "Completed" && b.SuccessCount == len(bulk) {
			return ""
		}
		return fmt.Sprintf("bulk task: %+v", b)
	})
}

// rollouts deploys: with a pace, to a core that is not there yet, again to those
// that failed, anew to those that have it; one that is cancelled; one that waits.
func (s *story) rollouts(run []string) {
	first := s.deploy("press", 1, run, object{"iotJobConfig": rate(600)})

	failed := s.start("/deploymentTasks", "partly", deployment("press", 2, append(slices.Clone(run), late), nil))
	s.done(failed, "Failure")
	s.reported(failed, len(run))
	s.fleet.add(s.t, s.w, late)
	s.healthy([]string{late})
	again := s.post(failed+"/retry", "retry", nil, http.StatusAccepted).Header.Get("Location")
	s.done(again, "Success")
	s.reported(again, 1)

	s.deploy("press", 2, run[:2], object{"force": true})

	canceled := s.start("/deploymentTasks", "canceled", deployment("press", 1, waiting, object{"preStage": true, "iotJobConfig": rate(1)}))
	s.until(func() string {
		var task struct{ Rollout struct{ Notified int } }
		s.get(canceled, &task)
		if task.Rollout.Notified > 0 {
			return ""
		}
		return "no core was deployed to yet"
	})
	before := s.kills
	a := s.insist(http.MethodPost, canceled+"/cancel", "cancel", nil)
	if a.Status != http.StatusConflict || s.kills == before { // else its end was stored before the kill
		require.Equal(s.t, http.StatusAccepted, a.Status, "%s", a.Body)
	}
	s.done(canceled, "Failure")
	s.done(s.start("/deploymentTasks", "queued", deployment("press", 2, []string{queued}, object{"preStage": true})), "Success")
	s.gone(first)
}

// patches makes patches; nobody runs them.
func (s *story) patches() {
	book := base64.StdEncoding.EncodeToString([]byte("---\n- hosts: all\n  tasks: []\n"))
	s.made("/patchTemplates", "patch-template", object{"name": "fix", "patchType": "agentbased", "playbookName": "fix.yml", "playbookFileContents": book})
	s.put(http.MethodPatch, "/patchTemplates/fix", object{"description": "changed"})
	s.post("/patchTasks", "patch-task", object{"patches": []object{
		{"deviceId": kept, "patchTemplateName": "fix"}, {"deviceId": alone, "patchTemplateName": "fix"},
	}}, http.StatusAccepted)
}

// ends deletes devices and cores in every way.
func (s *story) ends() {
	s.fleet.stop()
	s.gone("/devices/gauge-0-0")
	s.done(s.start("/cores/"+kept+"/deviceTasks", "delete-devices", object{
		"type": "Delete", "devices": named("gauge-0-1"), "options": object{"deprovisionClientDevices": true},
	}), "Success")
	s.done(s.start("/coreTasks", "delete-all", object{
		"type": "Delete", "cores": named(ended, alone, queued),
		"options": object{"deprovisionCores": true, "deprovisionClientDevices": true},
	}), "Success")
	s.done(s.start("/coreTasks", "release", object{
		"type": "Delete", "cores": named(released), "options": object{"deprovisionCores": false, "deprovisionClientDevices": false},
	}), "Success")
}
