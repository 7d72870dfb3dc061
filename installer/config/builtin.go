package config

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// builtin is a generator of this package: a layout, filled from the settings
// and from what is asked about one core.
type builtin struct {
	s       Settings
	overlay map[string]any
	claim   bool // provisioning by claim needs the name of a template
	layout  func(Settings, Input) mapping
}

// Builtin returns the generators of this package by alias. overlays take the
// place of s.Overlay for the alias they are given for. Errors are of kind
// fault.Invalid and name the setting.
func Builtin(s Settings, overlays map[string]json.RawMessage) (map[string]Generator, error) {
	makers := map[string]func(Settings) (Generator, error){
		ManualInstall: NewManual, FleetProvisioning: NewFleet, ManualInstallLite: NewManualLite, FleetProvisioningLite: NewFleetLite,
	}
	for alias := range overlays {
		if makers[alias] == nil {
			return nil, fault.Field("overlay", "%q is not an alias of a generator of this program; it has: %v", alias, slices.Sorted(maps.Keys(makers)))
		}
	}
	out := map[string]Generator{}
	for alias, newGenerator := range makers {
		own := s
		if o, ok := overlays[alias]; ok {
			own.Overlay = o
		}
		g, err := newGenerator(own)
		if err != nil {
			return nil, fault.Under(alias, err)
		}
		out[alias] = g
	}
	return out, nil
}

// NewManual returns the generator of ManualInstall documents. Like the others,
// it fails with an error that names the setting that is missing or wrong.
func NewManual(s Settings) (Generator, error) { return build(s, classicRoot, false, manualLayout) }

// NewFleet returns the generator of FleetProvisioning documents.
func NewFleet(s Settings) (Generator, error) { return build(s, classicRoot, true, fleetLayout) }

// NewManualLite returns the generator of ManualInstallLite documents.
func NewManualLite(s Settings) (Generator, error) { return build(s, liteRoot, false, manualLiteLayout) }

// NewFleetLite returns the generator of FleetProvisioningLite documents.
func NewFleetLite(s Settings) (Generator, error) { return build(s, liteRoot, true, fleetLiteLayout) }

const (
	classicRoot = "/greengrass/v2"
	liteRoot    = "/var/lib/greengrass"
)

func build(s Settings, root string, claim bool, layout func(Settings, Input) mapping) (Generator, error) {
	s, err := s.withDefaults(root)
	if err != nil {
		return nil, err
	}
	overlay, err := parseOverlay(settingsOverlay, s.Overlay)
	if err != nil {
		return nil, err
	}
	// What the overlay cannot do shows now, not at the first core.
	if _, err := layout(s, Input{}).merged(overlay, settingsOverlay); err != nil {
		return nil, err
	}
	return builtin{s, overlay, claim, layout}, nil
}

// Generate implements Generator.
func (g builtin) Generate(_ context.Context, in Input) ([]byte, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if g.claim && in.ProvisioningTemplate == "" {
		return nil, missing("provisioningTemplate")
	}
	doc, err := g.layout(g.s, in).merged(g.overlay, settingsOverlay)
	if err != nil {
		return nil, err
	}
	own, err := parseOverlay(inputOverlay, in.Overlay)
	if err == nil {
		doc, err = doc.merged(own, inputOverlay)
	}
	if err != nil {
		return nil, err
	}
	b := doc.yaml()
	if len(b) > MaxDocument {
		return nil, fault.New(fault.TooLarge, "the installer configuration would have %d bytes, at most %d are allowed: make parameters or overlay smaller", len(b), MaxDocument)
	}
	return b, nil
}

// manualLayout is the document of cdf-services §5.2.
func manualLayout(s Settings, in Input) mapping {
	return mapping{
		{"system", mapping{
			{"certificateFilePath", scalar(s.CertificateFilePath)},
			{"privateKeyPath", scalar(s.PrivateKeyPath)},
			{"rootCaPath", scalar(s.RootCAPath)},
			{"rootpath", scalar(s.RootPath)},
			{"thingName", scalar(in.CoreDeviceName)},
		}},
		{"services", mapping{{"aws.greengrass.Nucleus", nucleus(s, in)}}},
	}
}

