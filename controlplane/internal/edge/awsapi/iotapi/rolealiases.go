package iotapi

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
)

func (a *api) roleAliasOperations() []rest.Operation {
	return []rest.Operation{
		{Name: "CreateRoleAlias", Method: http.MethodPost, Path: "/role-aliases/{roleAlias}", Call: rest.Handle(a.createRoleAlias)},
		{Name: "DescribeRoleAlias", Method: http.MethodGet, Path: "/role-aliases/{roleAlias}", Call: rest.Handle(a.describeRoleAlias)},
		{Name: "UpdateRoleAlias", Method: http.MethodPut, Path: "/role-aliases/{roleAlias}", Call: rest.Handle(a.updateRoleAlias)},
		{Name: "DeleteRoleAlias", Method: http.MethodDelete, Path: "/role-aliases/{roleAlias}", Call: rest.Handle(a.deleteRoleAlias)},
		{Name: "ListRoleAliases", Method: http.MethodGet, Path: "/role-aliases", Call: rest.Handle(a.listRoleAliases)},
	}
}

type createRoleAliasIn struct {
	Name    string `path:"roleAlias" check:"len=1..128,pattern=roleAlias"`
	RoleARN string `json:"roleArn" check:"required,len=20..2048"`
	Seconds int32  `json:"credentialDurationSeconds" check:"range=900..43200"`
	Tags    []tag  `json:"tags"`
}

type roleAliasOut struct {
	Name string `json:"roleAlias"`
	ARN  string `json:"roleAliasArn"`
}

func (a *api) roleAlias(name string, err error) (*roleAliasOut, error) {
	if err != nil {
		return nil, err
	}
	return &roleAliasOut{name, a.cfg.Realm.RoleAlias(name)}, nil
}

func (a *api) createRoleAlias(ctx context.Context, in *createRoleAliasIn) (*roleAliasOut, error) {
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	err = a.cfg.Registry.CreateRoleAlias(ctx, iot.RoleAlias{Name: in.Name, RoleARN: in.RoleARN, DurationSeconds: int(in.Seconds), Tags: tags})
	return a.roleAlias(in.Name, exists(in.Name, a.cfg.Realm.RoleAlias(in.Name), err))
}

type roleAliasIn struct {
	Name string `path:"roleAlias" check:"len=1..128,pattern=roleAlias"`
}

type describeRoleAliasOut struct {
	Description roleAliasDescription `json:"roleAliasDescription"`
}

type roleAliasDescription struct {
	Name       string    `json:"roleAlias"`
	ARN        string    `json:"roleAliasArn"`
	RoleARN    string    `json:"roleArn"`
	Owner      string    `json:"owner"`
	Seconds    int       `json:"credentialDurationSeconds"`
	CreatedAt  rest.Time `json:"creationDate"`
	ModifiedAt rest.Time `json:"lastModifiedDate"`
}

func (a *api) describeRoleAlias(ctx context.Context, in *roleAliasIn) (*describeRoleAliasOut, error) {
	r, err := a.cfg.Registry.RoleAlias(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if r.ModifiedAt.IsZero() { // made before that was kept
		r.ModifiedAt = r.CreatedAt
	}
	return &describeRoleAliasOut{roleAliasDescription{
		Name: r.Name, ARN: a.cfg.Realm.RoleAlias(r.Name), RoleARN: r.RoleARN, Owner: a.cfg.Realm.Account, Seconds: r.DurationSeconds,
		CreatedAt: rest.At(r.CreatedAt), ModifiedAt: rest.At(r.ModifiedAt),
	}}, nil
}

type updateRoleAliasIn struct {
	Name    string `path:"roleAlias" check:"len=1..128,pattern=roleAlias"`
	RoleARN string `json:"roleArn" check:"len=20..2048"`
	Seconds int32  `json:"credentialDurationSeconds" check:"range=900..43200"`
}

func (a *api) updateRoleAlias(ctx context.Context, in *updateRoleAliasIn) (*roleAliasOut, error) {
	return a.roleAlias(in.Name, a.cfg.Registry.UpdateRoleAlias(ctx, in.Name, in.RoleARN, int(in.Seconds)))
}

func (a *api) deleteRoleAlias(ctx context.Context, in *roleAliasIn) (*rest.Empty, error) {
	return nil, a.cfg.Registry.DeleteRoleAlias(ctx, in.Name)
}

type listRoleAliasesIn struct {
	PageSize  *int32 `query:"pageSize" check:"range=1..250"`
	Marker    string `query:"marker"`
	Ascending bool   `query:"isAscendingOrder"`
}

type listRoleAliasesOut struct {
	Names []string `json:"roleAliases"`
	Next  string   `json:"nextMarker,omitempty"`
}

func (a *api) listRoleAliases(ctx context.Context, in *listRoleAliasesIn) (*listRoleAliasesOut, error) {
	order := strconv.FormatBool(in.Ascending)
	after, err := rest.AfterMarker(in.Marker, order)
	if err != nil {
		return nil, err
	}
	list, err := a.cfg.Registry.RoleAliases(ctx)
	if err != nil {
		return nil, err
	}
	if !in.Ascending {
		slices.Reverse(list)
	}
	if after != "" { // by time, so that the page goes on where the last one's end was deleted
		list = slices.DeleteFunc(list, func(r iot.RoleAlias) bool {
			c := strings.Compare(place(r), after)
			return c == 0 || (c < 0) == in.Ascending
		})
	}
	out := &listRoleAliasesOut{Names: []string{}}
	for i, r := range list {
		if i == rest.Limit(in.PageSize, 25) {
			out.Next = rest.Token(place(list[i-1]), order)
			break
		}
		out.Names = append(out.Names, r.Name)
	}
	return out, nil
}

// place sorts as role aliases are listed.
func place(r iot.RoleAlias) string {
	return r.CreatedAt.UTC().Format("2006-01-02T15:04:05.000000000") + " " + r.Name
}
