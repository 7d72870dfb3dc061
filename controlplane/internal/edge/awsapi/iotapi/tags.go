package iotapi

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (a *api) tagOperations() []rest.Operation {
	return []rest.Operation{
		{Name: "TagResource", Method: http.MethodPost, Path: "/tags", Call: rest.Handle(a.tagResource)},
		{Name: "UntagResource", Method: http.MethodPost, Path: "/untag", Call: rest.Handle(a.untagResource)},
		{Name: "ListTagsForResource", Method: http.MethodGet, Path: "/tags", Call: rest.Handle(a.listTags)},
	}
}

type tag struct {
	Key   string `json:"Key" check:"required,len=1..128,pattern=tagKey"`
	Value string `json:"Value" check:"len=0..256"`
}

func tagMap(list []tag) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	out := make(map[string]string, len(list))
	for _, t := range list {
		if _, twice := out[t.Key]; twice {
			return nil, fault.Field("tags", "has the key %s twice", t.Key)
		}
		out[t.Key] = t.Value
	}
	return out, nil
}

// retag changes the tags of the group or thing type that the ARN names.
func (a *api) retag(ctx context.Context, arn string, set map[string]string, remove []string) error {
	kind, name, err := a.resource(arn)
	if err != nil {
		return err
	}
	if kind == "thinggroup" {
		return a.cfg.Registry.TagGroup(ctx, name, set, remove)
	}
	return a.cfg.Registry.TagThingType(ctx, name, set, remove)
}

// resource splits the ARN of something that can have tags.
func (a *api) resource(arn string) (kind, name string, err error) {
	path, ok := strings.CutPrefix(arn, strings.TrimSuffix(a.cfg.Realm.Thing(""), "thing/"))
	kind, name, _ = strings.Cut(path, "/")
	switch {
	case !ok || name == "":
		return "", "", fault.Field("resourceArn", "is %.200q, which is no ARN of this account and region", arn)
	case kind != "thinggroup" && kind != "thingtype":
		return "", "", fault.Field("resourceArn", "is of a %s; this server keeps tags of thing groups and thing types", kind)
	}
	return kind, name, nil
}

type tagResourceIn struct {
	ARN  string `json:"resourceArn" check:"required,len=1.."`
	Tags []tag  `json:"tags" check:"required"`
}

func (a *api) tagResource(ctx context.Context, in *tagResourceIn) (*rest.Empty, error) {
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	return nil, a.retag(ctx, in.ARN, tags, nil)
}

type untagResourceIn struct {
	ARN  string   `json:"resourceArn" check:"required,len=1.."`
	Keys []string `json:"tagKeys" check:"required,item.len=1..128,item.pattern=tagKey"`
}

func (a *api) untagResource(ctx context.Context, in *untagResourceIn) (*rest.Empty, error) {
	return nil, a.retag(ctx, in.ARN, nil, in.Keys)
}

type listTagsIn struct {
	ARN   string `query:"resourceArn" check:"required,len=1.."`
	Token string `query:"nextToken"`
}

type listTagsOut struct {
	Tags []tag `json:"tags"`
}

// listTags answers with one page: a resource has no more tags than fit.
func (a *api) listTags(ctx context.Context, in *listTagsIn) (*listTagsOut, error) {
	if in.Token != "" {
		return nil, fault.Field("nextToken", "is no token of this server; all tags are on the first page")
	}
	kind, name, err := a.resource(in.ARN)
	if err != nil {
		return nil, err
	}
	var tags map[string]string
	if kind == "thinggroup" {
		g, e := a.cfg.Registry.Group(ctx, name)
		tags, err = g.Value.Tags, e
	} else {
		t, e := a.cfg.Registry.ThingType(ctx, name)
		tags, err = t.Tags, e
	}
	if err != nil {
		return nil, err
	}
	out := &listTagsOut{Tags: []tag{}}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		out.Tags = append(out.Tags, tag{k, tags[k]})
	}
	return out, nil
}
