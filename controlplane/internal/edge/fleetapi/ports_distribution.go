package fleetapi

import (
	"context"
	"io"
)

// Distributions keeps the nucleus archives that agents can be offered.
type Distributions interface {
	// PutDistribution stores what r yields. Of d only Name, Version, Format and
	// Platform are read, the first two may be empty; size is in bytes, -1 when the
	// caller did not say.
	PutDistribution(ctx context.Context, d Distribution, r io.Reader, size int64) (Distribution, error)
	Distributions(ctx context.Context) ([]Distribution, error)
	// ActivateDistribution makes it the one that agents of its runtime and platform
	// are offered; without a platform each archive of the version.
	ActivateDistribution(ctx context.Context, name, version, platform string) (Distribution, error)

	// NucleusPin returns the version that core is pinned to, or fault.NotFound.
	NucleusPin(ctx context.Context, core string) (name, version string, err error)
	// PinNucleus has core be offered that version. It returns fault.NotFound for a
	// core that does not exist, fault.Invalid for a version that is not stored.
	PinNucleus(ctx context.Context, core, name, version string) error
	// UnpinNucleus has core be offered what is current; not pinned is no error.
	UnpinNucleus(ctx context.Context, core string) error
}

// Distribution is a nucleus archive.
type Distribution struct {
	Name     string
	Version  string
	Digest   string // lower-case hex SHA-256
	Size     int64  // bytes
	Format   string // tar.gz, zip, deb or rpm
	Runtime  string // classic, lite or simulated
	Platform string // GOOS/GOARCH; empty: any
	Current  bool
}
