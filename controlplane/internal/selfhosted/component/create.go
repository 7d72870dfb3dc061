package component

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/recipe"
)

// CreateOptions changes what Create does.
type CreateOptions struct {
	Tags map[string]string
	// Replace lets the version take the place of a stub, or of one whose
	// artifacts never all came: what an import does. A complete version is never
	// replaced.
	Replace bool
}

// Create makes a version from its recipe. With greengrass: artifacts it is
// REQUESTED until PutArtifact has brought them all, else DEPLOYABLE at once;
// s3: artifacts must be objects of our own bucket, and devices get them by the
// greengrass: scheme. Errors are fault.Invalid with the member's path, and
// fault.Exists if the version is there.
func (s *Service) Create(ctx context.Context, src []byte, o CreateOptions) (Version, error) {
	r, err := recipe.Parse(src)
	if err != nil {
		return Version{}, err
	}
	if err := checkTags(o.Tags); err != nil {
		return Version{}, err
	}
	// Told early, before artifacts are read; the commit below decides.
	if old, err := s.Get(ctx, r.Name, r.Version); err == nil && !replaceable(old, o) {
		return Version{}, s.exists(old, o)
	} else if err != nil && !errors.Is(err, fault.NotFound) {
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
	if err := fresh.settle(); err != nil {
		return Version{}, err
	}
	return s.commitNew(ctx, fresh, o)
}

func (s *Service) versionOf(r *recipe.Recipe, src []byte) Version {
	return Version{
		Name: r.Name, Version: r.Version, ARN: s.cfg.Realm.ComponentVersion(r.Name, r.Version),
		Type: r.Type, Publisher: r.Publisher, Description: r.Description,
		Dependencies: r.Dependencies, Platforms: r.Platforms(),
		CreatedAt: s.cfg.Now().UTC(), Source: slices.Clone(src), Format: r.Format,
	}
}

func (s *Service) commitNew(ctx context.Context, fresh Version, o CreateOptions) (Version, error) {
	var left []Artifact // of the version that was replaced
	key := keyOf(fresh.Name, fresh.Version)
	rec, err := state.Update(ctx, s.cfg.Store, state.StepComponent, key, func(v *Version, exists bool, _ *state.Batch) error {
		left = nil
		if exists {
			if !replaceable(*v, o) {
				return s.exists(*v, o)
			}
			if !v.Stub && bytes.Equal(v.Source, fresh.Source) {
				return state.ErrKeep // the same import again: what was uploaded counts
			}
			left = v.Artifacts
		}
		next := fresh
		if exists && v.Public {
			next.Public, next.ARN = true, v.ARN
		}
		*v = next
		return nil
	})
	if err != nil {
		return Version{}, fmt.Errorf("store component %s %s: %w", fresh.Name, fresh.Version, err)
	}
	s.drop(ctx, left, rec.Value.Artifacts)
	return rec.Value, nil
}

func replaceable(v Version, o CreateOptions) bool {
	return !v.Deleting && o.Replace && (v.Stub || v.State == Requested || v.State == Initiated)
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

func checkTags(tags map[string]string) error {
	if len(tags) > 50 {
		return fault.Field("tags", "has %d entries, over the limit of 50", len(tags))
	}
	for k, v := range tags {
		if k == "" || len(k) > 128 || len(v) > 256 {
			return fault.Field("tags", "the key %.128q or its value is too long or empty: want keys of 1 to 128 and values of up to 256 characters", k)
		}
	}
	return nil
}

// expected lists the files of a recipe: greengrass: ones as awaited, s3: ones
// with the digest of the object that is there now.
func (s *Service) expected(ctx context.Context, r *recipe.Recipe) ([]Artifact, error) {
	var list []Artifact
	wrong := map[string]string{}
	for _, a := range r.Artifacts() {
		if a.Scheme == "docker" || slices.ContainsFunc(list, func(o Artifact) bool { return o.URI == a.URI }) {
			continue
		}
		if a.Scheme == "greengrass" {
			list = append(list, Artifact{Name: a.Name, URI: a.URI, Digest: a.Digest, SHA256: hexOf(a.Digest), Declared: a.Digest != ""})
			continue
		}
		art, why, err := s.adopt(ctx, a)
		switch {
		case err != nil:
			return nil, err
		case why != "":
			wrong[a.URI] = why
		default:
			list = append(list, art)
		}
	}
	if len(wrong) > 0 {
		var parts []string
		for uri, why := range wrong {
			parts = append(parts, uri+" = "+why)
		}
		slices.Sort(parts)
		return nil, fault.New(fault.Invalid, "Invalid Input: Encountered following errors in Artifacts: {%s}", strings.Join(parts, ", "))
	}
	var sum int64
	for _, a := range list {
		if sum += a.Size; sum > MaxArtifactBytes {
			return nil, tooLarge(r.Name, r.Version)
		}
	}
	return list, nil
}

// adopt makes an artifact of an object in our bucket. why says what is wrong
// with it, in AWS's words where it has some.
func (s *Service) adopt(ctx context.Context, a recipe.Artifact) (art Artifact, why string, err error) {
	const unreachable = "Specified artifact resource cannot be accessed"
	bucket, key, _ := strings.Cut(a.Name, "/")
	private := slices.ContainsFunc(s.cfg.Private, func(p string) bool { return strings.HasPrefix(key, p) })
	if bucket != s.cfg.Objects.Bucket() || private {
		return art, unreachable, nil
	}
	body, _, err := s.cfg.Objects.Open(ctx, key)
	if errors.Is(err, fault.NotFound) || errors.Is(err, fault.Invalid) {
		return art, unreachable, nil
	}
	if err != nil {
		return art, "", fmt.Errorf("open artifact %s: %w", a.URI, err)
	}
	defer func() { _ = body.Close() }()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(body, MaxArtifactBytes+1))
	if err != nil {
		return art, "", fmt.Errorf("read artifact %s: %w", a.URI, err)
	}
	sum := h.Sum(nil)
	art = Artifact{
		Name: hex.EncodeToString(sum[:8]) + "/" + a.File(), URI: a.URI, Key: key, Size: n,
		SHA256: hex.EncodeToString(sum), Digest: base64.StdEncoding.EncodeToString(sum), Uploaded: true, External: true,
	}
	switch {
	case n == 0:
		return art, "The artifact is empty and cannot be downloaded by core devices", nil
	case a.Digest != "" && a.Digest != art.Digest:
		return art, "The digest in the recipe differs from that of the object", nil
	}
	return art, "", nil
}

func hexOf(digest string) string {
	raw, err := base64.StdEncoding.DecodeString(digest)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(raw)
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
