package iotapi

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (a *api) principalOperations() []rest.Operation {
	return []rest.Operation{
		{Name: "AttachThingPrincipal", Method: http.MethodPut, Path: "/things/{thingName}/principals", Call: rest.Handle(a.attachPrincipal)},
		{Name: "DetachThingPrincipal", Method: http.MethodDelete, Path: "/things/{thingName}/principals", Call: rest.Handle(a.detachPrincipal)},
		{Name: "ListThingPrincipals", Method: http.MethodGet, Path: "/things/{thingName}/principals", Call: rest.Handle(a.listPrincipals)},
		{Name: "ListPrincipalThings", Method: http.MethodGet, Path: "/principals/things", Call: rest.Handle(a.listPrincipalThings)},
		{Name: "ListThingPrincipalsV2", Method: http.MethodGet, Path: "/things/{thingName}/principals-v2", Call: rest.Handle(a.listPrincipalsV2)},
		{Name: "ListPrincipalThingsV2", Method: http.MethodGet, Path: "/principals/things-v2", Call: rest.Handle(a.listPrincipalThingsV2)},
	}
}

var certificateID = regexp.MustCompile(`^[a-f0-9]{64}$`)

// certificateOf is the id of the certificate that a principal's ARN names.
func (a *api) certificateOf(member, arn string) (string, error) {
	id, ok := strings.CutPrefix(arn, a.cfg.Realm.Certificate(""))
	if !ok || !certificateID.MatchString(id) {
		return "", fault.Field(member, "is %.200q, want the ARN of a certificate of this account and region: %s<id>", arn, a.cfg.Realm.Certificate(""))
	}
	return id, nil
}

const (
	exclusive    = "EXCLUSIVE_THING"
	nonExclusive = "NON_EXCLUSIVE_THING"
)

func typeOf(c iot.Certificate) string {
	if c.Exclusive {
		return exclusive
	}
	return nonExclusive
}

type attachPrincipalIn struct {
	Thing     string `path:"thingName" check:"len=1..128,pattern=thing"`
	Principal string `header:"x-amzn-principal" check:"required"`
	Type      string `query:"thingPrincipalType" check:"enum=EXCLUSIVE_THING|NON_EXCLUSIVE_THING"`
}

func (a *api) attachPrincipal(ctx context.Context, in *attachPrincipalIn) (*rest.Empty, error) {
	id, err := a.certificateOf("principal", in.Principal)
	if err != nil {
		return nil, err
	}
	var alone *bool
	if in.Type != "" {
		alone = new(in.Type == exclusive)
	}
	return nil, a.cfg.Registry.AttachPrincipal(ctx, in.Thing, id, alone)
}

type detachPrincipalIn struct {
	Thing     string `path:"thingName" check:"len=1..128,pattern=thing"`
	Principal string `header:"x-amzn-principal" check:"required"`
}

func (a *api) detachPrincipal(ctx context.Context, in *detachPrincipalIn) (*rest.Empty, error) {
	id, err := a.certificateOf("principal", in.Principal)
	if err != nil {
		return nil, err
	}
	return nil, a.cfg.Registry.DetachPrincipal(ctx, in.Thing, id)
}

type listPrincipalsIn struct {
	Thing string `path:"thingName" check:"len=1..128,pattern=thing"`
	Token string `query:"nextToken"`
	Max   *int32 `query:"maxResults" check:"range=1..250"`
}

type listPrincipalsOut struct {
	Principals []string `json:"principals"`
	Token      string   `json:"nextToken,omitempty"`
}

func (a *api) listPrincipals(ctx context.Context, in *listPrincipalsIn) (*listPrincipalsOut, error) {
	t, err := a.cfg.Registry.Thing(ctx, in.Thing)
	if err != nil {
		return nil, err
	}
	page, next, err := cutPage(t.Value.Principals, in.Token, in.Max, "principals", in.Thing)
	if err != nil {
		return nil, err
	}
	out := &listPrincipalsOut{Principals: []string{}, Token: next}
	for _, id := range page {
		out.Principals = append(out.Principals, a.cfg.Realm.Certificate(id))
	}
	return out, nil
}

