package iotapi

import (
	"context"
	"net/http"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
)

func (a *api) typeOperations() []rest.Operation {
	return []rest.Operation{
		{Name: "CreateThingType", Method: http.MethodPost, Path: "/thing-types/{thingTypeName}", Call: rest.Handle(a.createType)},
		{Name: "DescribeThingType", Method: http.MethodGet, Path: "/thing-types/{thingTypeName}", Call: rest.Handle(a.describeType)},
		{Name: "UpdateThingType", Method: http.MethodPatch, Path: "/thing-types/{thingTypeName}", Call: rest.Handle(a.updateType)},
		{Name: "DeprecateThingType", Method: http.MethodPost, Path: "/thing-types/{thingTypeName}/deprecate", Call: rest.Handle(a.deprecateType)},
		{Name: "DeleteThingType", Method: http.MethodDelete, Path: "/thing-types/{thingTypeName}", Call: rest.Handle(a.deleteType)},
		{Name: "ListThingTypes", Method: http.MethodGet, Path: "/thing-types", Call: rest.Handle(a.listTypes)},
	}
}

type typeProperties struct {
	Description *string  `json:"thingTypeDescription,omitempty" check:"len=0..2028,pattern=description"`
	Searchable  []string `json:"searchableAttributes,omitempty" check:"item.len=1..128,item.pattern=attributeName"`
}

type createTypeIn struct {
	Name       string         `path:"thingTypeName" check:"len=1..128,pattern=thing"`
	Properties typeProperties `json:"thingTypeProperties"`
	Tags       []tag          `json:"tags"`
}

type createTypeOut struct {
	Name string `json:"thingTypeName"`
	ARN  string `json:"thingTypeArn"`
	ID   string `json:"thingTypeId"`
}

func (a *api) createType(ctx context.Context, in *createTypeIn) (*createTypeOut, error) {
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	t := iot.ThingType{Name: in.Name, Searchable: in.Properties.Searchable, Tags: tags}
	if d := in.Properties.Description; d != nil {
		t.Description = *d
	}
	arn := a.cfg.Realm.ThingType(in.Name)
	if t, err = a.cfg.Registry.CreateThingType(ctx, t); err != nil {
		return nil, exists(in.Name, arn, err)
	}
	return &createTypeOut{Name: t.Name, ARN: arn, ID: t.ID}, nil
}

type typeIn struct {
	Name string `path:"thingTypeName" check:"len=1..128,pattern=thing"`
}

type typeMetadata struct {
	Deprecated   bool      `json:"deprecated"`
	DeprecatedAt rest.Time `json:"deprecationDate,omitzero"`
	CreatedAt    rest.Time `json:"creationDate"`
}

type typeDefinition struct {
	Name       string         `json:"thingTypeName"`
	ARN        string         `json:"thingTypeArn"`
	Properties typeProperties `json:"thingTypeProperties"`
	Metadata   typeMetadata   `json:"thingTypeMetadata"`
}

type describeTypeOut struct {
	ID string `json:"thingTypeId"`
	typeDefinition
}

func (a *api) definition(t iot.ThingType) typeDefinition {
	return typeDefinition{
		Name: t.Name, ARN: a.cfg.Realm.ThingType(t.Name),
		Properties: typeProperties{Description: &t.Description, Searchable: t.Searchable},
		Metadata:   typeMetadata{Deprecated: !t.DeprecatedAt.IsZero(), DeprecatedAt: rest.At(t.DeprecatedAt), CreatedAt: rest.At(t.CreatedAt)},
	}
}

func (a *api) describeType(ctx context.Context, in *typeIn) (*describeTypeOut, error) {
	t, err := a.cfg.Registry.ThingType(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &describeTypeOut{ID: t.ID, typeDefinition: a.definition(t)}, nil
}

type updateTypeIn struct {
	Name       string         `path:"thingTypeName" check:"len=1..128,pattern=thing"`
	Properties typeProperties `json:"thingTypeProperties"`
}

func (a *api) updateType(ctx context.Context, in *updateTypeIn) (*rest.Empty, error) {
	return nil, a.cfg.Registry.UpdateThingType(ctx, in.Name, in.Properties.Description, in.Properties.Searchable)
}

type deprecateTypeIn struct {
	Name string `path:"thingTypeName" check:"len=1..128,pattern=thing"`
	Undo bool   `json:"undoDeprecate"`
}

func (a *api) deprecateType(ctx context.Context, in *deprecateTypeIn) (*rest.Empty, error) {
	return nil, a.cfg.Registry.DeprecateThingType(ctx, in.Name, in.Undo)
}

func (a *api) deleteType(ctx context.Context, in *typeIn) (*rest.Empty, error) {
	return nil, a.cfg.Registry.DeleteThingType(ctx, in.Name)
}

type listTypesIn struct {
	Token string `query:"nextToken"`
	Max   *int32 `query:"maxResults" check:"range=1..250"`
	Name  string `query:"thingTypeName" check:"len=1..128,pattern=thing"`
}

type listTypesOut struct {
	Types []typeDefinition `json:"thingTypes"`
	Token string           `json:"nextToken,omitempty"`
}

// listTypes takes thingTypeName for the beginning of a name, as AWS does.
func (a *api) listTypes(ctx context.Context, in *listTypesIn) (*listTypesOut, error) {
	after, err := rest.After(in.Token, "types", in.Name)
	if err != nil {
		return nil, err
	}
	page, more, err := a.cfg.Registry.ThingTypes(ctx, in.Name, after, rest.Limit(in.Max, pageSize))
	if err != nil {
		return nil, err
	}
	out := &listTypesOut{Types: make([]typeDefinition, len(page))}
	for i, t := range page {
		out.Types[i] = a.definition(t)
	}
	if more {
		out.Token = rest.Token(page[len(page)-1].Name, "types", in.Name)
	}
	return out, nil
}
