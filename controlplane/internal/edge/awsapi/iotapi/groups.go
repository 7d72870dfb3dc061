package iotapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
)

func (a *api) groupOperations() []rest.Operation {
	return []rest.Operation{
		{Name: "CreateThingGroup", Method: http.MethodPost, Path: "/thing-groups/{thingGroupName}", Call: rest.Handle(a.createGroup)},
		{Name: "DescribeThingGroup", Method: http.MethodGet, Path: "/thing-groups/{thingGroupName}", Call: rest.Handle(a.describeGroup)},
		{Name: "UpdateThingGroup", Method: http.MethodPatch, Path: "/thing-groups/{thingGroupName}", Call: rest.Handle(a.updateGroup)},
		{Name: "DeleteThingGroup", Method: http.MethodDelete, Path: "/thing-groups/{thingGroupName}", Call: rest.Handle(a.deleteGroup)},
		{Name: "ListThingGroups", Method: http.MethodGet, Path: "/thing-groups", Call: rest.Handle(a.listGroups)},
		{Name: "AddThingToThingGroup", Method: http.MethodPut, Path: "/thing-groups/addThingToThingGroup", Call: rest.Handle(a.addToGroup)},
		{Name: "RemoveThingFromThingGroup", Method: http.MethodPut, Path: "/thing-groups/removeThingFromThingGroup", Call: rest.Handle(a.removeFromGroup)},
		{Name: "UpdateThingGroupsForThing", Method: http.MethodPut, Path: "/thing-groups/updateThingGroupsForThing", Call: rest.Handle(a.updateGroupsOf)},
		{Name: "ListThingsInThingGroup", Method: http.MethodGet, Path: "/thing-groups/{thingGroupName}/things", Call: rest.Handle(a.listMembers)},
		{Name: "ListThingGroupsForThing", Method: http.MethodGet, Path: "/things/{thingName}/thing-groups", Call: rest.Handle(a.listGroupsOf)},
	}
}

type groupProperties struct {
	Description *string           `json:"thingGroupDescription,omitempty" check:"len=0..2028,pattern=description"`
	Attributes  *attributePayload `json:"attributePayload,omitempty"`
}

type createGroupIn struct {
	Name       string          `path:"thingGroupName" check:"len=1..128,pattern=thing"`
	Parent     string          `json:"parentGroupName" check:"len=1..128,pattern=thing"`
	Properties groupProperties `json:"thingGroupProperties"`
	Tags       []tag           `json:"tags"`
}

type createGroupOut struct {
	Name string `json:"thingGroupName"`
	ARN  string `json:"thingGroupArn"`
	ID   string `json:"thingGroupId"`
}

func (a *api) createGroup(ctx context.Context, in *createGroupIn) (*createGroupOut, error) {
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	n := iot.NewGroup{Name: in.Name, Parent: in.Parent, Tags: tags}
	n.Attributes, _ = in.Properties.Attributes.given()
	if d := in.Properties.Description; d != nil {
		n.Description = *d
	}
	arn := a.cfg.Realm.ThingGroup(in.Name)
	g, err := a.cfg.Registry.CreateGroup(ctx, n)
	if err != nil {
		return nil, exists(in.Name, arn, err)
	}
	return &createGroupOut{Name: g.Name, ARN: arn, ID: g.ID}, nil
}

type groupIn struct {
	Name string `path:"thingGroupName" check:"len=1..128,pattern=thing"`
}

type groupMetadata struct {
	Parent    string       `json:"parentGroupName,omitempty"`
	Parents   []nameAndARN `json:"rootToParentThingGroups,omitempty"`
	CreatedAt rest.Time    `json:"creationDate"`
}

type nameAndARN struct {
	Name string `json:"groupName"`
	ARN  string `json:"groupArn"`
}

