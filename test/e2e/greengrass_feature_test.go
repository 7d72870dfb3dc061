package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// Names and versions of the original's own tests.
const (
	itTemplate = "IntegrationTest"
	itCore1    = "IntegrationTestCore1" // powered on
	itCore2    = "IntegrationTestCore2" // never powered on
	itCore3    = "IntegrationTestCore3" // of an unknown provisioning template
	itDevice1  = "IntegrationTestClientDevice1"
	itDevice2  = "IntegrationTestClientDevice2"
	itGroup    = "cdf_ggv2_deploymentForTemplate_IntegrationTest_"
	itProvide  = "Greengrass2IntegrationTestProvisioningTemplate"
)

// itProvisioning is their provisioning template. It names the same policy twice.
var itProvisioning = object{
	"Parameters": object{"ThingName": object{"Type": "String"}, "CertificatePem": object{"Type": "String"}, "CaCertificatePem": object{"Type": "String"}},
	"Resources": object{
		"thing": object{"Type": "AWS::IoT::Thing", "Properties": object{"ThingName": object{"Ref": "ThingName"}}},
		"certificate": object{
			"Type":             "AWS::IoT::Certificate",
			"Properties":       object{"CertificatePem": object{"Ref": "CertificatePem"}, "CACertificatePem": object{"Ref": "CaCertificatePem"}, "Status": "ACTIVE"},
			"OverrideSettings": object{"Status": "REPLACE"},
		},
		"policy": object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": "CDFGreengrass2CorePolicy"}},
	},
	"CDF": object{"createDeviceCertificate": true, "attachAdditionalPolicies": []any{object{"name": "CDFGreengrass2CorePolicy"}}},
}

// greengrass is greengrass2-provisioning/provisioning.feature.
type greengrass struct{ feature }

func TestGreengrassProvisioningFeature(t *testing.T) {
	f := greengrass{newFeature(t, world.Options{})}
	offerNucleus(t, f.world)
	f.send(t, http.MethodPut, "/provisioningTemplates/"+itProvide, itProvisioning).is(http.StatusNoContent)
	for _, round := range []string{"on a new server", "again, over what the first left"} {
		t.Run(round, func(t *testing.T) {
			f.t = t
			f.play(f.scenarios()...)
		})
	}
}

func (f greengrass) scenarios() []scenario {
	return []scenario{
		{"A-01 Setup", func(t *testing.T) {
			f.cleanUp(t)
			f.missing(t, "/templates/"+itTemplate)
			f.coresGone(t, itCore1, itCore2)
		}},
		{"A-02 Create a template", f.createTemplate},
		{"A-03 Create a client device with an invalid core", func(t *testing.T) {
			f.missing(t, "/devices/"+itDevice1)
			f.send(t, http.MethodPost, "/cores/"+itCore1+"/deviceTasks", f.deviceTask(itDevice1)).is(http.StatusBadRequest)
			f.missing(t, "/devices/"+itDevice1)
		}},
		{"A-04 Create two cores", f.createCores},
		{"A-05 Create a core with an invalid provisioning template", f.createInvalid},
		{"A-06 Provision a core", f.provision},
		{"A-07 Deploy the template to the cores", f.deployTemplate},
		{"A-08 Create two client devices", f.createDevices},
		{"A-09 Delete a client device", func(t *testing.T) {
			f.send(t, http.MethodDelete, "/devices/"+itDevice1, nil).is(http.StatusNoContent)
			f.get(t, "/cores/"+itCore1+"/devices").is(http.StatusOK).has(map[string]any{"devices.#": 1, "devices.0.name": itDevice2})
		}},
		{"A-10 Update the template", f.updateTemplate},
		{"A-11 Deploy the updated template", f.deployUpdated},
		{"A-12 Delete the core", f.deleteCore},
		{"A-13 Teardown", func(t *testing.T) {
			f.cleanUp(t)
			soon(t, func(c *assert.CollectT) { f.missing(c, "/templates/"+itTemplate) })
			f.coresGone(t, itCore1, itCore2)
		}},
	}
}

// cleanUp removes what the scenarios make, whether it is there or not.
func (f greengrass) cleanUp(t *testing.T) {
	t.Helper()
	f.send(t, http.MethodDelete, "/templates/"+itTemplate, nil)
	for _, d := range []string{itDevice1, itDevice2} {
		f.send(t, http.MethodDelete, "/devices/"+d, nil)
	}
	var cores []any
	for _, c := range []string{itCore1, itCore2, itCore3} {
		cores = append(cores, object{"name": c, "provisioningTemplate": "made-up"})
	}
	f.send(t, http.MethodPost, "/coreTasks", object{
		"type": "Delete", "coreVersion": "2.4.0", "cores": cores, "options": object{"deprovisionCores": true, "deprovisionClientDevices": true},
	}).is(http.StatusAccepted)
}