// fleetLayout is the document of cdf-services §5.3. Ports are written where
// they are set: the plug-in would otherwise use 443.
func fleetLayout(s Settings, in Input) mapping {
	plugin := mapping{
		{"rootPath", scalar(s.RootPath)},
		{"awsRegion", scalar(s.AWSRegion)},
		{"iotDataEndpoint", scalar(s.DataEndpoint)},
		{"iotCredentialEndpoint", scalar(s.CredEndpoint)}, // the nucleus says iotCredEndpoint
		{"iotRoleAlias", scalar(s.RoleAlias)},
		{"provisioningTemplate", scalar(in.ProvisioningTemplate)},
		{"claimCertificatePath", scalar(s.ClaimDir + "/claim.pem.crt")},
		{"claimCertificatePrivateKeyPath", scalar(s.ClaimDir + "/claim.private.pem.key")},
		{"rootCaPath", scalar(s.RootCAPath)},
	}
	if s.MQTTPort != 0 {
		plugin = append(plugin, entry{"mqttPort", strconv.Itoa(s.MQTTPort)})
	}
	if len(in.TemplateParameters) > 0 {
		plugin = append(plugin, entry{"templateParameters", texts(in.TemplateParameters)})
	}
	return mapping{{"services", mapping{
		{"aws.greengrass.Nucleus", nucleus(s, in)},
		{"aws.greengrass.FleetProvisioningByClaim", mapping{{"configuration", plugin}}},
	}}}
}

func nucleus(s Settings, in Input) mapping {
	conf := mapping{
		{"awsRegion", scalar(s.AWSRegion)},
		{"iotRoleAlias", scalar(s.RoleAlias)},
		{"iotDataEndpoint", scalar(s.DataEndpoint)},
		{"iotCredEndpoint", scalar(s.CredEndpoint)},
	}
	if s.DataPlaneEndpoint != "" {
		conf = append(conf, entry{"greengrassDataPlaneEndpoint", scalar(s.DataPlaneEndpoint)})
	}
	if s.MQTTPort != 0 {
		conf = append(conf, entry{"mqtt", mapping{{"port", strconv.Itoa(s.MQTTPort)}}})
	}
	if s.DataPlanePort != 0 {
		conf = append(conf, entry{"greengrassDataPlanePort", strconv.Itoa(s.DataPlanePort)})
	}
	return mapping{{"componentType", "NUCLEUS"}, {"version", scalar(in.Version)}, {"configuration", conf}}
}

// manualLiteLayout is lite's config.yaml (nucleus-contract §1.2). It names no
// version: lite knows its own, and what the file says overrides what lite
// stored, at every start.
func manualLiteLayout(s Settings, in Input) mapping {
	return mapping{
		{"system", mapping{
			{"certificateFilePath", scalar(s.CertificateFilePath)},
			{"privateKeyPath", scalar(s.PrivateKeyPath)},
			{"rootCaPath", scalar(s.RootCAPath)},
			{"rootPath", scalar(s.RootPath)}, // classic says rootpath
			{"thingName", scalar(in.CoreDeviceName)},
		}},
		{"services", mapping{{"aws.greengrass.NucleusLite", nucleusLite(s, entry{"iotDataEndpoint", scalar(s.DataEndpoint)}, entry{"iotCredEndpoint", scalar(s.CredEndpoint)})}}},
	}
}

// fleetLiteLayout is the config.yaml that lite's program fleet-provisioning
// reads (nucleus-contract §2.6). What that program fills in is left out and not
// blank: a blank in the file would wipe out the stored value at the next start.
func fleetLiteLayout(s Settings, in Input) mapping {
	return mapping{
		{"system", mapping{{"rootPath", scalar(s.RootPath)}}},
		{"services", mapping{
			{"aws.greengrass.NucleusLite", nucleusLite(s)},
			{"aws.greengrass.fleet_provisioning", mapping{{"configuration", mapping{
				{"iotDataEndpoint", scalar(s.DataEndpoint)},
				{"iotCredEndpoint", scalar(s.CredEndpoint)},
				{"rootCaPath", scalar(s.RootCAPath)},
				{"claimCertPath", scalar(s.ClaimDir + "/claim.pem.crt")},
				{"claimKeyPath", scalar(s.ClaimDir + "/claim.private.pem.key")},
				{"templateName", scalar(in.ProvisioningTemplate)},
				{"templateParams", texts(in.TemplateParameters)}, // required, and a map
			}}}},
		}},
	}
}

func nucleusLite(s Settings, endpoints ...entry) mapping {
	port := 8443
	if s.DataPlanePort != 0 {
		port = s.DataPlanePort
	}
	conf := append(mapping{{"awsRegion", scalar(s.AWSRegion)}, {"iotRoleAlias", scalar(s.RoleAlias)}}, endpoints...)
	conf = append(conf,
		entry{"greengrassDataPlanePort", scalar(strconv.Itoa(port))}, // lite reads text, no number
		entry{"runWithDefault", mapping{{"posixUser", scalar("gg_component:gg_component")}}},
	)
	return mapping{{"componentType", "NUCLEUS"}, {"configuration", conf}}
}

// texts returns the parameters in order of their names.
func texts(m map[string]string) mapping {
	out := mapping{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, entry{name, scalar(m[name])})
	}
	return out
}
