package fleetapitest

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/patching"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Patches is the port of patches. No device ever takes one.
type Patches struct{ f *Fake }

// CreateTemplate stores version 1.
func (p Patches) CreateTemplate(_ context.Context, n patching.NewTemplate) (patching.Template, error) {
	done, err := p.f.lock()
	defer done()
	if err != nil {
		return patching.Template{}, err
	}
	if _, ok := p.f.patchTemplates[n.Name]; ok {
		return patching.Template{}, fault.New(fault.Exists, "patch template %q exists", n.Name)
	}
	if _, err := base64.StdEncoding.DecodeString(n.PlaybookFileContents); err != nil {
		return patching.Template{}, fault.Field("playbookFileContents", "is not base64")
	}
	t := patching.Template{
		Name: n.Name, Version: 1, PatchType: n.PatchType, PlaybookName: n.PlaybookName, Description: n.Description, ExtraVars: n.ExtraVars, Options: n.Options,
		Enabled: n.Enabled == nil || *n.Enabled, Playbook: patching.Playbook{Bucket: "ggfleet", Key: "device-patcher/playbooks/" + n.Name}, CreatedAt: Now(), UpdatedAt: Now(),
	}
	if t.PlaybookName == "" {
		t.PlaybookName = t.Name
	}
	p.f.patchTemplates[n.Name] = t
	return t, nil
}

func stale(is, want int) error {
	if want != 0 && is != want {
		return fault.New(fault.Stale, "it is at version %d, not %d; read it again", is, want)
	}
	return nil
}

// UpdateTemplate changes description and variables.
func (p Patches) UpdateTemplate(ctx context.Context, name string, c patching.TemplateChange, ifVersion int) (patching.Template, error) {
	t, err := p.Template(ctx, name)
	if err != nil {
		return t, err
	}
	if err := stale(t.Version, ifVersion); err != nil {
		return t, err
	}
	done, err := p.f.lock()
	defer done()
	if c.Description != nil {
		t.Description = *c.Description
	}
	vars := map[string]string{}
	for k, v := range t.ExtraVars {
		vars[k] = v
	}
	for k, v := range c.ExtraVars {
		if delete(vars, k); v != nil {
			vars[k] = *v
		}
	}
	t.ExtraVars = vars
	t.Version++
	p.f.patchTemplates[name] = t
	return t, err
}

// Template returns a patch template.
func (p Patches) Template(_ context.Context, name string) (patching.Template, error) {
	return get(p.f, p.f.patchTemplates, "patch template", name)
}

// Templates lists patch templates.
func (p Patches) Templates(_ context.Context, pg patching.Page) ([]patching.Template, string, error) {
	done, err := p.f.lock()
	defer done()
	if err != nil {
		return nil, "", err
	}
	return pageOf(sorted(p.f.patchTemplates), func(t patching.Template) string { return t.Name }, fleet.Page(pg))
}

// DeleteTemplate forgets a patch template.
func (p Patches) DeleteTemplate(ctx context.Context, name string, ifVersion int) error {
	t, err := p.Template(ctx, name)
	if err != nil {
		return err
	}
	if err := stale(t.Version, ifVersion); err != nil {
		return err
	}
	return remove(p.f, p.f.patchTemplates, "patch template", name)
}

// CreateTask makes a patch for each entry.
func (p Patches) CreateTask(_ context.Context, n patching.NewTask, key string) (string, error) {
	done, err := p.f.lock()
	defer done()
	if err != nil {
		return "", err
	}
	if id := p.f.keys[key]; key != "" && id != "" {
		return id, nil
	}
	id := fmt.Sprintf("7c9e6679-7425-40de-944b-%012d", len(p.f.patchTasks)+1)
	p.f.patchTasks[id] = patching.Task{ID: id, Patches: len(n.Patches), CreatedAt: Now()}
	p.f.keys[key] = id
	for _, e := range n.Patches {
		pid := fmt.Sprintf("1f0e7a30-5c3b-4b5e-9a57-%012d", len(p.f.patches)+1)
		p.f.patches[pid] = patching.Patch{
			ID: pid, TaskID: id, DeviceID: e.DeviceID, PatchTemplateName: e.PatchTemplateName, PatchType: e.PatchType, ExtraVars: e.ExtraVars,
			Status: patching.Created, CreatedAt: Now(),
		}
	}
	return id, nil
}

// Task returns a patch task.
func (p Patches) Task(_ context.Context, id string) (patching.Task, error) {
	return get(p.f, p.f.patchTasks, "patch task", id)
}

func (p Patches) list(pg patching.Page, keep func(patching.Patch) bool) ([]patching.Patch, string, error) {
	done, err := p.f.lock()
	defer done()
	if err != nil {
		return nil, "", err
	}
	ps := slices.DeleteFunc(sorted(p.f.patches), func(x patching.Patch) bool { return !keep(x) })
	return pageOf(ps, func(x patching.Patch) string { return x.ID }, fleet.Page(pg))
}

// TaskPatches lists the patches of a task.
func (p Patches) TaskPatches(ctx context.Context, id string, pg patching.Page) ([]patching.Patch, string, error) {
	if _, err := p.Task(ctx, id); err != nil {
		return nil, "", err
	}
	return p.list(pg, func(x patching.Patch) bool { return x.TaskID == id })
}

// DevicePatches lists the patches of a device.
func (p Patches) DevicePatches(_ context.Context, device string, f patching.Filter, pg patching.Page) ([]patching.Patch, string, error) {
	return p.list(pg, func(x patching.Patch) bool { return x.DeviceID == device && (f.Status == "" || f.Status == x.Status) })
}

// Patch returns a patch.
func (p Patches) Patch(_ context.Context, id string) (patching.Patch, error) {
	return get(p.f, p.f.patches, "patch", id)
}

// RetryPatch remembers what it was given.
func (p Patches) RetryPatch(ctx context.Context, id string, r patching.Retry) error {
	p.f.mu.Lock()
	p.f.LastRetry = r
	p.f.mu.Unlock()
	_, err := p.Patch(ctx, id)
	return err
}

// DeletePatch forgets a patch.
func (p Patches) DeletePatch(_ context.Context, id string) error {
	return remove(p.f, p.f.patches, "patch", id)
}
