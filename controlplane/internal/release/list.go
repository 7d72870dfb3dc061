package release

import (
	"context"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/recipe/semver"
)

// List returns all releases, latest first, without their files.
func (s *Service) List(ctx context.Context) ([]Release, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	files, _ := s.files.Range("", 0, nil)
	var out []Release
	for len(files) > 0 {
		version := files[0].Value.Version
		n := slices.IndexFunc(files, func(f state.Item[File]) bool { return f.Value.Version != version })
		if n < 0 {
			n = len(files)
		}
		r := s.release(version, files[:n])
		r.Files = nil
		out = append(out, r)
		files = files[n:]
	}
	slices.SortFunc(out, func(a, b Release) int { return compare(b.Version, a.Version) })
	s.tally(out)
	return out, nil
}

// Get returns one release, or fault.NotFound.
func (s *Service) Get(ctx context.Context, version string) (Release, error) {
	if err := checkVersion(version); err != nil {
		return Release{}, err
	}
	if err := s.ready(ctx); err != nil {
		return Release{}, err
	}
	files, _ := s.files.RangeUnder(filePrefix+version+"/", "", 0, nil)
	if len(files) == 0 {
		return Release{}, notStored(version)
	}
	out := []Release{s.release(version, files)}
	s.tally(out)
	return out[0], nil
}

func (s *Service) release(version string, files []state.Item[File]) Release {
	r := Release{Version: version, Rollout: Rollout{State: Uploaded}, Updates: map[protocol.UpdateState]int{}}
	for _, f := range files {
		if r.CreatedAt.IsZero() || f.Value.CreatedAt.Before(r.CreatedAt) {
			r.CreatedAt = f.Value.CreatedAt
		}
		r.Files = append(r.Files, *f.Value)
		if f.Value.Platform == "" {
			continue
		}
		p := Platform{Name: f.Value.Platform, Digest: f.Value.Digest, Size: f.Value.Size}
		if sig, _, ok := s.files.Get(f.Key + signatureSuffix); ok {
			if parsed, err := signed.ParseSignature(sig.Signature); err == nil {
				p.KeyID, p.Over, p.Verified = parsed.KeyID, parsed.Statement.Over, s.cfg.Keys.Knows(parsed) == nil
			}
		}
		r.Platforms = append(r.Platforms, p)
	}
	if v, _, ok := s.rollouts.Get(rolloutKey(version)); ok {
		r.Rollout = *v
	}
	return r
}

// tally counts the devices of releases, in one walk.
func (s *Service) tally(list []Release) {
	at := map[string]*Release{}
	for i := range list {
		at[list[i].Version] = &list[i]
	}
	s.devices.Range("", 1, func(_ string, d *Device) bool {
		if r := at[d.Version]; r != nil {
			r.Running++
		}
		if r := at[d.Update.Version]; r != nil {
			r.Updates[d.Update.State]++
		}
		return false
	})
}

// Filter chooses devices; empty members choose all.
type Filter struct {
	Version string               // whose last update it was, or whose agent it is
	State   protocol.UpdateState // of the last update
}

// Devices returns at most count (0: 100) devices by name, after the name after.
// next is the after of the following page, "" on the last.
func (s *Service) Devices(ctx context.Context, f Filter, after string, count int) (list []Device, next string, err error) {
	if err := s.ready(ctx); err != nil {
		return nil, "", err
	}
	if count <= 0 {
		count = 100
	}
	if after != "" {
		after = deviceKey(after)
	}
	items, more := s.devices.Range(after, count, func(_ string, d *Device) bool {
		return (f.Version == "" || d.Update.Version == f.Version || d.Version == f.Version) && (f.State == "" || d.Update.State == f.State)
	})
	for _, i := range items {
		list = append(list, *i.Value)
	}
	if more {
		next = list[len(list)-1].Name
	}
	return list, next, nil
}

// binaryName is the file that holds the agent for a platform.
func binaryName(version, platform string) string {
	name := signed.Program + "_" + version + "_" + strings.Replace(platform, "/", "_", 1)
	if strings.HasPrefix(platform, "windows/") {
		name += ".exe"
	}
	return name
}

func compare(a, b string) int {
	va, _ := semver.Parse(a)
	vb, _ := semver.Parse(b)
	return va.Compare(vb)
}

func later(a, b string) bool { return compare(a, b) > 0 }
