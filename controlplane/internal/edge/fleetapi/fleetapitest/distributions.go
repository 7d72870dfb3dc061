package fleetapitest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// PutDistribution stores an archive's description. What is not said is found to be
// lite 1.0.0.
func (f *Fake) PutDistribution(_ context.Context, d fleetapi.Distribution, r io.Reader, _ int64) (fleetapi.Distribution, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return d, fmt.Errorf("reading the archive: %w", err)
	}
	done, err := f.lock()
	defer done()
	if err != nil {
		return d, err
	}
	d.Name, d.Version = cmp.Or(d.Name, "aws.greengrass.NucleusLite"), cmp.Or(d.Version, "1.0.0")
	d.Digest, d.Size, d.Runtime = hex.EncodeToString(h.Sum(nil)), n, "lite"
	f.dists = append(f.dists, d)
	return d, nil
}

// Distributions lists archives.
func (f *Fake) Distributions(context.Context) ([]fleetapi.Distribution, error) {
	done, err := f.lock()
	defer done()
	return slices.Clone(f.dists), err
}

// ActivateDistribution makes one current, of whatever platform.
func (f *Fake) ActivateDistribution(_ context.Context, name, version, _ string) (fleetapi.Distribution, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return fleetapi.Distribution{}, err
	}
	at := f.distribution(name, version)
	if at < 0 {
		return fleetapi.Distribution{}, missing("distribution", name)
	}
	for i := range f.dists {
		f.dists[i].Current = i == at
	}
	return f.dists[at], nil
}

func (f *Fake) distribution(name, version string) int {
	return slices.IndexFunc(f.dists, func(d fleetapi.Distribution) bool { return d.Name == name && d.Version == version })
}

// NucleusPin returns what a core is pinned to.
func (f *Fake) NucleusPin(_ context.Context, core string) (name, version string, err error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return "", "", err
	}
	pin, ok := f.pins[core]
	if !ok {
		return "", "", missing("nucleus version of core", core)
	}
	return pin[0], pin[1], nil
}

// PinNucleus pins a core to a version that is stored.
func (f *Fake) PinNucleus(_ context.Context, core, name, version string) error {
	done, err := f.lock()
	defer done()
	switch {
	case err != nil:
		return err
	case f.distribution(name, version) < 0:
		return fault.Field("version", "distribution %s %s is not stored", name, version)
	case f.pins == nil:
		f.pins = map[string][2]string{}
	}
	f.pins[core] = [2]string{name, version}
	return nil
}

// UnpinNucleus takes a pin back.
func (f *Fake) UnpinNucleus(_ context.Context, core string) error {
	done, err := f.lock()
	defer done()
	if err == nil {
		delete(f.pins, core)
	}
	return err
}
