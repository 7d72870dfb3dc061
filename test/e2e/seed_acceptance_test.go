package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// Names and versions of the original service's own integration tests.
const (
	acceptTemplate = "IntegrationTest"
	acceptCore1    = "IntegrationTestCore1" // powered on
	acceptCore2    = "IntegrationTestCore2" // not powered on
	acceptCore3    = "IntegrationTestCore3" // of an unknown provisioning template
	acceptGroup    = "cdf_ggv2_deploymentForTemplate_IntegrationTest_"
)

// TestAcceptanceOfTheOriginal goes through the scenarios of the original service's
// integration tests (spec cdf-services §9) that need no client device and no
// deletion. Each builds on those before it.
func TestAcceptanceOfTheOriginal(t *testing.T) {
	s := seed(t)
	if s.world == nil {
		t.Skip("needs a server of its own: GGFLEET_E2E_URL is set")
	}
	for _, scenario := range []struct {
		name string
		run  func(*testing.T, seedServer)
	}{
		{"A-02 create a template", createTemplate},
		{"A-04 create two cores", createTwoCores},
		{"A-05 creating a core with an invalid provisioning template", createWithInvalidTemplate},
		{"A-07 deploy the template to both cores", func(t *testing.T, step seedServer) {
			s.powerOn(acceptCore1) // until the whole test ends, not this step
			deployTemplate(t, step)
		}},
		{"A-10 update the template", updateTemplate},
		{"A-11 deploy the updated template", deployUpdated},
	} {
		require.True(t, t.Run(scenario.name, func(t *testing.T) { scenario.run(t, seedServer{t, s.url, s.token, s.world}) }))
	}
}

func createTemplate(t *testing.T, s seedServer) {
	missing, err := s.world.Do(t.Context(), http.MethodGet, "/templates/"+acceptTemplate, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, missing.Status)
	s.world.Call(t, http.MethodPost, "/templates", object{
		"name": acceptTemplate, "components": []any{object{"key": "aws.greengrass.Cli", "version": "2.4.0"}},
	}, nil)
	_, got := s.send(seedGet("/templates/"+acceptTemplate), http.StatusOK)
	assert.Subset(t, got, object{"name": acceptTemplate, "version": 1., "components": []any{object{"key": "aws.greengrass.Cli", "version": "2.4.0"}}})
	assert.Regexp(t, date, got["createdAt"])
}

// newCore is one core of a core task, with the installer configuration's
// generator if any.
func newCore(name, template, generator string) object {
	c := object{
		"name": name, "provisioningTemplate": template, "provisioningParameters": object{"ThingName": name},
		"cdfProvisioningParameters": object{"certInfo": object{"country": "US"}},
	}
	if generator != "" {
		c["configFileGenerator"] = generator
	}
	return c
}

func coreTask(t *testing.T, s seedServer, cores ...object) object {
	t.Helper()
	a := s.world.Call(t, http.MethodPost, "/coreTasks", object{"type": "Create", "coreVersion": "2.4.0", "cores": cores}, nil)
	require.Equal(t, http.StatusAccepted, a.Status)
	task := s.task(a.Header.Get("Location"))
	assert.Regexp(t, taskID, task["id"])
	assert.Regexp(t, date, task["createdAt"])
	assert.Regexp(t, date, task["updatedAt"])
	return task
}

func createTwoCores(t *testing.T, s seedServer) {
	task := coreTask(t, s, newCore(acceptCore1, "default", "MANUAL_INSTALL"), newCore(acceptCore2, "default", ""))
	assert.Equal(t, "Success", task["taskStatus"])
	items, _ := task["cores"].([]any)
	require.Len(t, items, 2)
	for i, name := range []string{acceptCore1, acceptCore2} {
		item, _ := items[i].(object)
		assert.Subset(t, item, object{"name": name, "taskStatus": "Success"})
		assert.Regexp(t, date, item["createdAt"])
		assert.Regexp(t, date, item["updatedAt"])
	}
	config := s.world.FetchCore(t, acceptCore1).Config
	assert.Contains(t, string(config), "thingName: "+acceptCore1)
	assert.Contains(t, string(config), "version: 2.4.0")

	var core struct {
		Artifacts map[string]struct{ Bucket, Key string }
	}
	s.world.Call(t, http.MethodGet, "/cores/"+acceptCore2, nil, &core)
	require.Contains(t, core.Artifacts, "certs")
	assert.NotContains(t, core.Artifacts, "config")
	_, err := s.world.Object(t.Context(), core.Artifacts["certs"].Bucket, "greengrass2/artifacts/"+acceptCore2+"/"+acceptCore2+"/installerConfig.yml")
	assert.ErrorContains(t, err, "key does not exist")
}

func createWithInvalidTemplate(t *testing.T, s seedServer) {
	task := coreTask(t, s, newCore(acceptCore3, "no-such-template", "MANUAL_INSTALL"), newCore(acceptCore2, "default", ""))
	assert.Equal(t, "Failure", task["taskStatus"])
	item := first(t, task["cores"])
	assert.Equal(t, "Failure", item["taskStatus"])
	assert.Contains(t, item["statusMessage"], "no-such-template")
	missing, err := s.world.Do(t.Context(), http.MethodGet, "/cores/"+acceptCore3, nil)
	require.NoError(t, err)
	assert.Equal(t, http.StatusNotFound, missing.Status, "%s", missing.Body)
}

