package fleet

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// templateHead points at the latest version.
type templateHead struct {
	Latest    int       `json:"latest"`
	CreatedAt time.Time `json:"createdAt"`
}

// CreateTemplate stores version 1 of a new template. A component that the store
// does not know is no error here: deploying the template says so.
func (s *Service) CreateTemplate(ctx context.Context, n NewTemplate) (Template, error) {
	if err := checkTemplate(&n); err != nil {
		return Template{}, err
	}
	now := s.stamp()
	t := Template{Name: n.Name, Version: 1, Components: n.Components, JobConfig: n.JobConfig, Policies: n.Policies, CreatedAt: now}
	b := state.NewBatch(state.StepTemplate).If(leavingKey(n.Name), 0).
		If(templateKey(n.Name), 0).Put(templateKey(n.Name), templateHead{Latest: 1, CreatedAt: now}).
		Put(versionKey(n.Name, 1), t).Delete(deployedKey(TemplateRef{n.Name, 1}))
	if _, err := s.cfg.Store.Commit(ctx, b); err != nil {
		if errors.Is(err, fault.Conflict) {
			if _, leaving := s.cfg.Store.Get(ctx, leavingKey(n.Name)); leaving == nil {
				return Template{}, fault.New(fault.Conflict, "a template %s is just being deleted; try again in a moment", n.Name)
			}
			return Template{}, fault.New(fault.Exists, "template %s exists already; PUT /templates/%s makes its next version", n.Name, n.Name)
		}
		return Template{}, fmt.Errorf("store template %s: %w", n.Name, err)
	}
	return t, nil
}

// UpdateTemplate stores the next version of a template: a full replacement,
// nothing is inherited. fault.Stale unless n.IfVersion (0: any) is the latest.
func (s *Service) UpdateTemplate(ctx context.Context, name string, n NewTemplate) (Template, error) {
	if n.Name != "" && n.Name != name {
		return Template{}, fault.Field("name", "is %q, but the path names template %q; leave it out or make it equal", n.Name, name)
	}
	n.Name = name
	if err := checkTemplate(&n); err != nil {
		return Template{}, err
	}
	var t Template
	_, err := state.Update(ctx, s.cfg.Store, state.StepTemplate, templateKey(name), func(h *templateHead, exists bool, b *state.Batch) error {
		if !exists {
			return noTemplate(name)
		}
		if err := current(name, h.Latest, n.IfVersion); err != nil {
			return err
		}
		h.Latest++
		t = Template{
			Name: name, Version: h.Latest, Components: n.Components, JobConfig: n.JobConfig, Policies: n.Policies,
			CreatedAt: h.CreatedAt, UpdatedAt: s.stamp(),
		}
		b.If(versionKey(name, t.Version), 0).Put(versionKey(name, t.Version), t).Delete(deployedKey(TemplateRef{name, t.Version}))
		return nil
	})
	return t, err
}

func noTemplate(name string) error {
	return fault.New(fault.NotFound, "template %s does not exist", name)
}

// Template returns the latest version, or fault.NotFound.
func (s *Service) Template(ctx context.Context, name string) (Template, error) {
	h, err := s.head(ctx, name)
	if err != nil {
		return Template{}, err
	}
	return s.TemplateVersion(ctx, name, h.Latest)
}

func (s *Service) head(ctx context.Context, name string) (templateHead, error) {
	h, err := s.headRecord(ctx, name)
	return h.Value, err
}

func (s *Service) headRecord(ctx context.Context, name string) (state.Record[templateHead], error) {
	if names.CheckTemplate(name) != nil {
		return state.Record[templateHead]{}, noTemplate(name)
	}
	h, err := state.Read[templateHead](ctx, s.cfg.Store, templateKey(name))
	if errors.Is(err, fault.NotFound) {
		return h, noTemplate(name)
	}
	return h, err
}

