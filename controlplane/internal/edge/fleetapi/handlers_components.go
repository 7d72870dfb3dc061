package fleetapi

import (
	"context"
	"fmt"
	"io"
	"net/url"

	"github.com/gin-gonic/gin"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
)

func (s *server) CreateComponent(ctx context.Context, r gen.CreateComponentRequestObject) (gen.CreateComponentResponseObject, error) {
	recipe, err := io.ReadAll(r.Body) // bounded by readBody
	if err != nil {
		return nil, fmt.Errorf("reading the recipe: %w", err)
	}
	v, err := s.Components.CreateComponentVersion(ctx, recipe)
	if err != nil {
		return nil, fmt.Errorf("creating a component version: %w", err)
	}
	return gen.CreateComponent201ApplicationVndAwsCdfV10PlusJSONResponse{
		Body:    componentVersion(v),
		Headers: gen.CreateComponent201ResponseHeaders{Location: "/components/" + url.PathEscape(v.Name) + "/versions/" + url.PathEscape(v.Version)},
	}, nil
}

func (s *server) PutArtifact(ctx context.Context, r gen.PutArtifactRequestObject) (gen.PutArtifactResponseObject, error) {
	v, err := s.Components.PutArtifact(ctx, r.Name, r.Version, r.Artifact, r.Body, contentLength(ctx))
	if err != nil {
		return nil, fmt.Errorf("storing artifact %s of component %s version %s: %w", r.Artifact, r.Name, r.Version, err)
	}
	return gen.PutArtifact200ApplicationVndAwsCdfV10PlusJSONResponse(componentVersion(v)), nil
}

func (s *server) ListComponents(ctx context.Context, r gen.ListComponentsRequestObject) (gen.ListComponentsResponseObject, error) {
	p := r.Params
	vs, next, err := s.Components.Components(ctx, page(opt(p.Count), opt(p.ExclusiveStartName)))
	if err != nil {
		return nil, fmt.Errorf("listing components: %w", err)
	}
	return gen.ListComponents200ApplicationVndAwsCdfV10PlusJSONResponse{ComponentsFoundApplicationVndAwsCdfV10PlusJSONResponse: gen.ComponentsFoundApplicationVndAwsCdfV10PlusJSONResponse{
		Components: each(vs, componentVersion),
		Pagination: pagination(opt(p.Count), api.LastEvaluated{Name: next}),
	}}, nil
}

func (s *server) ListComponentVersions(ctx context.Context, r gen.ListComponentVersionsRequestObject) (gen.ListComponentVersionsResponseObject, error) {
	p := r.Params
	vs, next, err := s.Components.ComponentVersions(ctx, r.Name, page(opt(p.Count), opt(p.ExclusiveStartVersion)))
	if err != nil {
		return nil, fmt.Errorf("listing versions of component %s: %w", r.Name, err)
	}
	return gen.ListComponentVersions200ApplicationVndAwsCdfV10PlusJSONResponse{ComponentsFoundApplicationVndAwsCdfV10PlusJSONResponse: gen.ComponentsFoundApplicationVndAwsCdfV10PlusJSONResponse{
		Components: each(vs, componentVersion),
		Pagination: pagination(opt(p.Count), api.LastEvaluated{ComponentVersion: next}),
	}}, nil
}

func (s *server) GetComponentVersion(ctx context.Context, r gen.GetComponentVersionRequestObject) (gen.GetComponentVersionResponseObject, error) {
	v, err := s.Components.ComponentVersion(ctx, r.Name, r.Version)
	if err != nil {
		return nil, fmt.Errorf("reading component %s version %s: %w", r.Name, r.Version, err)
	}
	return gen.GetComponentVersion200ApplicationVndAwsCdfV10PlusJSONResponse(componentVersion(v)), nil
}

func (s *server) DeleteComponentVersion(ctx context.Context, r gen.DeleteComponentVersionRequestObject) (gen.DeleteComponentVersionResponseObject, error) {
	if err := s.Components.DeleteComponentVersion(ctx, r.Name, r.Version); err != nil {
		return nil, fmt.Errorf("deleting component %s version %s: %w", r.Name, r.Version, err)
	}
	return gen.DeleteComponentVersion204Response{}, nil
}

func componentVersion(v ComponentVersion) api.ComponentVersion {
	return api.ComponentVersion{
		Arn:              v.ARN,
		Name:             v.Name,
		Version:          v.Version,
		State:            v.State,
		Stub:             v.Stub,
		Publisher:        v.Publisher,
		Description:      v.Description,
		MissingArtifacts: append([]string{}, v.MissingArtifacts...),
		CreatedAt:        api.At(v.CreatedAt),
	}
}

// contentLength is what the caller says of the body's length, -1 when nothing.
func contentLength(ctx context.Context) int64 {
	if c, ok := ctx.(*gin.Context); ok {
		return c.Request.ContentLength
	}
	return -1
}
