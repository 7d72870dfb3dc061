package component

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/recipe"
)

// Why an s3: artifact is refused; the first in AWS's words.
const (
	unreachable  = "Specified artifact resource cannot be accessed"
	emptyObject  = "The artifact is empty and cannot be downloaded by core devices"
	otherDigest  = "The digest in the recipe differs from that of the object"
	tooManyBytes = "The artifacts of the component version have more than 2 GB together"
)

// expected lists the files of a recipe: greengrass: ones as awaited, s3: ones as
// objects that are there. What is wrong with the latter is fault.Invalid.
func (s *Service) expected(ctx context.Context, r *recipe.Recipe) ([]Artifact, error) {
	var list []Artifact
	wrong := map[string]string{}
	for _, a := range r.Artifacts() {
		if a.Scheme == "docker" || slices.ContainsFunc(list, func(o Artifact) bool { return o.URI == a.URI }) {
			continue
		}
		art := Artifact{URI: a.URI, Digest: a.Digest, SHA256: hexOf(a.Digest), Declared: a.Digest != ""}
		if a.Scheme == "greengrass" {
			art.Name = a.Name
		} else {
			why, err := s.look(ctx, a, &art)
			if err != nil {
				return nil, err
			}
			if why != "" {
				wrong[a.URI] = why
			}
		}
		list = append(list, art)
	}
	if len(wrong) > 0 {
		return nil, fault.New(fault.Invalid, "%s", wordErrors(wrong))
	}
	var sum int64
	for _, a := range list {
		if sum += a.Size; sum > MaxArtifactBytes {
			return nil, tooLarge(r.Name, r.Version)
		}
	}
	return list, nil
}

// look fills art with what is known of an object in our bucket without reading
// it. why says what is wrong with it.
func (s *Service) look(ctx context.Context, a recipe.Artifact, art *Artifact) (why string, err error) {
	bucket, key, _ := strings.Cut(a.Name, "/")
	private := slices.ContainsFunc(s.cfg.Private, func(p string) bool { return strings.HasPrefix(key, p) })
	if own := s.cfg.Objects.Bucket(); bucket != own {
		return unreachable + ": core devices get artifacts from bucket " + own + " of this server, from no other", nil
	}
	if private {
		return unreachable, nil
	}
	info, err := s.cfg.Objects.Stat(ctx, key)
	switch {
	case errors.Is(err, fault.NotFound) || errors.Is(err, fault.Invalid):
		return unreachable, nil
	case err != nil:
		return "", fmt.Errorf("look for artifact %s: %w", a.URI, err)
	case info.Size == 0:
		return emptyObject, nil
	}
	art.Key, art.Size, art.External = key, info.Size, true
	return "", nil
}

// digest reads the s3: objects of v that nobody has read, and completes v if
// nothing is wrong with them. wrong says by URI what is.
func (s *Service) digest(ctx context.Context, v *Version) (wrong map[string]string, err error) {
	v.Artifacts = slices.Clone(v.Artifacts)
	wrong = map[string]string{}
	for i := range v.Artifacts {
		a := &v.Artifacts[i]
		if !a.External || a.Uploaded {
			continue
		}
		room := a.Size + roomFor(*v)
		why, err := s.readObject(ctx, a, room)
		if err != nil {
			return nil, err
		}
		if why != "" {
			wrong[a.URI] = why
		}
	}
	if len(wrong) > 0 {
		return wrong, nil
	}
	return nil, v.settle()
}

// readObject takes size and digest of what lies at the artifact's key now. The
// bytes pass through, however many they are.
func (s *Service) readObject(ctx context.Context, a *Artifact, room int64) (why string, err error) {
	body, _, err := s.cfg.Objects.Open(ctx, a.Key)
	if errors.Is(err, fault.NotFound) {
		return unreachable, nil
	}
	if err != nil {
		return "", fmt.Errorf("open artifact %s: %w", a.URI, err)
	}
	defer func() { _ = body.Close() }()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(body, room+1))
	if err != nil {
		return "", fmt.Errorf("read artifact %s: %w", a.URI, err)
	}
	sum := h.Sum(nil)
	switch digest := base64.StdEncoding.EncodeToString(sum); {
	case n == 0:
		return emptyObject, nil
	case n > room:
		return tooManyBytes, nil
	case a.Declared && a.Digest != digest:
		return otherDigest, nil
	default:
		a.Name = hex.EncodeToString(sum[:8]) + "/" + path.Base(a.Key)
		a.Size, a.SHA256, a.Digest, a.Uploaded = n, hex.EncodeToString(sum), digest, true
	}
	return "", nil
}

func hexOf(digest string) string {
	raw, err := base64.StdEncoding.DecodeString(digest)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(raw)
}