// TemplateVersion returns one version, or fault.NotFound.
func (s *Service) TemplateVersion(ctx context.Context, name string, version int) (Template, error) {
	if _, err := s.head(ctx, name); err != nil {
		return Template{}, err
	}
	t, err := state.Read[Template](ctx, s.cfg.Store, versionKey(name, version))
	if errors.Is(err, fault.NotFound) {
		return Template{}, fault.New(fault.NotFound, "template %s has no version %d", name, version)
	}
	if err != nil {
		return Template{}, err
	}
	return s.withDeployment(ctx, t.Value)
}

func (s *Service) withDeployment(ctx context.Context, t Template) (Template, error) {
	d, err := state.ReadOr[TemplateDeployment](ctx, s.cfg.Store, deployedKey(TemplateRef{t.Name, t.Version}))
	if d.Rev != 0 {
		t.Deployed = &d.Value
	}
	return t, err
}

// Templates returns the latest version of each template, by name, and the name
// to continue after ("" at the end).
func (s *Service) Templates(ctx context.Context, p Page) ([]Template, string, error) {
	page, err := s.cfg.Store.List(ctx, templatePrefix, after(templatePrefix, p.After), count(p))
	if err != nil {
		return nil, "", fmt.Errorf("list templates: %w", err)
	}
	out := make([]Template, 0, len(page.Entries))
	next := ""
	for _, e := range page.Entries {
		h, err := state.Decode[templateHead](e)
		if err != nil {
			return nil, "", err
		}
		name := strings.TrimPrefix(e.Key, templatePrefix)
		t, err := state.Read[Template](ctx, s.cfg.Store, versionKey(name, h.Value.Latest))
		if errors.Is(err, fault.NotFound) {
			continue // deleted in this moment
		}
		if err != nil {
			return nil, "", err
		}
		out, next = append(out, t.Value), name
	}
	if !page.More {
		next = ""
	}
	return out, next, nil
}

// TemplateVersions returns the versions of a template in number order. An
// unknown template has none.
func (s *Service) TemplateVersions(ctx context.Context, name string, p Page) ([]Template, string, error) {
	h, err := s.head(ctx, name)
	if errors.Is(err, fault.NotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	from := ""
	if p.After != "" {
		n, err := strconv.Atoi(p.After)
		if err != nil || n < 0 {
			return nil, "", fault.Field("exclusiveStartVersion", "%q is not a version number", p.After)
		}
		from = versionKey(name, n)
	}
	page, err := s.cfg.Store.List(ctx, versionPrefix(name), from, count(p))
	if err != nil {
		return nil, "", fmt.Errorf("list versions of template %s: %w", name, err)
	}
	deployed, err := s.deployments(ctx, name)
	if err != nil {
		return nil, "", err
	}
	out := make([]Template, 0, len(page.Entries))
	next := ""
	for _, e := range page.Entries {
		t, err := state.Decode[Template](e)
		if err != nil {
			return nil, "", err
		}
		if t.Value.Version > h.Latest {
			break // made since
		}
		t.Value.Deployed = deployed[deployedKey(TemplateRef{name, t.Value.Version})]
		out, next = append(out, t.Value), strconv.Itoa(t.Value.Version)
	}
	if !page.More {
		next = ""
	}
	return out, next, nil
}

// deployments returns where the versions of a template were made deployments, by
// deployedKey.
func (s *Service) deployments(ctx context.Context, name string) (map[string]*TemplateDeployment, error) {
	out := map[string]*TemplateDeployment{}
	err := state.All(ctx, s.cfg.Store, deployedPrefix(name), func(key string, d state.Record[TemplateDeployment]) error {
		out[key] = &d.Value
		return nil
	})
	return out, err
}

// after is the store key to list after.
func after(prefix, name string) string {
	if name == "" {
		return ""
	}
	return prefix + name
}

func count(p Page) int {
	if p.Count <= 0 || p.Count > MaxPage {
		return MaxPage
	}
	return p.Count
}
