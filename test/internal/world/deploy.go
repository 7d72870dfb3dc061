package world

import (
	"net/http"
	"net/url"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// PutComponent creates a component version from a recipe in JSON or YAML and
// uploads its artifacts, by their names in the recipe.
func (w *World) PutComponent(t testing.TB, recipe []byte, artifacts map[string][]byte) {
	t.Helper()
	var made struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	w.Call(t, http.MethodPost, "/components", YAML(recipe), &made)
	for name, content := range artifacts {
		w.Call(t, http.MethodPut, "/components/"+made.Name+"/versions/"+made.Version+"/artifacts/"+name, content, nil)
	}
}

// TemplateComponent is a component of a template.
type TemplateComponent struct {
	Name                string               `json:"key"`
	Version             string               `json:"version"`
	ConfigurationUpdate *ConfigurationUpdate `json:"configurationUpdate,omitempty"`
}

// ConfigurationUpdate of a component of a template.
type ConfigurationUpdate struct {
	Merge string   `json:"merge,omitempty"` // a JSON object as text
	Reset []string `json:"reset,omitempty"`
}

// PutTemplate creates a template, or a new version of it, and returns the
// version's number.
func (w *World) PutTemplate(t testing.TB, name string, components ...TemplateComponent) int {
	t.Helper()
	body := map[string]any{"name": name, "components": components}
	a, err := w.Do(t.Context(), http.MethodGet, "/templates/"+name, nil)
	require.NoError(t, err)
	if a.Status == http.StatusNotFound {
		a = w.Call(t, http.MethodPost, "/templates", body, nil)
	} else {
		a = w.Call(t, http.MethodPut, "/templates/"+name, body, nil)
	}
	version, err := strconv.Atoi(a.Header.Get("x-version"))
	require.NoError(t, err)
	return version
}

// Deploy starts a deployment task and returns its path.
func (w *World) Deploy(t testing.TB, template string, version int, cores ...string) string {
	t.Helper()
	a := w.Call(t, http.MethodPost, "/deploymentTasks", map[string]any{
		"template": map[string]any{"name": template, "version": version}, "targets": map[string]any{"thingNames": cores},
	}, nil)
	return a.Header.Get("Location")
}

// CoreState is GET /cores/{name}.
type CoreState struct {
	Device struct {
		Status      string                `json:"status"`
		Connected   bool                  `json:"connected"`
		CoreVersion string                `json:"coreVersion"`
		Runtime     string                `json:"runtime"`
		Installed   []InstalledComponent  `json:"installedComponents"`
		Deployments []EffectiveDeployment `json:"effectiveDeployments"`
	} `json:"device"`
	Template struct {
		Desired  TemplateState `json:"desired"`
		Reported TemplateState `json:"reported"`
	} `json:"template"`
}

// TemplateState is a template version that a core has or shall have.
type TemplateState struct {
	Name             string `json:"name"`
	Version          int    `json:"version"`
	DeploymentStatus string `json:"deploymentStatus"`
	Message          string `json:"deploymentStatusMessage"`
}

// InstalledComponent is a component that a core reported.
type InstalledComponent struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	State   string `json:"lifecycleState"`
	IsRoot  bool   `json:"isRoot"`
}

// EffectiveDeployment is a deployment that a core has received.
type EffectiveDeployment struct {
	ID        string `json:"deploymentId"`
	JobID     string `json:"iotJobId"`
	Name      string `json:"deploymentName"`
	TargetARN string `json:"targetArn"`
	Status    string `json:"coreDeviceExecutionStatus"`
	Reason    string `json:"reason"`
}

// Core reads a core's state.
func (w *World) Core(t testing.TB, name string) CoreState {
	t.Helper()
	var s CoreState
	w.Call(t, http.MethodGet, "/cores/"+url.PathEscape(name), nil, &s)
	return s
}
