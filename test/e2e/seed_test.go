package e2e_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The requests of the README that the project was created from, as they stand
// there, with their placeholders, its missing commas added (spec cdf-services
// D-16). Authorization is added when they are sent.
const (
	seedCoreTask = `POST /coreTasks
Accept: application/vnd.aws-cdf-v1.0+json
Content-Type: application/vnd.aws-cdf-v1.0+json

{
  "coreVersion": "2.5.0",
  "type": "Create",
  "cores": [
    {
      "name": "<core-name>",
      "provisioningTemplate": "<provisioning-template>",
      "provisioningParameters": {
        "ThingName": "<core-name>"
      },
      "cdfProvisioningParameters": {
        "caId": "<ca-id>",
        "certInfo": {
          "country": "US"
        }
      },
      "configFileGenerator": "MANUAL_INSTALL"
    }
  ]
}`
	seedTemplate = `POST /templates
Accept: application/vnd.aws-cdf-v1.0+json
Content-Type: application/vnd.aws-cdf-v1.0+json

{
  "name": "<template-name>",
  "components": [
    {
      "key": "aws.greengrass.Cli",
      "version": "2.5.0"
    }
  ]
}`
	seedDeploymentTask = `POST /deploymentTasks
Accept: application/vnd.aws-cdf-v1.0+json
Content-Type: application/vnd.aws-cdf-v1.0+json

{
  "template": {
    "name": "<template-name>",
    "version" : "<template-version>"
  },
  "targets": {
    "thingNames": [
      "<core-name>"
    ]
  }
}`
)

// seedGet is the form of every look-up in the README.
func seedGet(path string) string {
	return "GET " + path + "\nAccept: " + mediaType + "\nContent-Type: " + mediaType
}

// TestSeedWalkthrough walks through the README. The core is powered on between
// the look at its artifacts and the deployment.
func TestSeedWalkthrough(t *testing.T) {
	s := seed(t)
	run := strings.ToLower(rand.Text()[:8])
	core, template := "seed-core-"+run, "seed-template-"+run
	_, ca := s.send(seedGet("/ca"), 200)
	caID, _ := ca["caId"].(string)

	header, _ := s.send(seedCoreTask, 202, "<core-name>", core, "<provisioning-template>", "default", "<ca-id>", caID)
	id := header.Get("x-taskid")
	assert.Regexp(t, taskID, id)
	assert.Equal(t, "/coreTasks/"+id, header.Get("Location"))

	task := s.task("/coreTasks/" + id)
	assert.Subset(t, task, object{"id": id, "coreVersion": "2.5.0", "type": "Create", "taskStatus": "Success"})
	assert.Regexp(t, date, task["createdAt"])
	assert.Regexp(t, date, task["updatedAt"])
	item := first(t, task["cores"])
	assert.Subset(t, item, object{"name": core, "taskStatus": "Success"})
	assert.Regexp(t, date, item["updatedAt"])
	_, alias := s.send(seedGet("/cores/"+core+"/coreTasks/"+id), 200)
	assert.Equal(t, task, alias, "the task under its core")
	_, list := s.send(seedGet("/coreTasks"), 200)
	assert.Equal(t, id, first(t, list["tasks"])["id"])

	_, c := s.send(seedGet("/cores/"+core), 200)
	artifacts, _ := c["artifacts"].(object)
	for kind, file := range map[string]string{"certs": "certs.zip", "config": "installerConfig.yml"} {
		a, _ := artifacts[kind].(object)
		require.NotNil(t, a, "core without artifact %s: %v", kind, c)
		assert.Regexp(t, core+"/"+core+"/"+file+"$", a["key"])
		assert.Regexp(t, date, a["createdAt"])
	}
	assert.Subset(t, c["device"], object{"installedComponents": []any{}, "effectiveDeployments": []any{}, "status": "UNKNOWN"})
	assert.Equal(t, object{
		"desired":  object{"name": "None", "version": 0.},
		"reported": object{"name": "None", "version": 0., "deploymentStatus": "None"},
	}, c["template"])

	header, _ = s.send(seedTemplate, 201, "<template-name>", template)
	assert.Equal(t, "/templates/"+template, header.Get("Location"))
	_, tpl := s.send(seedGet("/templates/"+template), 200)
	assert.Regexp(t, date, tpl["createdAt"])
	delete(tpl, "createdAt")
	assert.Equal(t, object{"name": template, "version": 1., "components": []any{object{"key": "aws.greengrass.Cli", "version": "2.5.0"}}, "updatedAt": nil}, tpl)

	s.powerOn(core)
	header, _ = s.send(seedDeploymentTask, 202, "<template-name>", template, "<template-version>", "1", "<core-name>", core)
	id = header.Get("x-taskid")
	assert.Regexp(t, taskID, id)
	assert.Equal(t, "/deploymentTasks/"+id, header.Get("Location"))
	task = s.task("/deploymentTasks/" + id)
	assert.Subset(t, task, object{
		"template": object{"name": template, "version": 1.}, "targets": object{"thingNames": []any{core}}, "batchesComplete": 1., "batchesTotal": 1.,
	})
	assert.Equal(t, core, first(t, task["deployments"])["coreName"])
	s.deployed(core, template, task)

	_, summary := s.send(seedGet("/fleet/summary"), 200)
	row, _ := summary["templates"].(object)[template].(object)
	assert.InDelta(t, 1, row["latestVersion"], 0)
	want := object{"desiredInUse": 1., "reportedInUse": 1., "lastDeploymentSuccess": 1., "lastDeploymentFailed": 0., "lastDeploymentInProgress": 0.}
	counts, _ := row["versions"].(object)["1"].(object)
	if s.world == nil { // nobody powered the core on
		require.Len(t, counts, len(want))
		return
	}
	assert.Equal(t, want, counts)
}
