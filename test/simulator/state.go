package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	nucleusfiles "github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// component is one installed component.
type component struct {
	Recipe  recipe                           `json:"recipe"`
	State   string                           `json:"state"`
	ARNs    []string                         `json:"arns,omitempty"` // configurations that brought it
	Root    bool                             `json:"root,omitempty"`
	Details *protocol.ComponentStatusDetails `json:"details,omitempty"`
}

// target is what one deployment target wants on this core.
type target struct {
	ARN     string            `json:"arn"`
	Roots   map[string]string `json:"roots"` // component → version
	Created int64             `json:"created"`
}

// pendingUpdate is a job result that the cloud has not answered yet.
type pendingUpdate struct {
	Job     string             `json:"job"`
	Status  protocol.JobStatus `json:"status"`
	Details map[string]string  `json:"details,omitempty"`
}

// device is everything that a core keeps over a restart.
type device struct {
	Sequence   int64              `json:"sequence"` // of the last fleet status
	Components []*component       `json:"components,omitempty"`
	Targets    map[string]*target `json:"targets,omitempty"`
	Config     map[string]*node   `json:"config,omitempty"`
	Groups     []string           `json:"groups,omitempty"` // classic: last list from the cloud
	Pending    []pendingUpdate    `json:"pending,omitempty"`
}

func (d *device) component(name string) *component {
	i := slices.IndexFunc(d.Components, func(c *component) bool { return c.Recipe.Name == name })
	if i < 0 {
		return nil
	}
	return d.Components[i]
}

func (d *device) clone() device {
	c := device{Sequence: d.Sequence, Groups: slices.Clone(d.Groups), Pending: slices.Clone(d.Pending), Targets: map[string]*target{}, Config: map[string]*node{}}
	for _, comp := range d.Components {
		cp := *comp
		c.Components = append(c.Components, &cp)
	}
	for k, v := range d.Targets {
		t := *v
		c.Targets[k] = &t
	}
	for k, v := range d.Config {
		c.Config[k] = v.clone()
	}
	return c
}

// Files below StateDir. An agent reads componentsFile and waits for readyFile;
// effectiveFile lies where classic has it.
const (
	stateFile      = "state/device.json"
	componentsFile = "state/components.json"
	readyFile      = "state/ready"
	effectiveFile  = "config/effectiveConfig.yaml"
)

func (c *Core) load() error {
	c.dev = device{Targets: map[string]*target{}, Config: map[string]*node{}}
	if c.cfg.Runtime == Classic {
		c.dev.Sequence = -1 // classic counts from 0
	}
	if c.cfg.StateDir == "" {
		return nil
	}
	for _, dir := range []string{"state", "config"} {
		if err := os.MkdirAll(filepath.Join(c.cfg.StateDir, dir), 0o755); err != nil { //nolint:gosec // the agent of another user reads it
			return fmt.Errorf("making the state directory: %w", err)
		}
	}
	if err := os.Remove(filepath.Join(c.cfg.StateDir, readyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the ready file: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(c.cfg.StateDir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c.save()
	}
	if err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	if err := json.Unmarshal(b, &c.dev); err != nil {
		return fmt.Errorf("reading %s: %w", stateFile, err)
	}
	for _, n := range c.dev.Config {
		n.restore(!c.lite())
	}
	return c.save()
}

// save writes the state; c.mu is held, or nobody else runs yet.
func (c *Core) save() error {
	if c.cfg.StateDir == "" {
		return nil
	}
	list := make([]protocol.LocalComponent, 0, len(c.dev.Components))
	for _, comp := range c.dev.Components {
		list = append(list, protocol.LocalComponent{Name: comp.Recipe.Name, Version: comp.Recipe.Version, State: comp.State})
	}
	effective, err := yaml.Marshal(c.effective())
	if err != nil {
		return fmt.Errorf("encoding the effective configuration: %w", err)
	}
	for name, content := range map[string][]byte{stateFile: compact(c.dev), componentsFile: compact(nucleusfiles.State{Components: list}), effectiveFile: effective} {
		if err := writeWhole(filepath.Join(c.cfg.StateDir, name), content); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return nil
}

func (c *Core) saveLogged() {
	if err := c.save(); err != nil {
		c.cfg.Log.Error("cannot keep the state", logx.Thing, c.cfg.Thing, logx.Err, err)
	}
}

// effective is the whole configuration in the form of classic's
// effectiveConfig.yaml: versions and configuration, no states.
func (c *Core) effective() map[string]any {
	services := map[string]any{}
	for _, comp := range c.dev.Components {
		services[comp.Recipe.Name] = map[string]any{"version": comp.Recipe.Version, "configuration": c.configuration(comp.Recipe.Name)}
	}
	return map[string]any{"system": map[string]any{"thingName": c.cfg.Thing}, "services": services}
}

func (c *Core) configuration(name string) map[string]any {
	if n := c.dev.Config[name]; n != nil {
		if m, ok := n.plain().(map[string]any); ok {
			return m
		}
	}
	return map[string]any{}
}

func writeWhole(path string, content []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, content, 0o644); err != nil { //nolint:gosec // the agent of another user reads it
		return err
	}
	return os.Rename(tmp, path)
}
