package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// shown is GET /cores/{name} as far as these tests look at it.
type shown struct {
	Artifacts          map[string]struct{ Bucket, Key string } `json:"artifacts"`
	CertificatePending bool                                    `json:"certificatePending"`
	Device             struct {
		Status    string `json:"status"`
		Connected bool   `json:"connected"`
	} `json:"device"`
	Agent *struct {
		Connected  bool      `json:"connected"`
		Version    string    `json:"version"`
		LastReport time.Time `json:"lastReport"`
		Nucleus    struct {
			State    string `json:"state"`
			Name     string `json:"name"`
			Version  string `json:"version"`
			Restarts int    `json:"restarts"`
		} `json:"nucleus"`
		Host struct {
			UptimeSeconds int64   `json:"uptimeSeconds"`
			MemoryBytes   *uint64 `json:"memoryBytes"`
			DiskBytes     *uint64 `json:"diskBytes"`
		} `json:"host"`
		Components []struct{ Name, Version, State string } `json:"components"`
	} `json:"agent"`
}

func show(t *testing.T, w *world.World, core string) (s shown) {
	t.Helper()
	w.Call(t, http.MethodGet, "/cores/"+core, nil, &s)
	return s
}

// whole says what is missing of a core that is all there and runs the components.
func (s shown) whole(components ...string) string {
	switch {
	case s.Device.Status != "HEALTHY" || !s.Device.Connected:
		return fmt.Sprintf("the core is %s, connected: %t", s.Device.Status, s.Device.Connected)
	case s.Agent == nil:
		return "no agent reported"
	case !s.Agent.Connected || s.Agent.Version == "":
		return fmt.Sprintf("the agent is %+v", *s.Agent)
	case s.Agent.Nucleus.State != "running" || s.Agent.Nucleus.Name != "ggfleet.SimulatedNucleus" || s.Agent.Nucleus.Version != nucleusVersion:
		return fmt.Sprintf("its nucleus is %+v", s.Agent.Nucleus)
	case s.Agent.Host.UptimeSeconds == 0 || s.Agent.Host.MemoryBytes == nil || s.Agent.Host.DiskBytes == nil:
		return fmt.Sprintf("its host is %+v", s.Agent.Host)
	}
	for _, name := range components {
		if !slices.ContainsFunc(s.Agent.Components, func(c struct{ Name, Version, State string }) bool { return c.Name == name }) {
			return fmt.Sprintf("%s is not among %v", name, s.Agent.Components)
		}
	}
	return ""
}

func createCore(t *testing.T, w *world.World, core, template string) {
	t.Helper()
	body := world.NewCores(core)
	body["cores"].([]map[string]any)[0]["provisioningTemplate"] = template
	task := w.WaitTask(t, w.Call(t, http.MethodPost, "/coreTasks", body, nil).Header.Get("Location"))
	require.Equal(t, "Success", task.Status, "%+v", task)
}

func TestTheFleetViewShowsWhatAnAgentReports(t *testing.T) {
	const core = "press-07"
	w := world.Start(t, world.Options{})
	offerNucleus(t, w)
	createCore(t, w, core, "default")
	assert.Nil(t, show(t, w, core).Agent, "none was there yet")
	agent := enrol(t, w, core)
	world.Eventually(t, func() string { return show(t, w, core).whole() })

	const hello = "com.example.Hello"
	w.PutComponent(t, []byte("RecipeFormatVersion: '2020-01-25'\nComponentName: "+hello+"\nComponentVersion: 1.0.0\nManifests:\n  - Platform: {os: linux, runtime: '*'}\n    Lifecycle: {run: sleep 100000}\n"), nil)
	version := w.PutTemplate(t, "hello", world.TemplateComponent{Name: hello, Version: "1.0.0"})
	require.Equal(t, "Success", w.WaitTask(t, w.Deploy(t, "hello", version, core)).Status)
	world.Eventually(t, func() string {
		if r := w.Core(t, core).Template.Reported; r.DeploymentStatus != "Success" {
			return fmt.Sprintf("the core reports %+v", r)
		}
		return show(t, w, core).whole(hello)
	})
	var list struct {
		Deployments []struct{ Template world.TemplateState } `json:"deployments"`
	}
	w.Call(t, http.MethodGet, "/cores/"+core+"/deployments", nil, &list)
	require.Len(t, list.Deployments, 1)
	assert.Equal(t, world.TemplateState{Name: "hello", Version: version}, list.Deployments[0].Template)

	agent.kill9(t)
	world.Eventually(t, func() string {
		if show(t, w, core).Agent.Connected {
			return "a killed agent is shown as connected"
		}
		return ""
	})
	left := show(t, w, core)
	assert.Equal(t, "running", left.Agent.Nucleus.State, "what was known stays")
	assert.True(t, left.Device.Connected, "the nucleus goes on")
	agent.start(t)
	world.Eventually(t, func() string { return show(t, w, core).whole(hello) })
	assert.True(t, show(t, w, core).Agent.LastReport.After(left.Agent.LastReport))

	w.Kill9(t)
	w.Restart(t)
	world.Eventually(t, func() string { return show(t, w, core).whole(hello) })
}

func TestAKeyMadeOnTheDeviceNeverLeavesIt(t *testing.T) {
	const core = "press-08"
	w := world.Start(t, world.Options{})
	offerNucleus(t, w)
	createCore(t, w, core, "device-key")
	before := show(t, w, core)
	assert.True(t, before.CertificatePending)
	assert.NotContains(t, before.Artifacts, "certs", "there is nothing to carry to the device")

	agent := enrol(t, w, core)
	world.Eventually(t, func() string { return show(t, w, core).whole() })
	after := show(t, w, core)
	assert.False(t, after.CertificatePending)
	assert.NotContains(t, after.Artifacts, "certs")
	key, err := os.ReadFile(filepath.Join(agent.root, "private.key"))
	require.NoError(t, err)
	assert.Contains(t, string(key), "PRIVATE KEY")

	w.Stop(t)
	for _, r := range w.Dump(t) {
		assert.NotContains(t, string(r.Value), "PRIVATE KEY", r.Key)
	}
	w.Restart(t)
	world.Eventually(t, func() string { return show(t, w, core).whole() })
}