func deploy(t *testing.T, s seedServer, template object, cores ...string) object {
	t.Helper()
	a := s.world.Call(t, http.MethodPost, "/deploymentTasks", object{"template": template, "targets": object{"thingNames": cores}}, nil)
	task := s.task(a.Header.Get("Location"))
	assert.Regexp(t, date, task["createdAt"])
	assert.Regexp(t, date, task["updatedAt"])
	var named []any
	for _, c := range cores {
		named = append(named, c)
	}
	assert.Equal(t, object{"thingNames": named}, task["targets"], "echoed in order")
	return task
}

func deployTemplate(t *testing.T, s seedServer) {
	task := deploy(t, s, object{"name": acceptTemplate}, acceptCore1, acceptCore2)
	assert.Equal(t, object{"name": acceptTemplate, "version": 1.}, task["template"], "resolved")
	assert.Equal(t, "Failure", task["taskStatus"])
	ended := map[any]any{}
	items, _ := task["deployments"].([]any)
	for _, i := range items {
		item, _ := i.(object)
		ended[item["coreName"]] = item["taskStatus"]
		assert.Regexp(t, date, item["createdAt"])
		assert.Regexp(t, date, item["updatedAt"])
	}
	assert.Equal(t, map[any]any{acceptCore1: "Success", acceptCore2: "Failure"}, ended)
	s.deployed(acceptCore1, acceptTemplate, object{"taskStatus": "Success"})
	assert.Equal(t, []string{acceptGroup + "1"}, groups(t, s.world))
	assert.Equal(t, "latest 1, desired 2, success 1, failed 1", counted(t, s, "1"))
}

func updateTemplate(t *testing.T, s seedServer) {
	a := s.world.Call(t, http.MethodPut, "/templates/"+acceptTemplate, object{"name": acceptTemplate, "components": []any{
		object{"key": "aws.greengrass.Cli", "version": "2.4.0"}, object{"key": "aws.greengrass.clientdevices.IPDetector", "version": "2.1.1"},
	}}, nil)
	assert.Equal(t, http.StatusNoContent, a.Status)
	assert.Equal(t, "2", a.Header.Get("x-version"))
	_, got := s.send(seedGet("/templates/"+acceptTemplate), http.StatusOK)
	assert.InDelta(t, 2, got["version"], 0)
	assert.Equal(t, []any{
		object{"key": "aws.greengrass.Cli", "version": "2.4.0"}, object{"key": "aws.greengrass.clientdevices.IPDetector", "version": "2.1.1"},
	}, got["components"])
	assert.Regexp(t, date, got["createdAt"])
}

func deployUpdated(t *testing.T, s seedServer) {
	task := deploy(t, s, object{"name": acceptTemplate, "version": "2"}, acceptCore1)
	assert.Equal(t, object{"name": acceptTemplate, "version": 2.}, task["template"])
	assert.Equal(t, "Success", task["taskStatus"])
	require.Len(t, task["deployments"], 1)
	assert.Equal(t, "Success", first(t, task["deployments"])["taskStatus"])
	assert.Equal(t, []string{acceptGroup + "2"}, groups(t, s.world), "out of one group and in the other")
	world.Eventually(t, func() string {
		if got := counted(t, s, "2"); got != "latest 2, desired 1, success 1, failed 0" {
			return got
		}
		return ""
	})
}

// groups are the groups of the template that core 1 is in, as the core itself sees them.
func groups(t *testing.T, w *world.World) []string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: w.TLS(w.FetchCore(t, acceptCore1).Certificate), DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+w.Device+"/greengrass/v2/coreDevices/"+url.PathEscape(acceptCore1)+"/thingGroups", nil)
	require.NoError(t, err)
	res, err := client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, "%s", b)
	var answer struct {
		ThingGroups []struct {
			Name string `json:"thingGroupName"`
		} `json:"thingGroups"`
	}
	require.NoError(t, json.Unmarshal(b, &answer))
	var names []string
	for _, g := range answer.ThingGroups {
		if strings.HasPrefix(g.Name, acceptGroup) { // its own name is among them
			names = append(names, g.Name)
		}
	}
	return names
}

// counted is the fleet summary's row of a version, in words.
func counted(t *testing.T, s seedServer, version string) string {
	t.Helper()
	var sum struct {
		Templates map[string]struct {
			LatestVersion int
			Versions      map[string]struct{ DesiredInUse, LastDeploymentSuccess, LastDeploymentFailed int }
		}
	}
	s.world.Call(t, http.MethodGet, "/fleet/summary", nil, &sum)
	row := sum.Templates[acceptTemplate]
	n := row.Versions[version]
	return fmt.Sprintf("latest %d, desired %d, success %d, failed %d", row.LatestVersion, n.DesiredInUse, n.LastDeploymentSuccess, n.LastDeploymentFailed)
}
