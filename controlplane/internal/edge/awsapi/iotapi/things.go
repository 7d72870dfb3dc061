package iotapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (a *api) thingOperations() []rest.Operation {
	return []rest.Operation{
		{Name: "CreateThing", Method: http.MethodPost, Path: "/things/{thingName}", Call: rest.Handle(a.createThing)},
		{Name: "DescribeThing", Method: http.MethodGet, Path: "/things/{thingName}", Call: rest.Handle(a.describeThing)},
		{Name: "UpdateThing", Method: http.MethodPatch, Path: "/things/{thingName}", Call: rest.Handle(a.updateThing)},
		{Name: "DeleteThing", Method: http.MethodDelete, Path: "/things/{thingName}", Call: rest.Handle(a.deleteThing)},
		{Name: "ListThings", Method: http.MethodGet, Path: "/things", Call: rest.Handle(a.listThings)},
	}
}

// pageSize is how many entries a page has when the caller does not say.
const pageSize = 250

type attributePayload struct {
	Attributes map[string]string `json:"attributes,omitempty" check:"key.len=1..128,key.pattern=attributeName,value.len=0..800,value.pattern=attributeValue"`
	Merge      bool              `json:"merge,omitempty"`
}

// given are the attributes as the registry takes them: nil says that none were
// named, the empty map that all are to go.
func (p *attributePayload) given() (attributes map[string]string, merge bool) {
	if p == nil {
		return nil, false
	}
	if p.Attributes == nil && !p.Merge {
		return map[string]string{}, false
	}
	return p.Attributes, p.Merge
}

type createThingIn struct {
	Name       string            `path:"thingName" check:"len=1..128,pattern=thing"`
	Type       string            `json:"thingTypeName" check:"len=1..128,pattern=thing"`
	Attributes *attributePayload `json:"attributePayload"`
	Billing    string            `json:"billingGroupName" check:"len=1..128,pattern=thing"`
}

type createThingOut struct {
	Name string `json:"thingName"`
	ARN  string `json:"thingArn"`
	ID   string `json:"thingId"`
}

func (a *api) createThing(ctx context.Context, in *createThingIn) (*createThingOut, error) {
	if in.Billing != "" {
		return nil, rest.Fail(http.StatusNotFound, "ResourceNotFoundException", "Billing group "+in.Billing+" does not exist: this server has no billing groups.", nil)
	}
	attributes, _ := in.Attributes.given()
	t, err := a.cfg.Registry.CreateThing(ctx, iot.NewThing{Name: in.Name, Type: in.Type, Attributes: attributes})
	arn := a.cfg.Realm.Thing(in.Name)
	if err != nil {
		return nil, exists(in.Name, arn, err)
	}
	return &createThingOut{Name: t.Name, ARN: arn, ID: t.ID}, nil
}

type thingIn struct {
	Name string `path:"thingName" check:"len=1..128,pattern=thing"`
}

type describeThingOut struct {
	ClientID   string            `json:"defaultClientId"`
	Name       string            `json:"thingName"`
	ID         string            `json:"thingId"`
	ARN        string            `json:"thingArn"`
	Type       string            `json:"thingTypeName,omitempty"`
	Attributes map[string]string `json:"attributes"`
	Version    int64             `json:"version"`
}

func (a *api) describeThing(ctx context.Context, in *thingIn) (*describeThingOut, error) {
	rec, err := a.cfg.Registry.Thing(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	t := rec.Value
	return &describeThingOut{
		ClientID: t.Name, Name: t.Name, ID: t.ID, ARN: a.cfg.Realm.Thing(t.Name), Type: t.Type, Attributes: orEmpty(t.Attributes), Version: t.Version,
	}, nil
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

type updateThingIn struct {
	Name       string            `path:"thingName" check:"len=1..128,pattern=thing"`
	Type       string            `json:"thingTypeName" check:"len=1..128,pattern=thing"`
	Attributes *attributePayload `json:"attributePayload"`
	Expected   *int64            `json:"expectedVersion"`
	RemoveType bool              `json:"removeThingType"`
}

func (a *api) updateThing(ctx context.Context, in *updateThingIn) (*rest.Empty, error) {
	c := iot.ThingChange{Type: in.Type, RemoveType: in.RemoveType, Expected: in.Expected}
	c.Attributes, c.Merge = in.Attributes.given()
	return nil, a.cfg.Registry.UpdateThing(ctx, in.Name, c)
}

type deleteThingIn struct {
	Name     string `path:"thingName" check:"len=1..128,pattern=thing"`
	Expected *int64 `query:"expectedVersion"`
}

func (a *api) deleteThing(ctx context.Context, in *deleteThingIn) (*rest.Empty, error) {
	return nil, a.cfg.Greengrass.RemoveThing(ctx, in.Name, in.Expected)
}

type listThingsIn struct {
	Token     string `query:"nextToken"`
	Max       *int32 `query:"maxResults" check:"range=1..250"`
	Attribute string `query:"attributeName" check:"len=1..128,pattern=attributeName"`
	Value     string `query:"attributeValue" check:"len=0..800,pattern=attributeValue"`
	Type      string `query:"thingTypeName" check:"len=1..128,pattern=thing"`
	Prefix    bool   `query:"usePrefixAttributeValue"`
}

type listThingsOut struct {
	Things []thingAttribute `json:"things"`
	Token  string           `json:"nextToken,omitempty"`
}

type thingAttribute struct {
	Name       string            `json:"thingName"`
	Type       string            `json:"thingTypeName,omitempty"`
	ARN        string            `json:"thingArn"`
	Attributes map[string]string `json:"attributes"`
	Version    int64             `json:"version"`
}

func (a *api) listThings(ctx context.Context, in *listThingsIn) (*listThingsOut, error) {
	if in.Value != "" && in.Attribute == "" {
		return nil, fault.Field("attributeValue", "needs attributeName beside it")
	}
	filters := []string{"things", in.Attribute, in.Value, in.Type, strconv.FormatBool(in.Prefix)}
	after, err := rest.After(in.Token, filters...)
	if err != nil {
		return nil, err
	}
	f := iot.ThingFilter{Type: in.Type, Attribute: in.Attribute, Value: in.Value, Prefix: in.Prefix}
	page, more, err := a.cfg.Registry.Things(ctx, f, after, rest.Limit(in.Max, pageSize))
	if err != nil {
		return nil, err
	}
	out := &listThingsOut{Things: make([]thingAttribute, len(page))}
	for i, t := range page {
		out.Things[i] = thingAttribute{Name: t.Name, Type: t.Type, ARN: a.cfg.Realm.Thing(t.Name), Attributes: t.Attributes, Version: t.Version}
	}
	if more {
		out.Token = rest.Token(page[len(page)-1].Name, filters...)
	}
	return out, nil
}
