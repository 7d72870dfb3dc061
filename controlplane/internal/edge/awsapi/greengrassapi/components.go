package greengrassapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/clienttoken"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/tag"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/recipe"
)

func (a *api) componentOperations() []rest.Operation {
	const one = "/greengrass/v2/components/{arn}"
	return []rest.Operation{
		{Name: "CreateComponentVersion", Method: http.MethodPost, Path: "/greengrass/v2/createComponentVersion", Status: http.StatusCreated, Call: rest.Handle(a.createComponentVersion)},
		{Name: "DescribeComponent", Method: http.MethodGet, Path: one + "/metadata", Call: rest.Handle(a.describeComponent)},
		{Name: "GetComponent", Method: http.MethodGet, Path: one, Call: rest.Handle(a.getComponent)},
		{Name: "GetComponentVersionArtifact", Method: http.MethodGet, Path: one + "/artifacts/{artifactName+}", Call: rest.Handle(a.getComponentVersionArtifact)},
		{Name: "ListComponents", Method: http.MethodGet, Path: "/greengrass/v2/components", Call: rest.Handle(a.listComponents)},
		{Name: "ListComponentVersions", Method: http.MethodGet, Path: one + "/versions", Call: rest.Handle(a.listComponentVersions)},
		{Name: "DeleteComponent", Method: http.MethodDelete, Path: one, Status: http.StatusNoContent, Call: rest.Handle(a.deleteComponent)},
		{Name: "ResolveComponentCandidates", Method: http.MethodPost, Path: "/greengrass/v2/resolveComponentCandidates", Reads: true, Call: rest.Handle(a.resolveComponentCandidates)},
	}
}

type componentPlatform struct {
	Name       string            `json:"name,omitempty" check:"len=1.."`
	Attributes map[string]string `json:"attributes,omitempty" check:"key.len=1..,value.len=1.."`
}

type componentStatus struct {
	State    string            `json:"componentState"`
	Message  string            `json:"message"`
	Errors   map[string]string `json:"errors"`
	Guidance string            `json:"vendorGuidance,omitempty"`
}

type createComponentIn struct {
	InlineRecipe []byte            `json:"inlineRecipe"`
	Lambda       *lambdaFunction   `json:"lambdaFunction"`
	Tags         map[string]string `json:"tags" check:"items=0..200,key.len=1..128,value.len=0..256"`
	ClientToken  string            `json:"clientToken" check:"len=1..64,pattern=clientToken"`
}

type createComponentOut struct {
	ARN       string          `json:"arn"`
	Name      string          `json:"componentName"`
	Version   string          `json:"componentVersion"`
	CreatedAt rest.Time       `json:"creationTimestamp"`
	Status    componentStatus `json:"status"`
}

func (a *api) createComponentVersion(ctx context.Context, in *createComponentIn) (*createComponentOut, error) {
	switch {
	case (in.InlineRecipe == nil) == (in.Lambda == nil):
		return nil, fault.New(fault.Invalid, "exactly one of inlineRecipe and lambdaFunction is required")
	case in.Lambda != nil:
		return nil, component.CheckLambda(in.Lambda.source())
	}
	if err := tag.Check(in.Tags); err != nil {
		return nil, err
	}
	r, err := a.cfg.Components.Request(ctx, in.InlineRecipe, in.Tags, in.ClientToken)
	if errors.Is(err, clienttoken.ErrInProgress) {
		return nil, rest.Fail(http.StatusBadRequest, inProgress, fault.Message(err), nil)
	}
	if err != nil {
		return nil, about(kindComponent, r.ARN, ofRecipe(err))
	}
	return &createComponentOut{
		ARN: r.ARN, Name: r.Name, Version: r.Version, CreatedAt: rest.At(r.CreatedAt),
		// As at AWS, where the checks begin after the answer.
		Status: componentStatus{State: string(component.Requested), Message: "NONE", Errors: map[string]string{}},
	}, nil
}

// ofRecipe says of which member it is that something is wrong with a recipe.
func ofRecipe(err error) error {
	if k := fault.KindOf(err); fault.FieldOf(err) != "" || k != fault.Invalid && k != fault.TooLarge {
		return fault.Under("inlineRecipe", err)
	}
	text := fault.Message(err)
	return invalid(text, fieldInvalid, []map[string]string{{"name": "inlineRecipe", "message": text}})
}

type versionIn struct {
	ARN string `path:"arn" check:"pattern=componentVersion"`
}

