package iotapi

import (
	"context"
	"slices"
	"strconv"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

type memberIn struct {
	Group    string `json:"thingGroupName" check:"len=1..128,pattern=thing"`
	GroupARN string `json:"thingGroupArn"`
	Thing    string `json:"thingName" check:"len=1..128,pattern=thing"`
	ThingARN string `json:"thingArn"`
	Override *bool  `json:"overrideDynamicGroups"` // there are none to push the thing out of
}

// named returns thing and group, each of which is named by its name or its ARN.
func (a *api) named(in *memberIn) (thing, group string, err error) {
	if thing, err = a.byNameOrARN("thing", in.Thing, in.ThingARN, names.TargetThing); err != nil {
		return "", "", err
	}
	group, err = a.byNameOrARN("thingGroup", in.Group, in.GroupARN, names.TargetThingGroup)
	return thing, group, err
}

func (a *api) byNameOrARN(member, name, arn string, kind names.TargetKind) (string, error) {
	if arn == "" {
		if name == "" {
			return "", fault.Field(member+"Name", "is missing; name it, or give %sArn", member)
		}
		return name, nil
	}
	k, of, err := names.ParseTarget(arn)
	full := a.cfg.Realm.Thing(of)
	if kind == names.TargetThingGroup {
		full = a.cfg.Realm.ThingGroup(of)
	}
	switch {
	case err != nil || k != kind || full != arn:
		return "", fault.Field(member+"Arn", "is %.200q, which is no ARN of this account and region for it", arn)
	case name != "" && name != of:
		return "", fault.Field(member+"Arn", "is of %s, but %sName is %s", of, member, name)
	}
	return of, nil
}

func (a *api) addToGroup(ctx context.Context, in *memberIn) (*rest.Empty, error) {
	thing, group, err := a.named(in)
	if err != nil {
		return nil, err
	}
	return nil, a.cfg.Greengrass.Regroup(ctx, thing, nil, []string{group})
}

func (a *api) removeFromGroup(ctx context.Context, in *memberIn) (*rest.Empty, error) {
	thing, group, err := a.named(in)
	if err != nil {
		return nil, err
	}
	return nil, a.cfg.Greengrass.Regroup(ctx, thing, []string{group}, nil)
}

type updateGroupsOfIn struct {
	Thing    string   `json:"thingName" check:"required,len=1..128,pattern=thing"`
	Add      []string `json:"thingGroupsToAdd" check:"items=0..10,item.len=1..128,item.pattern=thing"`
	Remove   []string `json:"thingGroupsToRemove" check:"items=0..100,item.len=1..128,item.pattern=thing"`
	Override *bool    `json:"overrideDynamicGroups"`
}

func (a *api) updateGroupsOf(ctx context.Context, in *updateGroupsOfIn) (*rest.Empty, error) {
	return nil, a.cfg.Greengrass.Regroup(ctx, in.Thing, in.Remove, in.Add)
}

type listMembersIn struct {
	Group     string `path:"thingGroupName" check:"len=1..128,pattern=thing"`
	Recursive bool   `query:"recursive"`
	Token     string `query:"nextToken"`
	Max       *int32 `query:"maxResults" check:"range=1..250"`
}

type listMembersOut struct {
	Things []string `json:"things"`
	Token  string   `json:"nextToken,omitempty"`
}

func (a *api) listMembers(ctx context.Context, in *listMembersIn) (*listMembersOut, error) {
	filters := []string{"members", in.Group, strconv.FormatBool(in.Recursive)}
	after, err := rest.After(in.Token, filters...)
	if err != nil {
		return nil, err
	}
	page, next, err := a.cfg.Registry.MembersUnder(ctx, in.Group, in.Recursive, after, rest.Limit(in.Max, pageSize))
	if err != nil {
		return nil, err
	}
	out := &listMembersOut{Things: append([]string{}, page...)}
	if next != "" {
		out.Token = rest.Token(next, filters...)
	}
	return out, nil
}

type listGroupsOfIn struct {
	Thing string `path:"thingName" check:"len=1..128,pattern=thing"`
	Token string `query:"nextToken"`
	Max   *int32 `query:"maxResults" check:"range=1..250"`
}

// listGroupsOf shows the groups in the order of their names: a page goes on after a
// name, and the thing may change groups between two pages.
func (a *api) listGroupsOf(ctx context.Context, in *listGroupsOfIn) (*listGroupsOut, error) {
	after, err := rest.After(in.Token, "groupsOf", in.Thing)
	if err != nil {
		return nil, err
	}
	t, err := a.cfg.Registry.Thing(ctx, in.Thing)
	if err != nil {
		return nil, err
	}
	groups := slices.DeleteFunc(slices.Sorted(slices.Values(t.Value.Groups)), func(g string) bool { return g <= after })
	limit := rest.Limit(in.Max, pageSize)
	out := &listGroupsOut{Groups: a.groupNames(groups[:min(limit, len(groups))])}
	if len(groups) > limit {
		out.Token = rest.Token(groups[limit-1], "groupsOf", in.Thing)
	}
	return out, nil
}
