// Package fleetapitest is a fleet in memory for tests of what calls the fleet
// API: the ports of fleetapi, kept as plainly as can be. Tasks end at once, with
// success. It knows no rule of the fleet service beyond names that are taken or
// missing.
package fleetapitest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/help"
	"github.com/ggfleet/ggfleet/controlplane/internal/patching"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/release"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Tokens that the fake knows, by role.
const (
	AdminToken    = "token-of-admin"
	OperatorToken = "token-of-operator"
	ViewerToken   = "token-of-viewer"
)

// Now is when everything in the fake happens.
func Now() time.Time { return time.Date(2026, 3, 2, 8, 0, 0, 120_000_000, time.UTC) }

// Fake is every port at once. Fail, when set, is returned by each call but
// Authenticate. Safe for concurrent use.
type Fake struct {
	mu        sync.Mutex
	Fail      error
	templates map[string][]fleet.Template
	cores     map[string]fleet.CoreView
	coreTasks map[string]fleet.CoreTask
	deploys   map[string]fleet.DeploymentTask
	keys      map[string]string // idempotency key to task
	comps     map[string][]fleetapi.ComponentVersion
	artifacts map[string]string
	docs      map[string][]byte
	dists     []fleetapi.Distribution
	pins      map[string][2]string
	acts      map[string]fleetapi.Activation
	tokens    []access.Token
	keysOf    []access.Key
	devTasks  map[string]fleet.DeviceTask
	devices   map[string]fleet.Device
	things    map[string]cloud.ThingDetail
	bulks     map[string]provisioning.Bulk

	patchTemplates map[string]patching.Template

	enrollment      enrollment.Request
	enrollmentRules map[string]enrollment.Rule
	patchTasks      map[string]patching.Task
	patches         map[string]patching.Patch
	help            *help.Request
	releases        map[string]release.Release

	log   []event.Event
	first int64         // sequence of the first event that is kept
	told  chan struct{} // closed at the next event
	hooks map[string]event.Webhook

	// What the last calls were given.
	LastNewCoreTask fleet.NewCoreTask
	LastDeployment  fleet.NewDeploymentTask
	LastPage        fleet.Page
	LastFilter      fleet.CoreFilter
	LastActivation  fleetapi.NewActivation
	LastRecipe      []byte
	LastDeviceTask  fleet.NewDeviceTask
	LastDelete      fleet.DeleteDevice
	LastThing       provisioning.NewThing
	LastRetry       patching.Retry
	LastHelp        help.New
	HelpRefusal     string // what the owner of each device says
	HelpLost        bool   // whether logs were rotated too fast
	LastReplay      event.ReplayRequest
}

// New returns an empty fake.
func New() *Fake {
	return &Fake{
		templates: map[string][]fleet.Template{},
		cores:     map[string]fleet.CoreView{},
		coreTasks: map[string]fleet.CoreTask{},
		deploys:   map[string]fleet.DeploymentTask{},
		keys:      map[string]string{},
		comps:     map[string][]fleetapi.ComponentVersion{},
		artifacts: map[string]string{},
		docs:      map[string][]byte{},
		acts:      map[string]fleetapi.Activation{},
		devTasks:  map[string]fleet.DeviceTask{},
		devices:   map[string]fleet.Device{},
		things:    map[string]cloud.ThingDetail{},
		bulks:     map[string]provisioning.Bulk{},

		releases: map[string]release.Release{}, patchTemplates: map[string]patching.Template{}, enrollmentRules: map[string]enrollment.Rule{},
		patchTasks: map[string]patching.Task{},
		patches:    map[string]patching.Patch{},

		told:  make(chan struct{}),
		hooks: map[string]event.Webhook{},
	}
}

// Config returns a configuration of the edge with f behind every port.
func (f *Fake) Config() fleetapi.Config {
	return fleetapi.Config{
		Templates: f, Cores: f, Deployments: f, Components: f, ProvisioningTemplates: f, Distributions: f, Activations: f,
		Tokens: Tokens{f}, AccessKeys: Keys{f}, System: f, Auth: f,
		Devices: f, Things: f, Patches: Patches{f}, Help: Help{f}, Releases: Releases{f}, Enrollments: Enrollments{f}, Events: f, Webhooks: f, Once: answers(),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			_, _ = io.WriteString(w, "up 1\n")
		}),
	}
}

