package system

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// NucleusVersion is that of the simulated nucleus that OfferNucleus offers.
const NucleusVersion = "2.12.0"

// OfferNucleus makes w offer the simulated nucleus to agents.
func OfferNucleus(t testing.TB, w *world.World) {
	t.Helper()
	sim, err := world.Build(t.Context(), "test", "ggfleet-sim")
	require.NoError(t, err)
	archive := filepath.Join(t.TempDir(), "nucleus.tar.gz")
	out, err := exec.CommandContext(t.Context(), sim, "pack", "--out", archive, "--version", NucleusVersion).CombinedOutput()
	require.NoError(t, err, "%s", out)
	content, err := os.ReadFile(archive)
	require.NoError(t, err)
	const path = "/distributions/ggfleet.SimulatedNucleus/" + NucleusVersion
	w.Call(t, http.MethodPut, path+"?format=tar.gz", content, nil)
	w.Call(t, http.MethodPost, path+"/activate", nil, nil)
}

// Activate creates the core and returns a string that its agent enrols with.
func Activate(t testing.TB, w *world.World, core string) (enrollment string) {
	t.Helper()
	w.CreateCores(t, core)
	var activation struct {
		Enrollment string `json:"enrollment"`
	}
	w.Call(t, http.MethodPost, "/activations", map[string]string{"deviceId": core}, &activation)
	return activation.Enrollment
}

// Core is GET /cores/{name} as far as tests of machines look at it.
type Core struct {
	Device struct {
		Status    string `json:"status"`
		Connected bool   `json:"connected"`
	} `json:"device"`
	Agent *struct {
		Connected  bool      `json:"connected"`
		Version    string    `json:"version"`
		LastReport time.Time `json:"lastReport"`
		Nucleus    struct {
			State   string `json:"state"`
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"nucleus"`
	} `json:"agent"`
}

// Show asks for the core.
func Show(t testing.TB, w *world.World, core string) (c Core) {
	t.Helper()
	w.Call(t, http.MethodGet, "/cores/"+core, nil, &c)
	return c
}

// Healthy waits until the core is HEALTHY, and its agent with version is
// connected and was heard of after since.
func Healthy(t testing.TB, w *world.World, core, version string, since time.Time) {
	t.Helper()
	world.Eventually(t, func() string {
		switch c := Show(t, w, core); {
		case c.Device.Status != "HEALTHY" || !c.Device.Connected:
			return fmt.Sprintf("the core is %+v", c.Device)
		case c.Agent == nil:
			return "no agent reported"
		case !c.Agent.Connected || c.Agent.Version != version || c.Agent.Nucleus.State != "running" || !c.Agent.LastReport.After(since):
			return fmt.Sprintf("the agent is %+v", *c.Agent)
		}
		return ""
	})
}
