package app

import (
	"context"
	"errors"
	"io"

	"github.com/ggfleet/ggfleet/controlplane/internal/distribution"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// distributionsPort is the nucleus archives in the words of the fleet API.
type distributionsPort struct{ a *App }

func (p distributionsPort) PutDistribution(ctx context.Context, d fleetapi.Distribution, r io.Reader, _ int64) (fleetapi.Distribution, error) {
	rec, err := p.a.dist.Put(ctx, distribution.Upload{Name: d.Name, Version: d.Version, Format: d.Format, Platform: d.Platform}, r)
	if err != nil {
		return fleetapi.Distribution{}, err
	}
	return p.one(ctx, rec.Name, rec.Version, rec.Platform)
}

func (p distributionsPort) Distributions(ctx context.Context) ([]fleetapi.Distribution, error) {
	list, err := p.a.dist.List(ctx)
	out := make([]fleetapi.Distribution, len(list))
	for i, r := range list {
		out[i] = fleetapi.Distribution{
			Name: r.Name, Version: r.Version, Digest: r.Digest, Size: r.Size, Format: r.Format, Runtime: r.Runtime, Platform: r.Platform, Current: r.Current,
		}
	}
	return out, err
}

func (p distributionsPort) ActivateDistribution(ctx context.Context, name, version, platform string) (fleetapi.Distribution, error) {
	if err := p.a.dist.Activate(ctx, name, version, platform); err != nil {
		return fleetapi.Distribution{}, err
	}
	return p.one(ctx, name, version, platform)
}

// one returns the archive of that version for platform, or the first one.
func (p distributionsPort) one(ctx context.Context, name, version, platform string) (fleetapi.Distribution, error) {
	list, err := p.Distributions(ctx)
	if err != nil {
		return fleetapi.Distribution{}, err
	}
	for _, d := range list {
		if d.Name == name && d.Version == version && (platform == "" || d.Platform == platform) {
			return d, nil
		}
	}
	return fleetapi.Distribution{}, fault.New(fault.NotFound, "distribution %s %s is not stored", name, version)
}

func (p distributionsPort) NucleusPin(ctx context.Context, core string) (name, version string, err error) {
	pin, err := p.a.dist.Pin(ctx, core)
	if err == nil && pin.Name == "" {
		err = fault.New(fault.NotFound, "core %s is pinned to no version of the nucleus", core)
	}
	return pin.Name, pin.Version, err
}

func (p distributionsPort) PinNucleus(ctx context.Context, core, name, version string) error {
	if _, err := (coresOfFleet{p.a.fleet}).EnrollCore(ctx, core); err != nil {
		return err
	}
	err := p.a.dist.SetPin(ctx, core, distribution.Pin{Name: name, Version: version})
	if errors.Is(err, fault.NotFound) {
		return fault.Field("version", "%s", fault.Message(err))
	}
	return err
}

func (p distributionsPort) UnpinNucleus(ctx context.Context, core string) error {
	return p.a.dist.Forget(ctx, core)
}
