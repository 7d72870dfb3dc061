package claims

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/tag"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Limits of provisioning templates (iot-api §17).
const (
	MaxTemplates = 256
	MaxVersions  = 5 // of one template
)

// Kind says what a template is for. It never changes.
type Kind string

// The kinds.
const (
	Fleet      Kind = "FLEET_PROVISIONING" // devices trade a claim for a certificate
	JustInTime Kind = "JITP"               // a CA's new certificates bring their thing along
)

// Template is a provisioning template without the bodies of its versions.
type Template struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Kind        Kind              `json:"kind"`
	Enabled     bool              `json:"enabled"` // devices may be provisioned with it
	RoleARN     string            `json:"roleArn"`
	Tags        map[string]string `json:"tags,omitempty"`
	Default     int               `json:"default"` // the version that devices get
	Last        int               `json:"last"`    // the newest version there ever was
	// Versions are those that are there, with their creation, at most MaxVersions.
	Versions   map[int]time.Time `json:"versions"`
	CreatedAt  time.Time         `json:"createdAt"`
	ModifiedAt time.Time         `json:"modifiedAt"`
}

const (
	templatePrefix = prefix + "template/"
	bodyPrefix     = prefix + "template-body/"
)

func templateKey(name string) string { return templatePrefix + name }
func bodyKey(name string, version int) string {
	return bodyPrefix + name + "/" + strconv.Itoa(version)
}

// NewTemplate is the input of CreateTemplate. The zero Kind is Fleet.
type NewTemplate struct {
	Name, Description, Body, RoleARN string
	Kind                             Kind
	Enabled                          bool
	Tags                             map[string]string
}

// CreateTemplate makes a template with version 1. A name that is taken is
// fault.Exists, a template over MaxTemplates fault.Exhausted, a body that is no
// template fault.Invalid, naming the place.
func (s *Service) CreateTemplate(ctx context.Context, n NewTemplate) (Template, error) {
	n.Kind = cmp.Or(n.Kind, Fleet)
	if err := s.checkBody(n.Body); err != nil {
		return Template{}, err
	}
	if err := tag.Check(n.Tags); err != nil {
		return Template{}, err
	}
	all, err := s.Templates(ctx)
	if err != nil {
		return Template{}, err
	}
	now := s.now().UTC()
	t, err := state.Update(ctx, s.store, state.StepRegistry, templateKey(n.Name), func(t *Template, exists bool, b *state.Batch) error {
		if exists {
			return fault.New(fault.Exists, "provisioning template %s exists already", n.Name)
		}
		if len(all) >= MaxTemplates {
			return fault.New(fault.Exhausted, "there are %d provisioning templates, which is the limit; delete one that is not used", len(all))
		}
		*t = Template{
			Name: n.Name, Description: n.Description, Kind: n.Kind, Enabled: n.Enabled, RoleARN: n.RoleARN, Tags: n.Tags,
			Default: 1, Last: 1, Versions: map[int]time.Time{1: now}, CreatedAt: now, ModifiedAt: now,
		}
		b.Put(bodyKey(n.Name, 1), n.Body)
		return nil
	})
	if err != nil {
		return Template{}, fmt.Errorf("create provisioning template %s: %w", n.Name, err)
	}
	return t.Value, nil
}

// Template returns the template and the body of its default version, or
// fault.NotFound.
func (s *Service) Template(ctx context.Context, name string) (Template, string, error) {
	t, err := state.Read[Template](ctx, s.store, templateKey(name))
	if errors.Is(err, fault.NotFound) {
		return Template{}, "", noTemplate(name)
	}
	if err != nil {
		return Template{}, "", fmt.Errorf("read provisioning template %s: %w", name, err)
	}
	body, err := state.Read[string](ctx, s.store, bodyKey(name, t.Value.Default))
	if errors.Is(err, fault.NotFound) { // deleted meanwhile, or its default changed
		err = fmt.Errorf("provisioning template %s changed while it was being read: %w", name, fault.Conflict)
	}
	return t.Value, body.Value, err
}

func noTemplate(name string) error {
	return fault.New(fault.NotFound, "provisioning template %s does not exist", name)
}

