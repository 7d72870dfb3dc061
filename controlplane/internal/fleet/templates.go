package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Limits of one template.
const (
	maxTemplateComponents = 200
	maxMerge              = 64 << 10
)

// templateHead points at the latest version.
type templateHead struct {
	Latest    int       `json:"latest"`
	CreatedAt time.Time `json:"createdAt"`
}

// CreateTemplate stores version 1 of a new template. A component that the store
// does not know is no error here: deploying the template says so.
func (s *Service) CreateTemplate(ctx context.Context, n NewTemplate) (Template, error) {
	if err := checkTemplate(n); err != nil {
		return Template{}, err
	}
	now := s.stamp()
	t := Template{Name: n.Name, Version: 1, Components: n.Components, JobConfig: n.JobConfig, Policies: n.Policies, CreatedAt: now}
	b := state.NewBatch(state.StepTemplate).
		If(templateKey(n.Name), 0).Put(templateKey(n.Name), templateHead{Latest: 1, CreatedAt: now}).
		Put(versionKey(n.Name, 1), t)
	if _, err := s.cfg.Store.Commit(ctx, b); err != nil {
		if errors.Is(err, fault.Conflict) {
			return Template{}, fault.New(fault.Exists, "template %s exists already; PUT /templates/%s makes its next version", n.Name, n.Name)
		}
		return Template{}, fmt.Errorf("store template %s: %w", n.Name, err)
	}
	return t, nil
}

// UpdateTemplate stores the next version of a template: a full replacement,
// nothing is inherited.
func (s *Service) UpdateTemplate(ctx context.Context, name string, n NewTemplate) (Template, error) {
	if n.Name != "" && n.Name != name {
		return Template{}, fault.Field("name", "is %q, but the path names template %q; leave it out or make it equal", n.Name, name)
	}
	n.Name = name
	if err := checkTemplate(n); err != nil {
		return Template{}, err
	}
	var t Template
	_, err := state.Update(ctx, s.cfg.Store, state.StepTemplate, templateKey(name), func(h *templateHead, exists bool, b *state.Batch) error {
		if !exists {
			return noTemplate(name)
		}
		h.Latest++
		t = Template{
			Name: name, Version: h.Latest, Components: n.Components, JobConfig: n.JobConfig, Policies: n.Policies,
			CreatedAt: h.CreatedAt, UpdatedAt: s.stamp(),
		}
		b.If(versionKey(name, t.Version), 0).Put(versionKey(name, t.Version), t)
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
	if names.CheckTemplate(name) != nil {
		return templateHead{}, noTemplate(name)
	}
	h, err := state.Read[templateHead](ctx, s.cfg.Store, templateKey(name))
	if errors.Is(err, fault.NotFound) {
		return h.Value, noTemplate(name)
	}
	return h.Value, err
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
	if names.CheckTemplate(name) != nil {
		return nil, "", nil
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
	out := make([]Template, 0, len(page.Entries))
	next := ""
	for _, e := range page.Entries {
		t, err := state.Decode[Template](e)
		if err != nil {
			return nil, "", err
		}
		out, next = append(out, t.Value), strconv.Itoa(t.Value.Version)
	}
	if !page.More {
		next = ""
	}
	return out, next, nil
}

// DeleteTemplate removes all versions. It is refused while a core has it as its
// desired or reported template.
func (s *Service) DeleteTemplate(ctx context.Context, name string) error {
	if _, err := s.head(ctx, name); err != nil {
		return err
	}
	if n := s.count.users(name); n > 0 {
		return fault.New(fault.Conflict, "template %s is in use by %d cores; deploy another template to them first", name, n)
	}
	for _, p := range []string{versionPrefix(name), prefix + "template-deployment/" + name + "/"} {
		page, err := s.cfg.Store.List(ctx, p, "", state.MaxBatch-2)
		for ; err == nil && len(page.Entries) > 0; page, err = s.cfg.Store.List(ctx, p, "", state.MaxBatch-2) {
			b := state.NewBatch(state.StepTemplate)
			if p == versionPrefix(name) && !page.More {
				b.Delete(templateKey(name))
			}
			for _, e := range page.Entries {
				b.Delete(e.Key)
			}
			if _, err := s.cfg.Store.Commit(ctx, b); err != nil {
				return fmt.Errorf("delete template %s: %w", name, err)
			}
		}
		if err != nil {
			return fmt.Errorf("delete template %s: %w", name, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.deployed {
		if t.Name == name {
			delete(s.deployed, t)
		}
	}
	return nil
}

func checkTemplate(n NewTemplate) error {
	if err := names.CheckTemplate(n.Name); err != nil {
		return fault.Field("name", "%s", fault.Message(err))
	}
	if n.Name == NoTemplate {
		return fault.Field("name", "%q stands for a core without template; choose another name", NoTemplate)
	}
	if len(n.Components) == 0 || len(n.Components) > maxTemplateComponents {
		return fault.Field("components", "has %d entries, want 1 to %d", len(n.Components), maxTemplateComponents)
	}
	seen := map[string]int{}
	for i, c := range n.Components {
		at := fmt.Sprintf("components[%d]", i)
		if err := names.CheckComponent(c.Key); err != nil {
			return fault.Field(at+".key", "%s", fault.Message(err))
		}
		if j, dup := seen[c.Key]; dup {
			return fault.Field(at+".key", "%q stands at components[%d] already", c.Key, j)
		}
		seen[c.Key] = i
		if c.Version == "" || len(c.Version) > 64 {
			return fault.Field(at+".version", "%q is not a component version", c.Version)
		}
		if c.Config != nil && c.Config.Merge != "" {
			var m map[string]json.RawMessage
			if len(c.Config.Merge) > maxMerge || json.Unmarshal([]byte(c.Config.Merge), &m) != nil || m == nil {
				return fault.Field(at+".configurationUpdate.merge", "must be text that holds a JSON object of at most %d bytes", maxMerge)
			}
		}
		if c.Config != nil {
			for j, r := range c.Config.Reset {
				if len(r) > 256 || r != "" && r[0] != '/' {
					return fault.Field(fmt.Sprintf("%s.configurationUpdate.reset[%d]", at, j), "%q is not a JSON pointer: want \"\" or text that begins with /", r)
				}
			}
		}
	}
	return nil
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