type describeGroupOut struct {
	Name       string          `json:"thingGroupName"`
	ID         string          `json:"thingGroupId"`
	ARN        string          `json:"thingGroupArn"`
	Version    int64           `json:"version"`
	Properties groupProperties `json:"thingGroupProperties"`
	Metadata   groupMetadata   `json:"thingGroupMetadata"`
}

func (a *api) describeGroup(ctx context.Context, in *groupIn) (*describeGroupOut, error) {
	rec, err := a.cfg.Registry.Group(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	g := rec.Value
	out := &describeGroupOut{
		Name: g.Name, ID: g.ID, ARN: a.cfg.Realm.ThingGroup(g.Name), Version: max(g.Version, 1),
		Properties: groupProperties{Description: &g.Description, Attributes: &attributePayload{Attributes: g.Attributes}},
		Metadata:   groupMetadata{Parent: g.Parent(), CreatedAt: rest.At(g.CreatedAt)},
	}
	if len(g.Parents) > 0 {
		out.Metadata.Parents = a.groupNames(g.Parents)
	}
	return out, nil
}

func (a *api) groupNames(groups []string) []nameAndARN {
	out := make([]nameAndARN, len(groups))
	for i, g := range groups {
		out[i] = nameAndARN{g, a.cfg.Realm.ThingGroup(g)}
	}
	return out
}

type updateGroupIn struct {
	Name       string           `path:"thingGroupName" check:"len=1..128,pattern=thing"`
	Properties *groupProperties `json:"thingGroupProperties" check:"required"`
	Expected   *int64           `json:"expectedVersion"`
}

type updateGroupOut struct {
	Version int64 `json:"version"`
}

func (a *api) updateGroup(ctx context.Context, in *updateGroupIn) (*updateGroupOut, error) {
	c := iot.GroupChange{Description: in.Properties.Description, Expected: in.Expected}
	c.Attributes, c.Merge = in.Properties.Attributes.given()
	v, err := a.cfg.Registry.UpdateGroup(ctx, in.Name, c)
	if err != nil {
		return nil, err
	}
	return &updateGroupOut{v}, nil
}

type deleteGroupIn struct {
	Name     string `path:"thingGroupName" check:"len=1..128,pattern=thing"`
	Expected *int64 `query:"expectedVersion"`
}

func (a *api) deleteGroup(ctx context.Context, in *deleteGroupIn) (*rest.Empty, error) {
	return nil, a.cfg.Greengrass.RemoveGroup(ctx, in.Name, in.Expected)
}

type listGroupsIn struct {
	Token     string `query:"nextToken"`
	Max       *int32 `query:"maxResults" check:"range=1..250"`
	Parent    string `query:"parentGroup" check:"len=1..128,pattern=thing"`
	Prefix    string `query:"namePrefixFilter" check:"len=1..128,pattern=thing"`
	Recursive *bool  `query:"recursive"`
}

type listGroupsOut struct {
	Groups []nameAndARN `json:"thingGroups"`
	Token  string       `json:"nextToken,omitempty"`
}

// listGroups shows the children of parentGroup, or with recursive all groups under
// it. Without parentGroup it shows all groups, unless recursive is false: then those
// at the top.
func (a *api) listGroups(ctx context.Context, in *listGroupsIn) (*listGroupsOut, error) {
	recursive := in.Parent == ""
	if in.Recursive != nil {
		recursive = *in.Recursive
	}
	filters := []string{"groups", in.Parent, in.Prefix, strconv.FormatBool(recursive)}
	after, err := rest.After(in.Token, filters...)
	if err != nil {
		return nil, err
	}
	f := iot.GroupFilter{Prefix: in.Prefix, Parent: in.Parent, Recursive: recursive}
	page, more, err := a.cfg.Registry.Groups(ctx, f, after, rest.Limit(in.Max, pageSize))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(page))
	for i, g := range page {
		names[i] = g.Name
	}
	out := &listGroupsOut{Groups: a.groupNames(names)}
	if more {
		out.Token = rest.Token(names[len(names)-1], filters...)
	}
	return out, nil
}