type describeComponentOut struct {
	ARN         string              `json:"arn"`
	Name        string              `json:"componentName"`
	Version     string              `json:"componentVersion"`
	CreatedAt   rest.Time           `json:"creationTimestamp"`
	Publisher   string              `json:"publisher,omitempty"`
	Description string              `json:"description,omitempty"`
	Status      componentStatus     `json:"status"`
	Platforms   []componentPlatform `json:"platforms"`
	Tags        map[string]string   `json:"tags"`
}

func (a *api) describeComponent(ctx context.Context, in *versionIn) (*describeComponentOut, error) {
	v, err := a.cfg.Components.GetByARN(ctx, in.ARN)
	if err != nil {
		return nil, about(kindComponent, in.ARN, err)
	}
	status := componentStatus{State: string(v.State), Message: v.Message(), Errors: some(v.Errors), Guidance: "ACTIVE"}
	return &describeComponentOut{
		ARN: v.ARN, Name: v.Name, Version: v.Version, CreatedAt: rest.At(v.CreatedAt), Publisher: v.Publisher, Description: v.Description,
		Status: status, Platforms: platformsOf(v), Tags: some(v.Tags),
	}, nil
}

// platformsOf gives a platform without a name one, made of what it is.
func platformsOf(v component.Version) []componentPlatform {
	list := make([]componentPlatform, len(v.Platforms))
	for i, p := range v.Platforms {
		list[i] = componentPlatform{Name: p.Name, Attributes: p.Attributes}
		if p.Name != "" {
			continue
		}
		var parts []string
		for _, key := range []string{"os", "architecture"} {
			if w := p.Attributes[key]; w != "" && w != "*" {
				parts = append(parts, w)
			}
		}
		if list[i].Name = strings.Join(parts, " "); len(parts) == 0 {
			list[i].Name = "all"
		}
	}
	return list
}

type getComponentIn struct {
	ARN    string `path:"arn" check:"pattern=componentVersion"`
	Format string `query:"recipeOutputFormat" check:"enum=JSON|YAML"`
}

type getComponentOut struct {
	Format string            `json:"recipeOutputFormat"`
	Recipe []byte            `json:"recipe"`
	Tags   map[string]string `json:"tags"`
}

func (a *api) getComponent(ctx context.Context, in *getComponentIn) (*getComponentOut, error) {
	v, err := a.cfg.Components.GetByARN(ctx, in.ARN)
	if err != nil {
		return nil, about(kindComponent, in.ARN, err)
	}
	format := recipe.JSON
	if in.Format != "" {
		format = recipe.Format(in.Format)
	}
	src, err := v.RecipeAs(format)
	if err != nil {
		return nil, err
	}
	return &getComponentOut{Format: string(format), Recipe: src, Tags: some(v.Tags)}, nil
}

type getArtifactIn struct {
	ARN          string `path:"arn" check:"pattern=componentVersion"`
	Name         string `path:"artifactName" check:"len=1.."`
	S3Endpoint   string `query:"s3EndpointType" check:"enum=REGIONAL|GLOBAL"` // there is one endpoint here
	EndpointType string `header:"x-amz-iot-endpoint-type" check:"enum=fips|standard"`
}

type getArtifactOut struct {
	URL string `json:"preSignedUrl"`
}

func (a *api) getComponentVersionArtifact(ctx context.Context, in *getArtifactIn) (*getArtifactOut, error) {
	at, err := a.cfg.Components.Locate(ctx, in.ARN, in.Name)
	if err != nil {
		return nil, about(kindComponent, in.ARN, err)
	}
	url, err := a.cfg.URLs.URL(at.Key, at.SHA256, path.Base(in.Name))
	if err != nil {
		return nil, fmt.Errorf("make download URL: %w", err)
	}
	return &getArtifactOut{URL: url}, nil
}

type listComponentsIn struct {
	Scope      string `query:"scope" check:"enum=PRIVATE|PUBLIC"`
	MaxResults *int32 `query:"maxResults" check:"range=1..100"`
	NextToken  string `query:"nextToken"`
}

type listComponentsOut struct {
	Components []listedComponent `json:"components"`
	NextToken  string            `json:"nextToken,omitempty"`
}

type listedComponent struct {
	ARN    string        `json:"arn"`
	Name   string        `json:"componentName"`
	Latest latestVersion `json:"latestVersion"`
}

type latestVersion struct {
	ARN         string              `json:"arn"`
	Version     string              `json:"componentVersion"`
	CreatedAt   rest.Time           `json:"creationTimestamp"`
	Description string              `json:"description,omitempty"`
	Publisher   string              `json:"publisher,omitempty"`
	Platforms   []componentPlatform `json:"platforms"`
}

