package nucleus

import (
	"context"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Plan returns how v comes onto this device. The plan prepares: checks,
// accounts, files beside the others, configuration. Nothing that runs is
// touched, so it may be run and undone at any time. The step makes v the one
// that runs at the next start of the nucleus; its Undo restores exactly what
// was before, also in another process after a kill, until Prune. Neither starts nor stops
// anything: the caller does, with what Launch says.
//
// Every step may be run again after a kill at any point. m is what Inspect said
// about the archive, or Manifest about what is unpacked.
//
// An error here is about v, m and o and is of kind fault.Invalid or
// fault.Unsupported; what is wrong with the device is an error of the plan's
// step "check", of kind fault.Invalid, fault.Conflict or fault.Unsupported.
func (s *Site) Plan(v Version, m Manifest, o Options, sys System) (Plan, Step, error) {
	return nil, Step{}, fault.New(fault.Unsupported, "not yet")
}

// Launch returns how v is run once the plan's switch is done.
func (s *Site) Launch(v Version, m Manifest, o Options, sys System) (Launch, error) {
	return Launch{}, fault.New(fault.Unsupported, "not yet")
}

// Remove returns the plan that takes the installed nucleus off this device
// altogether: units, package or links, every version's files. Configuration,
// certificates and the components' data stay. The nucleus must have been
// stopped.
func (s *Site) Remove(m Manifest, o Options, sys System) (Plan, error) {
	return nil, fault.New(fault.Unsupported, "not yet")
}

// Found is a nucleus that is on the device already.
type Found struct {
	Layout  Layout
	Version string // "" when it does not say
	Root    string // its root path, e.g. /greengrass/v2
	Unit    string // "" when no systemd unit runs it
	Config  string // the file that holds its configuration
	Package string // lite: name of the installed package, "" for plain files
}

// Find looks for a nucleus that is installed on the host, by whomever. It only
// reads. The error is fs.ErrNotExist when there is none.
func Find(ctx context.Context, sys System) (Found, error) {
	return Found{}, fault.New(fault.Unsupported, "not yet")
}
