package fleetapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (s *server) CreateTemplate(ctx context.Context, r gen.CreateTemplateRequestObject) (gen.CreateTemplateResponseObject, error) {
	if r.Body.Name == "" {
		return nil, fault.Field("name", "is missing")
	}
	in, err := newTemplate(r.Body)
	if err != nil {
		return nil, err
	}
	t, err := s.Templates.CreateTemplate(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("creating template %s: %w", in.Name, err)
	}
	return gen.CreateTemplate201Response{Headers: templateWritten(t)}, nil
}

func (s *server) UpdateTemplate(ctx context.Context, r gen.UpdateTemplateRequestObject) (gen.UpdateTemplateResponseObject, error) {
	t, err := s.updateTemplate(ctx, r.Name, r.Body, r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	return gen.UpdateTemplate204Response{Headers: templateWritten(t)}, nil
}

func (s *server) PatchTemplate(ctx context.Context, r gen.PatchTemplateRequestObject) (gen.PatchTemplateResponseObject, error) {
	t, err := s.updateTemplate(ctx, r.Name, r.Body, r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	return gen.PatchTemplate204Response{Headers: templateWritten(t)}, nil
}

func (s *server) updateTemplate(ctx context.Context, name string, body *api.NewTemplate, ifMatch *string) (fleet.Template, error) {
	if body.Name != "" && body.Name != name {
		return fleet.Template{}, fault.Field("name", "%q differs from %q in the path; leave it out or make them equal", body.Name, clip(name))
	}
	in, err := newTemplate(body)
	if err != nil {
		return fleet.Template{}, err
	}
	in.Name = name
	if in.IfVersion, err = ifVersion(ifMatch); err != nil {
		return fleet.Template{}, err
	}
	t, err := s.Templates.UpdateTemplate(ctx, name, in)
	if err != nil {
		return t, fmt.Errorf("updating template %s: %w", name, err)
	}
	return t, nil
}

func (s *server) GetTemplate(ctx context.Context, r gen.GetTemplateRequestObject) (gen.GetTemplateResponseObject, error) {
	t, err := s.Templates.Template(ctx, r.Name)
	if err != nil {
		return nil, fmt.Errorf("reading template %s: %w", r.Name, err)
	}
	return gen.GetTemplate200ApplicationVndAwsCdfV10PlusJSONResponse{TemplateFoundApplicationVndAwsCdfV10PlusJSONResponse: templateFound(t)}, nil
}

func templateFound(t fleet.Template) gen.TemplateFoundApplicationVndAwsCdfV10PlusJSONResponse {
	return gen.TemplateFoundApplicationVndAwsCdfV10PlusJSONResponse{Body: template(t), Headers: gen.TemplateFoundResponseHeaders{ETag: entityTag(t.Version)}}
}

func (s *server) GetTemplateVersion(ctx context.Context, r gen.GetTemplateVersionRequestObject) (gen.GetTemplateVersionResponseObject, error) {
	var t fleet.Template
	n, err := strconv.Atoi(r.Version)
	if err != nil { // "latest" or "current": the document lets nothing else pass
		t, err = s.Templates.Template(ctx, r.Name)
	} else {
		t, err = s.Templates.TemplateVersion(ctx, r.Name, n)
	}
	if err != nil {
		return nil, fmt.Errorf("reading template %s version %s: %w", r.Name, r.Version, err)
	}
	return gen.GetTemplateVersion200ApplicationVndAwsCdfV10PlusJSONResponse{TemplateFoundApplicationVndAwsCdfV10PlusJSONResponse: templateFound(t)}, nil
}

func (s *server) ListTemplates(ctx context.Context, r gen.ListTemplatesRequestObject) (gen.ListTemplatesResponseObject, error) {
	p := r.Params
	ts, next, err := s.Templates.Templates(ctx, page(opt(p.Count), opt(p.ExclusiveStartName)))
	if err != nil {
		return nil, fmt.Errorf("listing templates: %w", err)
	}
	return gen.ListTemplates200ApplicationVndAwsCdfV10PlusJSONResponse{
		Templates: each(ts, func(t fleet.Template) api.Template {
			t.Components = nil // the original's list has none either
			return template(t)
		}),
		Pagination: pagination(opt(p.Count), api.LastEvaluated{Name: next}),
	}, nil
}

func (s *server) ListTemplateVersions(ctx context.Context, r gen.ListTemplateVersionsRequestObject) (gen.ListTemplateVersionsResponseObject, error) {
	p := r.Params
	after := ""
	if opt(p.ExclusiveStartVersion) > 0 {
		after = strconv.Itoa(opt(p.ExclusiveStartVersion))
	}
	ts, next, err := s.Templates.TemplateVersions(ctx, r.Name, page(opt(p.Count), after))
	if err != nil {
		return nil, fmt.Errorf("listing versions of template %s: %w", r.Name, err)
	}
	var last api.LastEvaluated
	if next != "" {
		if last.Version, err = strconv.Atoi(next); err != nil {
			return nil, fmt.Errorf("the next page of template versions begins at %q: %w", next, err)
		}
	}
	return gen.ListTemplateVersions200ApplicationVndAwsCdfV10PlusJSONResponse{Templates: each(ts, template), Pagination: pagination(opt(p.Count), last)}, nil
}

func (s *server) DeleteTemplate(ctx context.Context, r gen.DeleteTemplateRequestObject) (gen.DeleteTemplateResponseObject, error) {
	version, err := ifVersion(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	if err := s.Templates.DeleteTemplate(ctx, r.Name, version); err != nil {
		return nil, fmt.Errorf("deleting template %s: %w", r.Name, err)
	}
	return gen.DeleteTemplate204Response{}, nil
}

// newTemplate translates a body and checks what the document can not say.
func newTemplate(b *api.NewTemplate) (fleet.NewTemplate, error) {
	t := fleet.NewTemplate{Name: b.Name, JobConfig: b.JobConfig, Policies: b.DeploymentPolicies}
	seen := make(map[string]int, len(b.Components))
	for i, c := range b.Components {
		at := fmt.Sprintf("components[%d]", i)
		if first, twice := seen[c.Key]; twice {
			return t, fault.Field(at+".key", "%q is already the key of components[%d]", c.Key, first)
		}
		seen[c.Key] = i
		out := fleet.TemplateComponent{Key: c.Key, Version: c.Version}
		if u := c.ConfigurationUpdate; u.Merge != "" || len(u.Reset) > 0 {
			if err := checkUpdate(u); err != nil {
				return t, fault.Under(at+".configurationUpdate", err)
			}
			out.Config = &fleet.TemplateConfiguration{Merge: u.Merge, Reset: u.Reset}
		}
		if c.RunWith.PosixUser != "" {
			out.RunWith = &fleet.TemplateRunWith{PosixUser: c.RunWith.PosixUser}
		}
		t.Components = append(t.Components, out)
	}
	return t, nil
}

func checkUpdate(u api.ConfigurationUpdate) error {
	if u.Merge != "" {
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(u.Merge), &object); err != nil || object == nil {
			return fault.Field("merge", "want the text of a JSON object, got %s", show(u.Merge))
		}
	}
	for i, p := range u.Reset {
		if p != "" && p[0] != '/' {
			return fault.Field(fmt.Sprintf("reset[%d]", i), "%s is no JSON pointer: it must be empty or begin with /", show(p))
		}
	}
	return nil
}

func templateWritten(t fleet.Template) gen.TemplateWrittenResponseHeaders {
	return gen.TemplateWrittenResponseHeaders{
		Location: "/templates/" + url.PathEscape(t.Name),
		XName:    t.Name,
		XVersion: strconv.Itoa(t.Version),
		ETag:     entityTag(t.Version),
	}
}

func template(t fleet.Template) api.Template {
	out := api.Template{
		Name:               t.Name,
		Version:            t.Version,
		JobConfig:          t.JobConfig,
		DeploymentPolicies: t.Policies,
		CreatedAt:          api.At(t.CreatedAt),
		UpdatedAt:          api.At(t.UpdatedAt),
	}
	for _, c := range t.Components {
		oc := api.TemplateComponent{Key: c.Key, Version: c.Version}
		if c.Config != nil {
			oc.ConfigurationUpdate = api.ConfigurationUpdate{Merge: c.Config.Merge, Reset: c.Config.Reset}
		}
		if c.RunWith != nil {
			oc.RunWith = api.RunWith{PosixUser: c.RunWith.PosixUser}
		}
		out.Components = append(out.Components, oc)
	}
	if d := t.Deployed; d != nil {
		out.Deployment = api.TemplateDeployment{ID: d.ID, ThingGroupName: d.ThingGroup, JobID: d.JobID}
	}
	return out
}
