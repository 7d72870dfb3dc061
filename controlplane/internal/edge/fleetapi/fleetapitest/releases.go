package fleetapitest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/release"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Releases is the port of the agent's releases. One device failed with each.
type Releases struct{ f *Fake }

// Put stores a file's description; its platform is linux/amd64.
func (p Releases) Put(_ context.Context, version, name string, r io.Reader) (release.File, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return release.File{}, fmt.Errorf("reading the file: %w", err)
	}
	done, err := p.f.lock()
	defer done()
	if err != nil {
		return release.File{}, err
	}
	file := release.File{Name: name, Version: version, Digest: hex.EncodeToString(h.Sum(nil)), Size: n, CreatedAt: Now()}
	if strings.HasSuffix(name, "_linux_amd64") {
		file.Platform = "linux/amd64"
	}
	stored, ok := p.f.releases[version]
	if !ok {
		stored = release.Release{Version: version, CreatedAt: Now(), Rollout: release.Rollout{State: release.Uploaded}}
	}
	stored.Files = append(stored.Files, file)
	p.f.releases[version] = stored
	return file, nil
}

// List lists releases.
func (p Releases) List(context.Context) ([]release.Release, error) {
	done, err := p.f.lock()
	defer done()
	var out []release.Release
	for _, r := range p.f.releases {
		r.Files = nil
		out = append(out, r)
	}
	return out, err
}

// Get returns a release.
func (p Releases) Get(_ context.Context, version string) (release.Release, error) {
	return p.change(version, func(*release.Release) {})
}

// Activate offers a release.
func (p Releases) Activate(_ context.Context, version string, a release.Activation) (release.Release, error) {
	return p.change(version, func(r *release.Release) {
		r.Rollout = release.Rollout{State: release.Active, Percentage: a.Percentage, NamePattern: a.NamePattern, MaxFailures: a.MaxFailures, Since: Now()}
	})
}

// Pause offers it no more.
func (p Releases) Pause(_ context.Context, version string) (release.Release, error) {
	return p.change(version, func(r *release.Release) { r.Rollout.State = release.Paused })
}

func (p Releases) change(version string, f func(*release.Release)) (release.Release, error) {
	done, err := p.f.lock()
	defer done()
	if err != nil {
		return release.Release{}, err
	}
	r, ok := p.f.releases[version]
	if !ok {
		return r, fault.New(fault.NotFound, "release %s of the agent is not stored", version)
	}
	f(&r)
	p.f.releases[version] = r
	return r, nil
}

// Remove takes a release away.
func (p Releases) Remove(_ context.Context, version string) error {
	done, err := p.f.lock()
	defer done()
	delete(p.f.releases, version)
	return err
}

// Devices lists the one device; none took a release 9.9.9.
func (p Releases) Devices(_ context.Context, f release.Filter, _ string, _ int) ([]release.Device, string, error) {
	done, err := p.f.lock()
	defer done()
	if f.State != "" && f.State != protocol.UpdateFailed || f.Version == "9.9.9" {
		return []release.Device{}, "", err
	}
	return []release.Device{{
		Name: "press-07", Role: protocol.RoleCore, Platform: "linux/amd64", Version: "0.9.0", At: Now(),
		Update: protocol.AgentUpdate{Version: f.Version, State: protocol.UpdateFailed, Reason: "it hangs"},
	}}, "", err
}