func (a *api) listComponents(ctx context.Context, in *listComponentsIn) (*listComponentsOut, error) {
	scope := component.ScopePrivate
	if in.Scope != "" {
		scope = component.Scope(in.Scope)
	}
	after, err := rest.After(in.NextToken, "components", string(scope))
	if err != nil {
		return nil, err
	}
	list, more, err := a.cfg.Components.List(ctx, scope, after, rest.Limit(in.MaxResults, pageSize))
	if err != nil {
		return nil, err
	}
	out := &listComponentsOut{Components: make([]listedComponent, len(list))}
	for i, c := range list {
		v := c.Latest
		out.Components[i] = listedComponent{ARN: c.ARN, Name: c.Name, Latest: latestVersion{
			ARN: v.ARN, Version: v.Version, CreatedAt: rest.At(v.CreatedAt), Description: v.Description, Publisher: v.Publisher, Platforms: platformsOf(v),
		}}
	}
	if more {
		out.NextToken = rest.Token(list[len(list)-1].Name, "components", string(scope))
	}
	return out, nil
}

type listVersionsIn struct {
	ARN        string `path:"arn" check:"pattern=component"`
	MaxResults *int32 `query:"maxResults" check:"range=1..100"`
	NextToken  string `query:"nextToken"`
}

type listVersionsOut struct {
	Versions  []listedVersion `json:"componentVersions"`
	NextToken string          `json:"nextToken,omitempty"`
}

type listedVersion struct {
	Name    string `json:"componentName"`
	Version string `json:"componentVersion"`
	ARN     string `json:"arn"`
}

func (a *api) listComponentVersions(ctx context.Context, in *listVersionsIn) (*listVersionsOut, error) {
	after, err := rest.After(in.NextToken, "versions", in.ARN)
	if err != nil {
		return nil, err
	}
	list, more, err := a.cfg.Components.ListVersionsOf(ctx, in.ARN, after, rest.Limit(in.MaxResults, pageSize))
	if err != nil {
		return nil, about(kindComponent, in.ARN, err)
	}
	out := &listVersionsOut{Versions: make([]listedVersion, len(list))}
	for i, v := range list {
		out.Versions[i] = listedVersion{Name: v.Name, Version: v.Version, ARN: v.ARN}
	}
	if more {
		out.NextToken = rest.Token(list[len(list)-1].Version, "versions", in.ARN)
	}
	return out, nil
}

func (a *api) deleteComponent(ctx context.Context, in *versionIn) (*rest.Empty, error) {
	v, err := a.cfg.Components.GetByARN(ctx, in.ARN)
	if err == nil {
		err = a.cfg.Components.Delete(ctx, v.Name, v.Version)
	}
	if err != nil {
		return nil, about(kindComponent, in.ARN, err)
	}
	return nil, nil //nolint:nilnil // no members
}

type resolveIn struct {
	Platform   *componentPlatform `json:"platform"`
	Candidates []candidate        `json:"componentCandidates"`
}

type candidate struct {
	Name         string            `json:"componentName" check:"required,len=1..128"`
	Version      string            `json:"componentVersion" check:"len=1..64"`
	Requirements map[string]string `json:"versionRequirements" check:"key.len=1..,value.len=1.."`
}

type resolveOut struct {
	Resolved []resolvedVersion `json:"resolvedComponentVersions"`
}

type resolvedVersion struct {
	ARN      string `json:"arn"`
	Name     string `json:"componentName"`
	Version  string `json:"componentVersion"`
	Recipe   []byte `json:"recipe"`
	Guidance string `json:"vendorGuidance"`
}

func (a *api) resolveComponentCandidates(ctx context.Context, in *resolveIn) (*resolveOut, error) {
	var p component.Platform
	if in.Platform != nil {
		p = component.Platform{Name: in.Platform.Name, Attributes: in.Platform.Attributes}
	}
	candidates, asked := make([]component.Candidate, len(in.Candidates)), map[string]bool{}
	for i, c := range in.Candidates {
		candidates[i] = component.Candidate{Name: c.Name, Version: c.Version, Requirements: c.Requirements}
		asked[c.Name] = true
	}
	resolved, err := a.cfg.Components.Resolve(ctx, candidates, p)
	if err != nil {
		return nil, about(kindComponent, strings.Join(slices.Sorted(maps.Keys(asked)), ", "), err)
	}
	out := &resolveOut{Resolved: make([]resolvedVersion, len(resolved))}
	for i, r := range resolved {
		out.Resolved[i] = resolvedVersion{ARN: r.ARN, Name: r.Name, Version: r.Version, Recipe: r.Recipe, Guidance: r.VendorGuidance}
	}
	return out, nil
}
