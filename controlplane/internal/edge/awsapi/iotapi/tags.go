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

// tagged is a kind of resource that has tags.
type tagged struct {
	tags  func(ctx context.Context, name string) (map[string]string, error)
	retag func(ctx context.Context, name string, set map[string]string, remove []string) error
}

// tagged returns the kinds by the word in their ARNs.
func (a *api) tagged() map[string]tagged {
	r := a.cfg.Registry
	return map[string]tagged{
		"thinggroup": {func(ctx context.Context, name string) (map[string]string, error) {
			g, err := r.Group(ctx, name)
			return g.Value.Tags, err
		}, r.TagGroup},
		"thingtype": {func(ctx context.Context, name string) (map[string]string, error) {
			t, err := r.ThingType(ctx, name)
			return t.Tags, err
		}, r.TagThingType},
		"rolealias": {func(ctx context.Context, name string) (map[string]string, error) {
			x, err := r.RoleAlias(ctx, name)
			return x.Tags, err
		}, r.TagRoleAlias},
		"provisioningtemplate": {func(ctx context.Context, name string) (map[string]string, error) {
			t, _, err := a.cfg.Claims.Template(ctx, name)
			return t.Tags, err
		}, a.cfg.Claims.TagTemplate},
	}
}

// resource splits the ARN of something that can have tags.
func (a *api) resource(arn string) (of tagged, name string, err error) {
	path, ok := strings.CutPrefix(arn, strings.TrimSuffix(a.cfg.Realm.Thing(""), "thing/"))
	kind, name, _ := strings.Cut(path, "/")
	if !ok || name == "" {
		return of, "", fault.Field("resourceArn", "is %.200q, which is no ARN of this account and region", arn)
	}
	kinds := a.tagged()
	if of, ok = kinds[kind]; !ok {
		return of, "", fault.Field("resourceArn", "is of a %s; this server keeps tags of %s", kind, strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	}
	return of, name, nil
}

func (a *api) retag(ctx context.Context, arn string, set map[string]string, remove []string) error {
	of, name, err := a.resource(arn)
	if err != nil {
		return err
	}
	return of.retag(ctx, name, set, remove)
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
	of, name, err := a.resource(in.ARN)
	if err != nil {
		return nil, err
	}
	tags, err := of.tags(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &listTagsOut{Tags: []tag{}}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		out.Tags = append(out.Tags, tag{k, tags[k]})
	}
	return out, nil
}