func (f greengrass) coresGone(t *testing.T, cores ...string) {
	t.Helper()
	soon(t, func(c *assert.CollectT) {
		for _, core := range cores {
			f.missing(c, "/cores/"+core)
		}
	})
}

func component(name, version string) object { return object{"key": name, "version": version} }

func (f greengrass) createTemplate(t *testing.T) {
	f.send(t, http.MethodPost, "/templates", object{"name": itTemplate, "components": []any{component("aws.greengrass.Cli", "2.4.0")}}).is(http.StatusCreated)
	f.get(t, "/templates/"+itTemplate).is(http.StatusOK).has(map[string]any{
		"name": itTemplate, "version": 1, "createdAt": like(date),
		"components.#": 1, "components.0.key": "aws.greengrass.Cli", "components.0.version": "2.4.0",
	})
}

// core is one core of a core task; generator may be empty.
func (f greengrass) core(t *testing.T, name, thing, template, generator string) object {
	t.Helper()
	c := object{
		"name": name, "provisioningTemplate": template, "provisioningParameters": object{"ThingName": thing},
		"cdfProvisioningParameters": object{"caId": f.get(t, "/ca").is(http.StatusOK).text("caId"), "certInfo": object{"country": "US"}},
	}
	if generator != "" {
		c["configFileGenerator"] = generator
	}
	return c
}

func (f greengrass) createCores(t *testing.T) {
	task := f.task(t, f.send(t, http.MethodPost, "/coreTasks", object{"type": "Create", "coreVersion": "2.4.0", "cores": []any{
		f.core(t, itCore1, itCore1, itProvide, "MANUAL_INSTALL"), f.core(t, itCore2, itCore2, itProvide, ""),
	}})).has(map[string]any{"taskStatus": "Success"})
	for _, name := range []string{itCore1, itCore2} {
		item := task.item("cores", "name", name)
		task.has(map[string]any{item + "taskStatus": "Success", item + "createdAt": like(date), item + "updatedAt": like(date)})
	}
	made := f.get(t, "/cores/"+itCore1).is(http.StatusOK)
	bucket, key := made.text("artifacts.config.bucket"), made.text("artifacts.config.key")
	config, err := f.world.Object(t.Context(), bucket, key)
	require.NoError(t, err)
	assert.Contains(t, string(config), "thingName: "+itCore1)
	assert.Contains(t, string(config), "version: 2.4.0")
	f.get(t, "/cores/"+itCore2).is(http.StatusOK).lacks("artifacts.config")
	_, err = f.world.Object(t.Context(), bucket, strings.ReplaceAll(key, itCore1, itCore2))
	noSuchKey, _ := errors.AsType[minio.ErrorResponse](err)
	assert.Equal(t, "NoSuchKey", noSuchKey.Code, "%v", err)
}

func (f greengrass) createInvalid(t *testing.T) {
	f.task(t, f.send(t, http.MethodPost, "/coreTasks", object{"type": "Create", "coreVersion": "2.4.0", "cores": []any{
		f.core(t, itCore3, "another", "nosuchtemplate", "MANUAL_INSTALL"), f.core(t, itCore2, itCore2, itProvide, ""),
	}})).has(map[string]any{"taskStatus": "Failure"})
}

// provision installs the core: in place of their EC2 instance, an agent with the
// simulated nucleus.
func (f greengrass) provision(t *testing.T) {
	core := f.get(t, "/cores/"+itCore1).is(http.StatusOK).has(map[string]any{"device.status": "UNKNOWN"})
	for _, artifact := range []string{"certs", "config"} {
		link := f.world.Presign(t, core.text("artifacts."+artifact+".bucket"), core.text("artifacts."+artifact+".key"), 5*time.Minute)
		res, err := f.http.Get(link)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode, "an installer gets %s by its link", artifact)
	}
	enrol(f.t, f.world, itCore1) // it runs until the feature ends
	soon(t, func(c *assert.CollectT) {
		f.get(c, "/cores/"+itCore1).is(http.StatusOK).has(map[string]any{"device.status": "HEALTHY"})
	})
}

func (f greengrass) deploy(t *testing.T, template object, cores ...string) reply {
	t.Helper()
	task := f.task(t, f.send(t, http.MethodPost, "/deploymentTasks", object{"template": template, "targets": object{"thingNames": cores}}))
	task.has(map[string]any{"targets.thingNames.#": len(cores), "deployments.#": len(cores)})
	for i, core := range cores {
		item := task.item("deployments", "coreName", core)
		task.has(map[string]any{fmt.Sprintf("targets.thingNames.%d", i): core, item + "createdAt": like(date), item + "updatedAt": like(date)})
	}
	return task
}

