package e2e_test

import (
	"net/http"
	"testing"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// TestWeaknessesThatOnlyShowOutside: weaknesses of the original (spec
// cdf-services §10) that are seen at a running server only.
func TestWeaknessesThatOnlyShowOutside(t *testing.T) {
	const core, template = "press-07", "press-line"
	f := newFeature(t, world.Options{Flags: []string{"--base-path", "/fleet/v2"}})
	createCore(t, f.world, core, "default")
	f.play(
		scenario{"W-04: the base path is removed at the start, at a whole segment", func(t *testing.T) {
			f.get(t, "/fleet/v2/cores/"+core).is(http.StatusOK).has(map[string]any{"name": core})
			f.missing(t, "/fleet/v2cores/"+core)
			f.missing(t, "/cores/fleet/v2/"+core)
		}},
		scenario{"W-41: no thing group is made for a core", func(t *testing.T) {
			f.get(t, "/things/"+core).is(http.StatusOK).has(map[string]any{"thingName": core, "groups.#": 0})
		}},
		scenario{"W-28: a deployment of a core names its task and its template", func(t *testing.T) {
			seedServer{f.t, f.world.API, f.world.Token, f.world}.powerOn(core)
			version := f.world.PutTemplate(t, template, world.TemplateComponent{Name: "aws.greengrass.Cli", Version: "2.4.0"})
			task := f.world.WaitTask(t, f.world.Deploy(t, template, version, core))
			f.get(t, "/cores/"+core+"/deployments").is(http.StatusOK).has(map[string]any{
				"deployments.#": 1, "deployments.0.taskId": task.ID, "deployments.0.template.name": template, "deployments.0.template.version": version,
			})
		}},
		scenario{"W-102: a device id comes back as it was given", func(t *testing.T) {
			const id = "Gerät 1/ä@b:c=d+e"
			made := f.send(t, http.MethodPost, "/activations", object{"deviceId": id}).is(http.StatusOK)
			f.get(t, "/activations/"+made.text("activationId")).is(http.StatusOK).has(map[string]any{"deviceId": id})
		}},
	)
}
