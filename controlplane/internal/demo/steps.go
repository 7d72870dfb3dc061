package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

// offerNucleus packs the simulated nucleus as a distribution and stores it. A
// build with other content gets a version of its own.
func (d *Demo) offerNucleus(ctx context.Context) (string, error) {
	file := filepath.Join(d.cfg.Dir, "nucleus.tar.gz")
	out, err := exec.CommandContext(ctx, d.cfg.Sim, "pack", "--out", file, "--version", coreVersion).Output()
	if err != nil {
		return "", fmt.Errorf("pack the simulated nucleus: %w", err)
	}
	if len(out) < 8 {
		return "", errors.New("pack the simulated nucleus: no digest came")
	}
	digest := strings.TrimSpace(string(out))
	version := coreVersion + "-b" + digest[:8] // tells builds of the simulator apart
	if _, err := exec.CommandContext(ctx, d.cfg.Sim, "pack", "--out", file, "--version", version).Output(); err != nil {
		return "", fmt.Errorf("pack the simulated nucleus: %w", err)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	put, err := d.api.PutDistributionWithBodyWithResponse(ctx, nucleusName, version, &api.PutDistributionParams{Format: "tar.gz"}, "application/octet-stream", f)
	if err := answered(err, put, put.ApplicationVndAwsCdfV10JSONDefault, http.StatusOK, http.StatusCreated); err != nil {
		return "", err
	}
	act, err := d.api.ActivateDistributionWithResponse(ctx, nucleusName, version, nil)
	if err := answered(err, act, act.ApplicationVndAwsCdfV10JSONDefault, http.StatusOK, http.StatusNoContent); err != nil {
		return "", err
	}
	return nucleusName + " " + version, nil
}

const recipe = `RecipeFormatVersion: "2020-01-25"
ComponentName: ` + componentName + `
ComponentVersion: ` + componentVer + `
ComponentDescription: Says hello.
ComponentPublisher: ggfleet demo
ComponentConfiguration:
  DefaultConfiguration:
    message: hello
Manifests:
  - Platform:
      os: linux
      runtime: "*"
    Artifacts:
      - URI: greengrass:hello.sh
    Lifecycle:
      run: sh {artifacts:path}/hello.sh "{configuration:/message}"
`

const script = "#!/bin/sh\nwhile true; do echo \"$1 from $AWS_IOT_THING_NAME\"; sleep 60; done\n"

func (d *Demo) createComponent(ctx context.Context) (string, error) {
	what := componentName + " " + componentVer
	r, err := d.api.CreateComponentWithBodyWithResponse(ctx, nil, "application/yaml", strings.NewReader(recipe))
	if err := answered(err, r, r.ApplicationVndAwsCdfV10JSONDefault, http.StatusCreated, http.StatusConflict); err != nil {
		return "", err
	}
	if r.StatusCode() == http.StatusConflict {
		return what + " is there already", nil
	}
	a, err := d.api.PutArtifactWithBodyWithResponse(ctx, componentName, componentVer, "hello.sh", "application/octet-stream", strings.NewReader(script))
	return what + " with its artifact", answered(err, a, a.ApplicationVndAwsCdfV10JSONDefault, http.StatusOK, http.StatusCreated)
}

func (d *Demo) createCores(ctx context.Context) (string, error) {
	var fresh []api.NewCore
	for i, name := range d.names {
		c, err := d.core(ctx, name)
		if err != nil {
			return "", err
		}
		if c == nil {
			template := "default"
			if i%2 == 1 {
				template = "device-key" // the agent makes the core's key; it never leaves the device
			}
			fresh = append(fresh, api.NewCore{
				Name: name, ProvisioningTemplate: template, ProvisioningParameters: map[string]string{"ThingName": name},
				CdfProvisioningParameters: api.RawJSON(`{"certInfo":{"country":"US"}}`), ConfigFileGenerator: "MANUAL_INSTALL",
			})
		}
	}
	if len(fresh) == 0 {
		return "all are there already", nil
	}
	body, err := json.Marshal(api.NewCoreTask{Type: "Create", CoreVersion: coreVersion, Cores: fresh})
	if err != nil {
		return "", err
	}
	r, err := d.api.CreateCoreTaskWithBodyWithResponse(ctx, nil, mediaType, strings.NewReader(string(body)))
	if err := answered(err, r, r.ApplicationVndAwsCdfV10JSONDefault, http.StatusAccepted); err != nil {
		return "", err
	}
	id := r.Headers202.XTaskid
	return d.until(ctx, func(ctx context.Context) (string, bool, error) {
		t, err := d.api.GetCoreTaskWithResponse(ctx, id, nil)
		if err := answered(err, t, t.ApplicationVndAwsCdfV10JSONDefault, http.StatusOK); err != nil {
			return "", false, err
		}
		task := t.ApplicationVndAwsCdfV10JSON200
		n := 0
		for _, c := range task.Cores {
			switch c.TaskStatus {
			case api.TaskStatusSuccess:
				n++
			case api.TaskStatusFailure:
				return "", false, fmt.Errorf("core %s: %s", c.Name, c.StatusMessage)
			case api.TaskStatusWaiting, api.TaskStatusInProgress:
			}
		}
		return fmt.Sprintf("core task %s: %d of %d created", id, n, len(fresh)), task.TaskStatus == api.TaskStatusSuccess, nil
	})
}

const mediaType = "application/vnd.aws-cdf-v1.0+json"

// core returns the core, or nil if there is none.
func (d *Demo) core(ctx context.Context, name string) (*api.Core, error) {
	r, err := d.api.GetCoreWithResponse(ctx, name)
	if err := answered(err, r, r.ApplicationVndAwsCdfV10JSONDefault, http.StatusOK, http.StatusNotFound); err != nil {
		return nil, err
	}
	return r.ApplicationVndAwsCdfV10JSON200, nil
}

func (d *Demo) startAgents(ctx context.Context) (string, error) {
	enrolled := 0
	for _, name := range d.names {
		if !d.agents.enrolled(name) {
			body, err := json.Marshal(map[string]string{"deviceId": name})
			if err != nil {
				return "", err
			}
			r, err := d.api.CreateActivationWithBodyWithResponse(ctx, nil, mediaType, strings.NewReader(string(body)))
			if err := answered(err, r, r.ApplicationVndAwsCdfV10JSONDefault, http.StatusOK); err != nil {
				return "", err
			}
			if err := d.agents.enroll(ctx, name, r.ApplicationVndAwsCdfV10JSON200.Enrollment); err != nil {
				return "", err
			}
			enrolled++
		}
		if err := d.agents.start(ctx, name); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d agents run, %d of them enrolled now", len(d.names), enrolled), nil
}

func (d *Demo) awaitHealthy(ctx context.Context) (string, error) {
	return d.until(ctx, func(ctx context.Context) (string, bool, error) {
		n := 0
		for _, name := range d.names {
			c, err := d.core(ctx, name)
			if err != nil {
				return "", false, err
			}
			if c != nil && c.Device.Status == "HEALTHY" && c.Device.Connected {
				n++
			}
		}
		return fmt.Sprintf("%d of %d HEALTHY", n, len(d.names)), n == len(d.names), d.agents.failure()
	})
}

func (d *Demo) createTemplate(ctx context.Context) (string, error) {
	body, err := json.Marshal(map[string]any{
		"name": template,
		"components": []any{map[string]any{
			"key": componentName, "version": componentVer, "configurationUpdate": map[string]any{"merge": `{"message":"hello from the demo"}`},
		}},
	})
	if err != nil {
		return "", err
	}
	r, err := d.api.CreateTemplateWithBodyWithResponse(ctx, nil, mediaType, strings.NewReader(string(body)))
	if err := answered(err, r, r.ApplicationVndAwsCdfV10JSONDefault, http.StatusCreated, http.StatusConflict); err != nil {
		return "", err
	}
	if r.StatusCode() == http.StatusConflict {
		return "template " + template + " is there already", nil
	}
	return "template " + template + " version 1", nil
}

// deploy names only the cores that do not have the template yet.
func (d *Demo) deploy(ctx context.Context) (string, error) {
	var targets []string
	for _, name := range d.names {
		c, err := d.core(ctx, name)
		if err != nil {
			return "", err
		}
		if c == nil || c.Template.Reported.Name != template || c.Template.Reported.DeploymentStatus != "Success" {
			targets = append(targets, name)
		}
	}
	if len(targets) == 0 {
		return "every core has it already", nil
	}
	body, err := json.Marshal(map[string]any{"template": map[string]any{"name": template}, "targets": map[string]any{"thingNames": targets}})
	if err != nil {
		return "", err
	}
	r, err := d.api.CreateDeploymentTaskWithBodyWithResponse(ctx, nil, mediaType, strings.NewReader(string(body)))
	if err := answered(err, r, r.ApplicationVndAwsCdfV10JSONDefault, http.StatusAccepted); err != nil {
		return "", err
	}
	return fmt.Sprintf("deployment task %s for %d cores", r.Headers202.XTaskid, len(targets)), nil
}

func (d *Demo) awaitDeployed(ctx context.Context) (string, error) {
	return d.until(ctx, func(ctx context.Context) (string, bool, error) {
		n := 0
		for _, name := range d.names {
			c, err := d.core(ctx, name)
			if err != nil {
				return "", false, err
			}
			if c == nil {
				continue
			}
			switch r := c.Template.Reported; {
			case r.DeploymentStatus == "Failure":
				return "", false, fmt.Errorf("core %s: %s", name, r.DeploymentStatusMessage)
			case r.Name == template && r.DeploymentStatus == "Success":
				n++
			}
		}
		return fmt.Sprintf("%d of %d deployed", n, len(d.names)), n == len(d.names), d.agents.failure()
	})
}