// groups are the template's groups that the core's thing is in.
func (f greengrass) groups(t require.TestingT, core string) (names []string) {
	var thing struct {
		Groups []struct{ GroupName string }
	}
	f.get(t, "/things/"+core).is(http.StatusOK).into(&thing)
	for _, g := range thing.Groups {
		if strings.HasPrefix(g.GroupName, itGroup) {
			names = append(names, g.GroupName)
		}
	}
	return names
}

// summary is what the fleet summary must say of a version of the template.
func (f greengrass) summary(t require.TestingT, version string, latest, desired, success, failed int) {
	row := "templates." + itTemplate + ".versions." + version + "."
	f.get(t, "/fleet/summary").is(http.StatusOK).has(map[string]any{
		"templates." + itTemplate + ".latestVersion": latest,
		row + "desiredInUse":                         desired, row + "lastDeploymentSuccess": success, row + "lastDeploymentFailed": failed,
	})
}

func (f greengrass) deployTemplate(t *testing.T) {
	task := f.deploy(t, object{"name": itTemplate}, itCore1, itCore2)
	task.has(map[string]any{
		"taskStatus": "Failure", "template.name": itTemplate, "template.version": 1,
		task.item("deployments", "coreName", itCore1) + "taskStatus": "Success",
		task.item("deployments", "coreName", itCore2) + "taskStatus": "Failure",
	})
	soon(t, func(c *assert.CollectT) {
		f.get(c, "/cores/"+itCore1).is(http.StatusOK).has(map[string]any{"template.reported.deploymentStatus": "Success"})
		assert.Equal(c, []string{itGroup + "1"}, f.groups(c, itCore1))
		f.summary(c, "1", 1, 2, 1, 1)
	})
}

// deviceTask makes client devices of core 1.
func (f greengrass) deviceTask(devices ...string) object {
	var list []any
	for _, d := range devices {
		list = append(list, object{
			"name": d, "provisioningTemplate": itProvide, "provisioningParameters": object{"ThingName": d},
			"cdfProvisioningParameters": object{"certInfo": object{"country": "US"}},
		})
	}
	return object{"coreName": itCore1, "type": "Create", "devices": list}
}

func (f greengrass) createDevices(t *testing.T) {
	f.task(t, f.send(t, http.MethodPost, "/cores/"+itCore1+"/deviceTasks", f.deviceTask(itDevice1, itDevice2))).
		has(map[string]any{"taskStatus": "Success"})
	associated := f.get(t, "/cores/"+itCore1+"/devices").is(http.StatusOK).has(map[string]any{"devices.#": 2})
	for _, d := range []string{itDevice1, itDevice2} {
		f.get(t, "/devices/"+d).is(http.StatusOK).has(map[string]any{"name": d, "coreName": itCore1})
		associated.item("devices", "name", d)
	}
}

func (f greengrass) updateTemplate(t *testing.T) {
	f.send(t, http.MethodPut, "/templates/"+itTemplate, object{"name": itTemplate, "components": []any{
		component("aws.greengrass.Cli", "2.4.0"), component("aws.greengrass.clientdevices.IPDetector", "2.1.1"),
	}}).is(http.StatusNoContent)
	got := f.get(t, "/templates/"+itTemplate).is(http.StatusOK).has(map[string]any{"version": 2, "components.#": 2, "createdAt": like(date)})
	got.has(map[string]any{got.item("components", "key", "aws.greengrass.clientdevices.IPDetector") + "version": "2.1.1"})
}

func (f greengrass) deployUpdated(t *testing.T) {
	f.deploy(t, object{"name": itTemplate, "version": "2"}, itCore1).has(map[string]any{
		"taskStatus": "Success", "template.version": 2, "deployments.0.taskStatus": "Success",
	})
	assert.Equal(t, []string{itGroup + "2"}, f.groups(t, itCore1), "out of one group and in the other")
	soon(t, func(c *assert.CollectT) { f.summary(c, "2", 2, 1, 1, 0) })
}

func (f greengrass) deleteCore(t *testing.T) {
	f.send(t, http.MethodPost, "/coreTasks", object{
		"type": "Delete", "coreVersion": "2.4.0", "cores": []any{object{"name": itCore1, "provisioningTemplate": itProvide}},
		"options": object{"deprovisionCores": true, "deprovisionClientDevices": true},
	}).is(http.StatusAccepted)
	soon(t, func(c *assert.CollectT) {
		for _, path := range []string{"/cores/" + itCore1, "/devices/" + itDevice2, "/things/" + itCore1, "/things/" + itDevice2} {
			f.missing(c, path)
		}
	})
}