// lock begins a call: it returns Fail and, either way, the unlocking.
func (f *Fake) lock() (func(), error) {
	f.mu.Lock()
	return f.mu.Unlock, f.Fail
}

func missing(what, name string) error {
	return fault.New(fault.NotFound, "%s %q does not exist", what, name)
}

// pageOf cuts a page out of items that are in the order of their keys.
//
//nolint:unparam // methods that may fail return its results as their own
func pageOf[T any](items []T, key func(T) string, p fleet.Page) ([]T, string, error) {
	start := 0
	if p.After != "" {
		start = len(items)
		for i, it := range items {
			if key(it) == p.After {
				start = i + 1
			}
		}
	}
	rest := items[start:]
	n := p.Count
	if n == 0 {
		n = fleet.MaxPage
	}
	if len(rest) <= n {
		return rest, "", nil
	}
	return rest[:n], key(rest[n-1]), nil
}

func sorted[T any](m map[string]T) []T {
	var out []T
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// Authenticate knows three tokens.
func (f *Fake) Authenticate(_ context.Context, token string) (access.Principal, error) {
	switch token {
	case AdminToken:
		return access.Principal{Name: "ada", Role: access.Admin}, nil
	case OperatorToken:
		return access.Principal{Name: "otto", Role: access.Operator}, nil
	case ViewerToken:
		return access.Principal{Name: "vera", Role: access.Viewer}, nil
	}
	return access.Principal{}, fault.New(fault.Unauthenticated, "the token is not known")
}

// CreateTemplate stores version 1.
func (f *Fake) CreateTemplate(_ context.Context, t fleet.NewTemplate) (fleet.Template, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return fleet.Template{}, err
	}
	if f.templates[t.Name] != nil {
		return fleet.Template{}, fault.New(fault.Exists, "template %q exists; update it instead", t.Name)
	}
	return f.write(t), nil
}

func (f *Fake) write(t fleet.NewTemplate) fleet.Template {
	v := fleet.Template{Name: t.Name, Version: len(f.templates[t.Name]) + 1, Components: t.Components, JobConfig: t.JobConfig, Policies: t.Policies, CreatedAt: Now()}
	if v.Version > 1 {
		v.UpdatedAt = Now()
	}
	f.templates[t.Name] = append(f.templates[t.Name], v)
	return v
}

// UpdateTemplate stores the next version.
func (f *Fake) UpdateTemplate(_ context.Context, name string, t fleet.NewTemplate) (fleet.Template, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return fleet.Template{}, err
	}
	if f.templates[name] == nil {
		return fleet.Template{}, missing("template", name)
	}
	if err := stale(len(f.templates[name]), t.IfVersion); err != nil {
		return fleet.Template{}, err
	}
	return f.write(t), nil
}

// Template returns the latest version.
func (f *Fake) Template(ctx context.Context, name string) (fleet.Template, error) {
	f.mu.Lock()
	n := len(f.templates[name])
	f.mu.Unlock()
	return f.TemplateVersion(ctx, name, n)
}

// TemplateVersion returns one version.
func (f *Fake) TemplateVersion(_ context.Context, name string, version int) (fleet.Template, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return fleet.Template{}, err
	}
	if version < 1 || version > len(f.templates[name]) {
		return fleet.Template{}, missing("template", fmt.Sprintf("%s version %d", name, version))
	}
	return f.templates[name][version-1], nil
}

// Templates lists the latest versions.
func (f *Fake) Templates(_ context.Context, p fleet.Page) ([]fleet.Template, string, error) {
	done, err := f.lock()
	defer done()
	f.LastPage = p
	if err != nil {
		return nil, "", err
	}
	var latest []fleet.Template
	for _, vs := range sorted(f.templates) {
		latest = append(latest, vs[len(vs)-1])
	}
	return pageOf(latest, func(t fleet.Template) string { return t.Name }, p)
}

// TemplateVersions lists the versions of one.
func (f *Fake) TemplateVersions(_ context.Context, name string, p fleet.Page) ([]fleet.Template, string, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return nil, "", err
	}
	return pageOf(f.templates[name], func(t fleet.Template) string { return strconv.Itoa(t.Version) }, p)
}

// DeleteTemplate forgets every version.
func (f *Fake) DeleteTemplate(_ context.Context, name string, ifVersion int) error {
	done, err := f.lock()
	defer done()
	if err != nil {
		return err
	}
	if f.templates[name] == nil {
		return missing("template", name)
	}
	if err := stale(len(f.templates[name]), ifVersion); err != nil {
		return err
	}
	delete(f.templates, name)
	return nil
}