// cutPage returns a page of a short list, in the order of the names: a page goes on
// after a name, whatever the list has become.
func cutPage(list []string, token string, limit *int32, filters ...string) (page []string, next string, err error) {
	after, err := rest.After(token, filters...)
	if err != nil {
		return nil, "", err
	}
	page = slices.DeleteFunc(slices.Sorted(slices.Values(list)), func(v string) bool { return v <= after })
	if n := rest.Limit(limit, pageSize); len(page) > n {
		page = page[:n]
		next = rest.Token(page[n-1], filters...)
	}
	return page, next, nil
}

type listPrincipalThingsIn struct {
	Principal string `header:"x-amzn-principal" check:"required"`
	Token     string `query:"nextToken"`
	Max       *int32 `query:"maxResults" check:"range=1..250"`
}

type listPrincipalThingsOut struct {
	Things []string `json:"things"`
	Token  string   `json:"nextToken,omitempty"`
}

func (a *api) listPrincipalThings(ctx context.Context, in *listPrincipalThingsIn) (*listPrincipalThingsOut, error) {
	c, err := a.principal(ctx, in.Principal)
	if err != nil {
		return nil, err
	}
	page, next, err := cutPage(c.Things, in.Token, in.Max, "things", c.ID)
	if err != nil {
		return nil, err
	}
	return &listPrincipalThingsOut{Things: append([]string{}, page...), Token: next}, nil
}

func (a *api) principal(ctx context.Context, arn string) (iot.Certificate, error) {
	id, err := a.certificateOf("principal", arn)
	if err != nil {
		return iot.Certificate{}, err
	}
	c, err := a.cfg.Registry.Certificate(ctx, id)
	return c.Value, err
}

type listPrincipalsV2In struct {
	Thing string `path:"thingName" check:"len=1..128,pattern=thing"`
	Token string `query:"nextToken"`
	Max   *int32 `query:"maxResults" check:"range=1..250"`
	Type  string `query:"thingPrincipalType" check:"enum=EXCLUSIVE_THING|NON_EXCLUSIVE_THING"`
}

type principalObject struct {
	Principal string `json:"principal"`
	Type      string `json:"thingPrincipalType"`
}

type listPrincipalsV2Out struct {
	Principals []principalObject `json:"thingPrincipalObjects"`
	Token      string            `json:"nextToken,omitempty"`
}

func (a *api) listPrincipalsV2(ctx context.Context, in *listPrincipalsV2In) (*listPrincipalsV2Out, error) {
	t, err := a.cfg.Registry.Thing(ctx, in.Thing)
	if err != nil {
		return nil, err
	}
	certificates, err := a.cfg.Registry.Certificates(ctx, t.Value)
	if err != nil {
		return nil, err
	}
	types, ids := map[string]string{}, []string{}
	for _, c := range certificates {
		if types[c.ID] = typeOf(c); in.Type == "" || in.Type == typeOf(c) {
			ids = append(ids, c.ID)
		}
	}
	page, next, err := cutPage(ids, in.Token, in.Max, "principals", in.Thing, in.Type)
	if err != nil {
		return nil, err
	}
	out := &listPrincipalsV2Out{Principals: []principalObject{}, Token: next}
	for _, id := range page {
		out.Principals = append(out.Principals, principalObject{a.cfg.Realm.Certificate(id), types[id]})
	}
	return out, nil
}

type listPrincipalThingsV2In struct {
	Principal string `header:"x-amzn-principal" check:"required"`
	Token     string `query:"nextToken"`
	Max       *int32 `query:"maxResults" check:"range=1..250"`
	Type      string `query:"thingPrincipalType" check:"enum=EXCLUSIVE_THING|NON_EXCLUSIVE_THING"`
}

type principalThing struct {
	Thing string `json:"thingName"`
	Type  string `json:"thingPrincipalType"`
}

type listPrincipalThingsV2Out struct {
	Things []principalThing `json:"principalThingObjects"`
	Token  string           `json:"nextToken,omitempty"`
}

func (a *api) listPrincipalThingsV2(ctx context.Context, in *listPrincipalThingsV2In) (*listPrincipalThingsV2Out, error) {
	c, err := a.principal(ctx, in.Principal)
	if err != nil {
		return nil, err
	}
	things := c.Things
	if in.Type != "" && in.Type != typeOf(c) {
		things = nil
	}
	page, next, err := cutPage(things, in.Token, in.Max, "things", c.ID, in.Type)
	if err != nil {
		return nil, err
	}
	out := &listPrincipalThingsV2Out{Things: []principalThing{}, Token: next}
	for _, n := range page {
		out.Things = append(out.Things, principalThing{n, typeOf(c)})
	}
	return out, nil
}