// Templates returns all, by name.
func (s *Service) Templates(ctx context.Context) ([]Template, error) {
	var out []Template
	err := state.All(ctx, s.store, templatePrefix, func(_ string, t state.Record[Template]) error {
		out = append(out, t.Value)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list provisioning templates: %w", err)
	}
	return out, nil
}

// TemplateChange is the input of UpdateTemplate: nil leaves a member as it is.
type TemplateChange struct {
	Description *string
	Enabled     *bool
	RoleARN     *string
	Default     *int // a version that is there
}

// UpdateTemplate changes the template, or returns fault.NotFound.
func (s *Service) UpdateTemplate(ctx context.Context, name string, c TemplateChange) error {
	return s.change(ctx, name, func(t *Template, _ *state.Batch) error {
		if c.Default != nil {
			if _, ok := t.Versions[*c.Default]; !ok {
				return fault.Field("defaultVersionId", "is %d, the versions of provisioning template %s are %v", *c.Default, name, t.versions())
			}
			t.Default = *c.Default
		}
		set(&t.Description, c.Description)
		set(&t.Enabled, c.Enabled)
		set(&t.RoleARN, c.RoleARN)
		return nil
	})
}

func set[T any](to, v *T) {
	if v != nil {
		*to = *v
	}
}

func (t *Template) versions() []int { return slices.Sorted(maps.Keys(t.Versions)) }

// change edits the template that is there.
func (s *Service) change(ctx context.Context, name string, edit func(*Template, *state.Batch) error) error {
	_, err := state.Update(ctx, s.store, state.StepRegistry, templateKey(name), func(t *Template, exists bool, b *state.Batch) error {
		if !exists {
			return noTemplate(name)
		}
		t.ModifiedAt = s.now().UTC()
		return edit(t, b)
	})
	if err != nil {
		return fmt.Errorf("change provisioning template %s: %w", name, err)
	}
	return nil
}

// TagTemplate sets tags of the template and takes those with the keys in remove
// away.
func (s *Service) TagTemplate(ctx context.Context, name string, add map[string]string, remove []string) error {
	return s.change(ctx, name, func(t *Template, _ *state.Batch) (err error) {
		t.Tags, err = tag.Change(t.Tags, add, remove)
		return err
	})
}

// DeleteTemplate removes a template whose only version is the default one. One
// with further versions is fault.Conflict: delete those first.
func (s *Service) DeleteTemplate(ctx context.Context, name string) error {
	return s.change(ctx, name, func(t *Template, b *state.Batch) error {
		if len(t.Versions) > 1 {
			return fault.New(fault.Conflict, "provisioning template %s has the versions %v; delete all but its default version %d first", name, t.versions(), t.Default)
		}
		b.Delete(templateKey(name)).Delete(bodyKey(name, t.Default))
		return nil
	})
}

// CreateVersion adds a version with the next number and returns it. fault.Exhausted
// if there are MaxVersions.
func (s *Service) CreateVersion(ctx context.Context, name, body string, makeDefault bool) (version int, err error) {
	if err := s.checkBody(body); err != nil {
		return 0, err
	}
	err = s.change(ctx, name, func(t *Template, b *state.Batch) error {
		if len(t.Versions) >= MaxVersions {
			return fault.New(fault.Exhausted, "provisioning template %s has %d versions, which is the limit; delete one of %v", name, len(t.Versions), t.versions())
		}
		t.Last++
		version = t.Last
		t.Versions[version] = t.ModifiedAt
		if makeDefault {
			t.Default = version
		}
		b.Put(bodyKey(name, version), body)
		return nil
	})
	return version, err
}

// DeleteVersion removes a version. The default one is fault.Conflict.
func (s *Service) DeleteVersion(ctx context.Context, name string, version int) error {
	return s.change(ctx, name, func(t *Template, b *state.Batch) error {
		if _, ok := t.Versions[version]; !ok {
			return fault.New(fault.NotFound, "provisioning template %s has no version %d, only %v", name, version, t.versions())
		}
		if version == t.Default {
			return fault.New(fault.Conflict, "version %d is the default of provisioning template %s; make another one the default first", version, name)
		}
		delete(t.Versions, version)
		b.Delete(bodyKey(name, version))
		return nil
	})
}

// checkBody refuses what no device could be provisioned with.
func (s *Service) checkBody(body string) error {
	d, err := parse(body)
	if err != nil {
		return err
	}
	p, err := d.check()
	if err != nil {
		return err
	}
	return s.registrar.CheckTemplate(p.body)
}
