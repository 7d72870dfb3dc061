package config

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Aliases of the generators of this package (cdf-services §5). The first two
// are for the classic nucleus, the others write lite's config.yaml.
const (
	// ManualInstall is for cores whose thing and certificate exist before the
	// nucleus starts.
	ManualInstall = "MANUAL_INSTALL"
	// FleetProvisioning is for cores that get thing and certificate with a claim
	// certificate when they first connect.
	FleetProvisioning     = "FLEET_PROVISIONING"
	ManualInstallLite     = "MANUAL_INSTALL_LITE"
	FleetProvisioningLite = "FLEET_PROVISIONING_LITE"
)

// maxText bounds the names of an Input in bytes; the whole document is bounded
// by MaxDocument.
const maxText = 1024

// Input is what a generator is told about one core. Its JSON form is what a
// generator behind a URL is sent (cdf-services §5.1).
type Input struct {
	Version              string            `json:"version"`                        // of the nucleus; required
	CoreDeviceName       string            `json:"coreDeviceName"`                 // required
	ProvisioningTemplate string            `json:"provisioningTemplate,omitempty"` // required by provisioning by claim
	TemplateParameters   map[string]string `json:"templateParameters,omitempty"`
	CDFParameters        json.RawMessage   `json:"cdfProvisioningParameters,omitempty"` // as submitted
	// Overlay is merged into the document of this core, after the overlay of
	// Settings. See there.
	Overlay json.RawMessage `json:"configOverlay,omitempty"`
}

// check returns a fault.Invalid error that names the field.
func (in Input) check() error {
	required := []struct{ name, value string }{{"version", in.Version}, {"coreDeviceName", in.CoreDeviceName}}
	for _, f := range required {
		if f.value == "" {
			return missing(f.name)
		}
	}
	for _, f := range append(required, struct{ name, value string }{"provisioningTemplate", in.ProvisioningTemplate}) {
		if len(f.value) > maxText {
			return fault.Field(f.name, "has %d bytes, at most %d are allowed", len(f.value), maxText)
		}
		if err := checkUTF8(f.name, f.value); err != nil {
			return err
		}
	}
	for name, value := range in.TemplateParameters {
		if name == "" || len(name) > maxName {
			return fault.Field("templateParameters", "has a name of %d bytes, 1 to %d are allowed", len(name), maxName)
		}
		if err := checkUTF8("templateParameters", name); err != nil {
			return err
		}
		if err := checkUTF8("templateParameters."+name, value); err != nil {
			return err
		}
	}
	return nil
}

func missing(field string) error {
	return fault.Field(field, "is missing; the installer configuration cannot be made without it")
}

func checkUTF8(field, value string) error {
	if !utf8.ValidString(value) {
		return fault.Field(field, "%s is not UTF-8", strconv.QuoteToASCII(value))
	}
	return nil
}

// Generator makes the installer configuration of one core.
type Generator interface {
	// Generate returns the document as UTF-8 YAML. The same input gives the
	// same bytes. Errors about the input are of kind fault.Invalid and name the
	// field; another kind says whether the same call may succeed later.
	Generate(ctx context.Context, in Input) ([]byte, error)
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
