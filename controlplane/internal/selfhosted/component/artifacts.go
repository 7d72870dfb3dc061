package component

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxArtifactBytes is the most that all artifacts of one version may have
// together: AWS's quota of 2 GB.
const MaxArtifactBytes = 2 << 30

// PutArtifact stores the bytes of the artifact called artifact (the text after
// greengrass: in the recipe). size may be -1 if it is not known. The last one
// that is missing makes the version DEPLOYABLE. Bytes that do not have the
// digest of the recipe are refused and nothing is stored. Putting the same bytes
// again is no error; other bytes into a DEPLOYABLE version are fault.Exists.
func (s *Service) PutArtifact(ctx context.Context, name, version, artifact string, r io.Reader, size int64) (Version, error) {
	v, err := s.Get(ctx, name, version)
	if err != nil {
		return Version{}, err
	}
	want, err := pick(v, artifact)
	if err != nil {
		return Version{}, err
	}
	room := want.Size + roomFor(v)
	if size > room {
		return Version{}, tooLarge(name, version)
	}
	got, file, err := s.spool(r, size, room)
	if err != nil {
		return Version{}, fmt.Errorf("take artifact %s of %s %s: %w", artifact, name, version, err)
	}
	defer func() {
		_ = file.Close()
		_ = os.Remove(file.Name()) // where it could not be unlinked while open
	}()
	if err := got.accepts(v, *want); err != nil {
		return Version{}, err
	}
	if want.Uploaded && want.SHA256 == got.SHA256 {
		return v, nil
	}
	got.Key = s.cfg.Prefix + name + "/" + version + "/" + got.SHA256 + "/" + path.Base(artifact)
	if err := s.cfg.Objects.Put(ctx, state.PutArtifact, got.Key, file, got.Size, "application/octet-stream"); err != nil {
		return Version{}, fmt.Errorf("store artifact %s of %s %s: %w", artifact, name, version, err)
	}
	return s.commitArtifact(ctx, name, version, artifact, got)
}

// commitArtifact notes that the bytes are there.
func (s *Service) commitArtifact(ctx context.Context, name, version, artifact string, got upload) (Version, error) {
	var before []Artifact
	rec, err := state.Update(ctx, s.cfg.Store, state.StepComponent, keyOf(name, version), func(v *Version, exists bool, _ *state.Batch) error {
		if !exists || v.Deleting {
			return notFound(name, version)
		}
		a, err := pick(*v, artifact)
		if err != nil {
			return err
		}
		if err := got.accepts(*v, *a); err != nil {
			return err
		}
		if a.Uploaded && a.SHA256 == got.SHA256 {
			return state.ErrKeep
		}
		before = slices.Clone(v.Artifacts)
		if got.Size > a.Size+roomFor(*v) {
			return tooLarge(name, version)
		}
		a.Key, a.Size, a.SHA256, a.Digest, a.Uploaded = got.Key, got.Size, got.SHA256, got.Digest, true
		return v.settle()
	})
	if err != nil {
		return Version{}, fmt.Errorf("note artifact %s of %s %s: %w", artifact, name, version, err)
	}
	s.drop(ctx, before, rec.Value.Artifacts)
	return rec.Value, nil
}

func pick(v Version, artifact string) (*Artifact, error) {
	for i := range v.Artifacts {
		if artifact != "" && v.Artifacts[i].Name == artifact {
			return &v.Artifacts[i], nil
		}
	}
	var known []string
	for _, a := range v.Artifacts {
		if a.Name != "" {
			known = append(known, a.Name)
		}
	}
	return nil, fault.New(fault.NotFound, "component %s %s has no artifact %.255q; its recipe names [%s]",
		v.Name, v.Version, artifact, strings.Join(known, ", "))
}

// roomFor is how many bytes there may be beside all that v has.
func roomFor(v Version) int64 {
	room := int64(MaxArtifactBytes)
	for _, a := range v.Artifacts {
		room -= a.Size
	}
	return room
}

func tooLarge(name, version string) error {
	return fault.New(fault.TooLarge, "the artifacts of component %s %s have more than %d bytes together", name, version, int64(MaxArtifactBytes))
}

// upload is what came in.
type upload struct {
	Key, SHA256, Digest string
	Size                int64
}

// accepts refuses bytes that may not become artifact a of v.
func (u upload) accepts(v Version, a Artifact) error {
	switch {
	case v.State == Failed:
		return fault.New(fault.Conflict, "component %s %s is FAILED: %s", v.Name, v.Version, v.awaits())
	case a.SHA256 == "" || a.SHA256 == u.SHA256:
		return nil
	case a.Uploaded && v.State == Deployable:
		return fault.New(fault.Exists, "artifact %s of component %s %s is stored with other bytes, and a component version never changes: make a new version",
			a.Name, v.Name, v.Version)
	case a.Uploaded && !a.Declared:
		return nil // not complete yet: the last upload counts
	}
	return fault.New(fault.Invalid, "artifact %s of component %s %s has the SHA-256 %s, its recipe wants %s", a.Name, v.Name, v.Version, u.Digest, a.Digest)
}

// spool writes r to a file that is gone once closed, because the object's key
// holds the digest: an upload that is cut off or repeated then leaves nothing
// that anybody could read, and no object twice.
func (s *Service) spool(r io.Reader, size, room int64) (upload, *os.File, error) {
	f, err := os.CreateTemp(s.cfg.TempDir, "ggfleet-artifact-*")
	if err != nil {
		return upload{}, nil, fmt.Errorf("make a temporary file: %w", err)
	}
	_ = os.Remove(f.Name()) // an open file lives on without a name, and a crash leaves nothing
	u, err := fill(f, r, size, room)
	if err != nil {
		_ = f.Close()
		_ = os.Remove(f.Name())
		return upload{}, nil, err
	}
	return u, f, nil
}

func fill(f *os.File, r io.Reader, size, room int64) (upload, error) {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, room+1))
	switch {
	case err != nil:
		return upload{}, err
	case n > room:
		return upload{}, fault.New(fault.TooLarge, "the artifact has more than the %d bytes that are left of the limit of %d for one version", room, int64(MaxArtifactBytes))
	case n == 0:
		return upload{}, fault.New(fault.Invalid, "the artifact is empty: core devices cannot download an empty file")
	case size >= 0 && n != size:
		return upload{}, fault.New(fault.Invalid, "the artifact has %d bytes, %d were announced", n, size)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return upload{}, err
	}
	sum := h.Sum(nil)
	return upload{SHA256: hex.EncodeToString(sum), Digest: base64.StdEncoding.EncodeToString(sum), Size: n}, nil
}

// Locate returns the artifact that a device asks for by the ARN of its version
// and its name. fault.NotFound unless the version is DEPLOYABLE.
func (s *Service) Locate(ctx context.Context, arn, artifact string) (Artifact, error) {
	v, err := s.GetByARN(ctx, arn)
	if err != nil {
		return Artifact{}, err
	}
	if v.State != Deployable {
		return Artifact{}, fault.New(fault.NotFound, "component %s %s is %s, its artifacts are not offered", v.Name, v.Version, v.State)
	}
	a, err := pick(v, artifact)
	if err != nil {
		return Artifact{}, err
	}
	return *a, nil
}