// CreateCoreTask creates or deletes every core at once.
func (f *Fake) CreateCoreTask(_ context.Context, t fleet.NewCoreTask, key string) (string, error) {
	done, err := f.lock()
	defer done()
	f.LastNewCoreTask = t
	if err != nil {
		return "", err
	}
	if id := f.keys[key]; key != "" && id != "" {
		return id, nil
	}
	one := 1
	id := fmt.Sprintf("core-%04d", len(f.coreTasks)+1)
	task := fleet.CoreTask{
		TaskState: fleet.TaskState{ID: id, Status: fleet.TaskSuccess, CreatedAt: Now(), UpdatedAt: Now(), BatchesComplete: &one, BatchesTotal: &one},
		Type:      t.Type, CoreVersion: t.CoreVersion, Options: t.Options,
	}
	for _, c := range t.Cores {
		task.Cores = append(task.Cores, fleet.TaskItem{Name: c.Name, Status: fleet.TaskSuccess, CreatedAt: Now(), UpdatedAt: Now()})
		if t.Type == fleet.CoreTaskDelete {
			delete(f.cores, c.Name)
			continue
		}
		f.cores[c.Name] = fleet.CoreView{Core: fleet.Core{
			Name: c.Name, ProvisioningTemplate: c.ProvisioningTemplate, ConfigGenerator: c.ConfigFileGenerator, CoreVersion: t.CoreVersion, CreatedAt: Now(), UpdatedAt: Now(),
			Artifacts: map[string]fleet.Artifact{
				fleet.ArtifactCerts:  {Bucket: "ggfleet", Key: "greengrass2/artifacts/" + c.Name + "/" + c.Name + "/certs.zip", CreatedAt: Now()},
				fleet.ArtifactConfig: {Bucket: "ggfleet", Key: "greengrass2/artifacts/" + c.Name + "/" + c.Name + "/installerConfig.yml", CreatedAt: Now()},
			},
		}}
	}
	task.Items, task.Succeeded = len(task.Cores), len(task.Cores)
	f.coreTasks[id] = task
	f.keys[key] = id
	return id, nil
}

// CoreTask returns a task.
func (f *Fake) CoreTask(_ context.Context, id string, p fleet.Page) (fleet.CoreTask, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return fleet.CoreTask{}, err
	}
	t, ok := f.coreTasks[id]
	if !ok {
		return t, missing("core task", id)
	}
	t.Cores, t.Next, err = pageOf(t.Cores, taskItemName, p)
	return t, err
}

func taskItemName(i fleet.TaskItem) string { return i.Name }

// CoreTasks lists tasks.
func (f *Fake) CoreTasks(_ context.Context, p fleet.Page) ([]fleet.CoreTask, string, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return nil, "", err
	}
	return pageOf(sorted(f.coreTasks), func(t fleet.CoreTask) string { return t.ID }, p)
}

// SetDevice tells what the device of a core reports.
func (f *Fake) SetDevice(core string, d fleet.CoreDevice) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.cores[core]
	c.Device = d
	f.cores[core] = c
}

// SetAgent makes a core's agent show r.
func (f *Fake) SetAgent(core string, r fleet.AgentReport) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.cores[core]
	c.Agent = &r
	f.cores[core] = c
}

// Agent returns what SetAgent set; no client device has an agent.
func (f *Fake) Agent(name string) *fleet.AgentReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cores[name].Agent
}

// Core returns a core.
func (f *Fake) Core(_ context.Context, name string) (fleet.CoreView, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return fleet.CoreView{}, err
	}
	c, ok := f.cores[name]
	if !ok {
		return c, missing("core", name)
	}
	return c, nil
}

// Cores lists cores by desired template.
func (f *Fake) Cores(_ context.Context, filter fleet.CoreFilter, p fleet.Page) ([]fleet.Core, string, error) {
	done, err := f.lock()
	defer done()
	f.LastFilter, f.LastPage = filter, p
	if err != nil {
		return nil, "", err
	}
	var out []fleet.Core
	for _, c := range sorted(f.cores) {
		if filter.TemplateName == "" || filter.TemplateName == c.Desired.Name {
			out = append(out, c.Core)
		}
	}
	return pageOf(out, func(c fleet.Core) string { return c.Name }, p)
}
