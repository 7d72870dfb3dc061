package component

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/clienttoken"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/tag"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/recipe"
)

// CreateOptions changes what Create does.
type CreateOptions struct {
	Tags map[string]string
	// Replace lets the version take the place of a stub, of one whose artifacts
	// never all came, or of one that FAILED: what an import does. A complete
	// version is never replaced.
	Replace bool
}

// Create makes a version from its recipe. With greengrass: artifacts it is
// REQUESTED until PutArtifact has brought them all, else DEPLOYABLE at once;
// s3: artifacts must be objects of our own bucket, which are read in the call,
// and devices get them by the greengrass: scheme. Errors are fault.Invalid with
// the member's path, fault.Exists if the version is there, and fault.Exhausted
// over a quota.
func (s *Service) Create(ctx context.Context, src []byte, o CreateOptions) (Version, error) {
	fresh, err := s.prepare(ctx, src, o)
	if err != nil {
		return Version{}, err
	}
	wrong, err := s.digest(ctx, &fresh)
	if err != nil {
		return Version{}, err
	}
	if len(wrong) > 0 {
		return Version{}, fault.New(fault.Invalid, "%s", wordErrors(wrong))
	}
	return s.commitNew(ctx, fresh, o, nil)
}

// Receipt is the answer of Request.
type Receipt struct {
	ARN       string    `json:"arn"`
	Name      string    `json:"name"`
	Version   string    `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
}

// Request is Create as the Greengrass V2 API promises it: that the s3: artifacts
// exist is checked in the call, but they are read after it, by Run, which makes
// the version DEPLOYABLE or FAILED. A clientToken that was used in the last eight
// hours gets the answer it got then (clienttoken.Once). The receipt of
// fault.Exists names what is there.
func (s *Service) Request(ctx context.Context, src []byte, tags map[string]string, clientToken string) (Receipt, error) {
	request := clienttoken.Request{Operation: "CreateComponentVersion", Token: clientToken, Body: []any{src, tags}}
	return clienttoken.Once(ctx, s.tokens, request, func(ctx context.Context, remember clienttoken.Remember[Receipt]) (Receipt, error) {
		o := CreateOptions{Tags: tags}
		fresh, err := s.prepare(ctx, src, o)
		receipt := Receipt{ARN: fresh.ARN, Name: fresh.Name, Version: fresh.Version, CreatedAt: fresh.CreatedAt}
		if err != nil {
			return receipt, err
		}
		_, err = s.commitNew(ctx, fresh, o, func(b *state.Batch) error { return remember(ctx, b, receipt) })
		return receipt, err
	})
}

// prepare makes a version of a recipe, with artifacts that are there but whose
// bytes nobody has read, and refuses what can be refused without that. With
// fault.Exists comes the version that is there.
func (s *Service) prepare(ctx context.Context, src []byte, o CreateOptions) (Version, error) {
	r, err := recipe.Parse(src)
	if err != nil {
		return Version{}, err
	}
	if err := tag.Check(o.Tags); err != nil {
		return Version{}, err
	}
	// Told early; the commit decides.
	old, err := s.Get(ctx, r.Name, r.Version)
	switch {
	case err == nil && !replaceable(old, o):
		return old, s.exists(old, o)
	case errors.Is(err, fault.NotFound):
		err = s.checkQuota(ctx, r.Name)
	}
	if err != nil {
		return Version{}, err
	}
	if err := s.finishDelete(ctx, r.Name, r.Version); err != nil {
		return Version{}, err
	}
	fresh := s.versionOf(r, src)
	fresh.Tags = o.Tags
	if fresh.Artifacts, err = s.expected(ctx, r); err != nil {
		return Version{}, err
	}
	return fresh, fresh.settle()
}

func (s *Service) checkQuota(ctx context.Context, name string) error {
	all, err := s.index(ctx)
	if err != nil {
		return fmt.Errorf("count components: %w", err)
	}
	switch components, versions := all.counts(name); {
	case versions >= s.cfg.MaxVersions:
		return fault.New(fault.Exhausted, "component %s has %d versions, the quota for versions per component: delete one first", name, versions)
	case versions == 0 && components >= s.cfg.MaxComponents:
		return fault.New(fault.Exhausted, "there are %d components, the quota for components: delete one first", components)
	}
	return nil
}

func (s *Service) versionOf(r *recipe.Recipe, src []byte) Version {
	return Version{
		Name: r.Name, Version: r.Version, ARN: s.cfg.Realm.ComponentVersion(r.Name, r.Version),
		Type: r.Type, Publisher: r.Publisher, Description: r.Description,
		Dependencies: r.Dependencies, Platforms: r.Platforms(),
		CreatedAt: s.cfg.Now().UTC(), Source: slices.Clone(src), Format: r.Format,
	}
}

// commitNew stores a new version; also (nil: nothing) adds to its commit.
func (s *Service) commitNew(ctx context.Context, fresh Version, o CreateOptions, also func(*state.Batch) error) (Version, error) {
	var left []Artifact // of the version that was replaced
	key := keyOf(fresh.Name, fresh.Version)
	rec, err := state.Update(ctx, s.cfg.Store, state.StepComponent, key, func(v *Version, exists bool, b *state.Batch) error {
		left = nil
		if exists {
			if !replaceable(*v, o) {
				return s.exists(*v, o)
			}
			if !v.Stub && v.State != Failed && !v.unchecked() && bytes.Equal(v.Source, fresh.Source) {
				return state.ErrKeep // the same import again: what was uploaded counts
			}
			left = v.Artifacts
		}
		next := fresh
		if exists && v.Public {
			next.Public, next.ARN = true, v.ARN
		}
		*v = next
		if also == nil {
			return nil
		}
		return also(b)
	})
	if err != nil {
		return Version{}, fmt.Errorf("store component %s %s: %w", fresh.Name, fresh.Version, err)
	}
	s.drop(ctx, left, rec.Value.Artifacts)
	return rec.Value, nil
}

func replaceable(v Version, o CreateOptions) bool {
	return !v.Deleting && o.Replace && (v.Stub || v.State != Deployable)
}

// exists words the refusal as AWS does; clients look for it.
func (s *Service) exists(v Version, o CreateOptions) error {
	if len(o.Tags) > 0 {
		return fault.New(fault.Exists, "Component [%s : %s] for account [%s] already exists and can't be created again with tags",
			v.Name, v.Version, s.cfg.Realm.Account)
	}
	return fault.New(fault.Exists, "Component [%s : %s] for account [%s] already exists with state: [%s]",
		v.Name, v.Version, s.cfg.Realm.Account, v.State)
}

// drop removes the objects of old artifacts that current does not use. What
// cannot be removed now costs space, nothing else, so it is logged.
func (s *Service) drop(ctx context.Context, old, current []Artifact) {
	for _, a := range old {
		used := slices.ContainsFunc(current, func(c Artifact) bool { return c.Key == a.Key })
		if a.Key == "" || a.External || used {
			continue
		}
		if err := s.cfg.Objects.Delete(ctx, a.Key); err != nil {
			s.cfg.Log.WarnContext(ctx, "artifact left behind", "key", a.Key, logx.Err, err)
		}
	}
}
