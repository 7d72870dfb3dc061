package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// ManualInstall is the alias of the generator for cores whose thing and
// certificate exist before the nucleus starts (cdf-services §5.2).
const ManualInstall = "MANUAL_INSTALL"

// maxText bounds each text of an Input in bytes.
const maxText = 1024

// Input is what a generator is told about one core (cdf-services §5.1).
type Input struct {
	Version              string            // of the nucleus; required
	CoreDeviceName       string            // required
	ProvisioningTemplate string            // of the core task
	TemplateParameters   map[string]string // optional
}

// check returns a fault.Invalid error that names the field.
func (in Input) check() error {
	for _, f := range []struct{ name, value string }{{"version", in.Version}, {"coreDeviceName", in.CoreDeviceName}} {
		switch {
		case f.value == "":
			return fault.Field(f.name, "is missing; the installer configuration cannot be made without it")
		case len(f.value) > maxText:
			return fault.Field(f.name, "has %d bytes, at most %d are allowed", len(f.value), maxText)
		case !utf8.ValidString(f.value):
			return fault.Field(f.name, "%s is not UTF-8", strconv.QuoteToASCII(f.value))
		}
	}
	return nil
}

// Generator makes the installer configuration of one core.
type Generator interface {
	// Generate returns the document as UTF-8 YAML. The same input gives the
	// same bytes. Errors about the input are of kind fault.Invalid and name the
	// field.
	Generate(in Input) ([]byte, error)
}

// Registry holds generators by alias. It is read-only once made and may be used
// concurrently.
type Registry struct{ byAlias map[string]Generator }

// NewRegistry returns a registry of the given generators. Aliases are
// case-sensitive.
func NewRegistry(byAlias map[string]Generator) Registry {
	return Registry{maps.Clone(byAlias)}
}

// Aliases returns the known aliases in order.
func (r Registry) Aliases() []string { return slices.Sorted(maps.Keys(r.byAlias)) }

// For returns the generator of alias, or an error of kind fault.Invalid that
// lists the known ones.
func (r Registry) For(alias string) (Generator, error) {
	g, ok := r.byAlias[alias]
	if !ok {
		return nil, fault.New(fault.Invalid, "installer configuration %q is unknown; this server has: %s (case matters)", alias, strings.Join(r.Aliases(), ", "))
	}
	return g, nil
}
