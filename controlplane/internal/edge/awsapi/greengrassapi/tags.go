package greengrassapi

import (
	"context"
	"maps"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

func (a *api) tagOperations() []rest.Operation {
	const tags = "/tags/{resourceArn}"
	return []rest.Operation{
		{Name: "TagResource", Method: "POST", Path: tags, Call: rest.Handle(a.tagResource)},
		{Name: "UntagResource", Method: "DELETE", Path: tags, Call: rest.Handle(a.untagResource)},
		{Name: "ListTagsForResource", Method: "GET", Path: tags, Call: rest.Handle(a.listTags)},
	}
}

// tagged is a resource that has tags.
type tagged struct {
	kind, id string
	tags     func(ctx context.Context) (map[string]string, error)
	set      func(ctx context.Context, change func(map[string]string)) error
}

// tagged returns the resource of the ARN, which may not be there yet.
func (a *api) tagged(arn string) (tagged, error) {
	gg := a.cfg.Greengrass
	part := strings.SplitN(arn, ":", 7) // the pattern promises as many
	kind, id := part[5], part[6]
	var out tagged
	own := arn
	switch kind {
	case "coreDevices":
		own = a.cfg.Realm.CoreDevice(id)
		out = tagged{
			kind: kindCore, id: id,
			tags: func(ctx context.Context) (map[string]string, error) {
				if err := a.known(ctx, id); err != nil {
					return nil, err
				}
				return gg.CoreTags(ctx, id)
			},
			set: func(ctx context.Context, change func(map[string]string)) error {
				return gg.SetCoreTags(ctx, id, change)
			},
		}
	case "deployments":
		own = a.cfg.Realm.Deployment(id)
		out = tagged{
			kind: kindDeployment, id: id,
			tags: func(ctx context.Context) (map[string]string, error) {
				d, err := gg.Deployment(ctx, id)
				return d.Tags, err
			},
			set: func(ctx context.Context, change func(map[string]string)) error {
				return gg.SetTags(ctx, id, change)
			},
		}
	default:
		if _, _, err := names.ParseComponentVersionARN(arn); err != nil {
			return tagged{}, fault.Field("resourceArn", "%.300q is not the ARN of a component version, which has the tags of a component", arn)
		}
		out = tagged{
			kind: kindComponent, id: arn,
			tags: func(ctx context.Context) (map[string]string, error) {
				v, err := a.cfg.Components.GetByARN(ctx, arn)
				return v.Tags, err
			},
			set: func(ctx context.Context, change func(map[string]string)) error {
				return a.cfg.Components.SetTags(ctx, arn, change)
			},
		}
	}
	if own != arn {
		return tagged{}, about(out.kind, out.id, fault.New(fault.NotFound, "%s is of another account or region", arn))
	}
	return out, nil
}

type tagResourceIn struct {
	ARN  string            `path:"resourceArn" check:"pattern=resource"`
	Tags map[string]string `json:"tags" check:"required,items=1..200,key.len=1..128,value.len=0..256"`
}

func (a *api) tagResource(ctx context.Context, in *tagResourceIn) (*rest.Empty, error) {
	r, err := a.tagged(in.ARN)
	if err != nil {
		return nil, err
	}
	err = r.set(ctx, func(tags map[string]string) { maps.Copy(tags, in.Tags) })
	return nil, about(r.kind, r.id, err)
}

type untagResourceIn struct {
	ARN  string   `path:"resourceArn" check:"pattern=resource"`
	Keys []string `query:"tagKeys" check:"required,items=1..200,item.len=1..128"`
}

func (a *api) untagResource(ctx context.Context, in *untagResourceIn) (*rest.Empty, error) {
	r, err := a.tagged(in.ARN)
	if err != nil {
		return nil, err
	}
	err = r.set(ctx, func(tags map[string]string) {
		for _, k := range in.Keys {
			delete(tags, k)
		}
	})
	return nil, about(r.kind, r.id, err)
}

type listTagsIn struct {
	ARN string `path:"resourceArn" check:"pattern=resource"`
}

type listTagsOut struct {
	Tags map[string]string `json:"tags"`
}

func (a *api) listTags(ctx context.Context, in *listTagsIn) (*listTagsOut, error) {
	r, err := a.tagged(in.ARN)
	if err != nil {
		return nil, err
	}
	tags, err := r.tags(ctx)
	if err != nil {
		return nil, about(r.kind, r.id, err)
	}
	return &listTagsOut{Tags: some(tags)}, nil
}
