package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

// provision is what the commands have in common that make things of a
// provisioning template.
type provision struct {
	template, caID, country, cdf string
	parameters                   []string
}

func (p *provision) flags(f *pflag.FlagSet, country string) {
	f.StringVar(&p.template, "provisioning-template", "default", "provisioning template; --template is the same")
	f.StringArrayVarP(&p.parameters, "parameter", "p", nil, "NAME=VALUE for the template; may be repeated. ThingName is there already")
	f.StringVar(&p.caID, "ca-id", "", "CA that signs (default: the server's own)")
	f.StringVar(&p.country, "country", country, "country in the certificate's subject, two letters")
	f.StringVar(&p.cdf, "cdf", "", "file with cdfProvisioningParameters as JSON, in place of --ca-id and --country; - for standard input")
	alias(f)
}

// alias lets --template stand for --provisioning-template.
func alias(f *pflag.FlagSet) {
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "template" {
			name = "provisioning-template"
		}
		return pflag.NormalizedName(name)
	})
}

// values are the template's parameters for the thing called name.
func (p *provision) values(name string) (map[string]string, error) {
	v, err := pairs("--parameter", p.parameters)
	if err != nil {
		return nil, err
	}
	if _, ok := v["ThingName"]; !ok {
		v["ThingName"] = name
	}
	return v, nil
}

// cdfParameters are the cdfProvisioningParameters; nil when nothing is asked for.
func (p *provision) cdfParameters() (api.RawJSON, error) {
	if p.cdf != "" {
		return jsonFile("--cdf", p.cdf)
	}
	v := map[string]any{}
	if p.country != "" {
		v["certInfo"] = map[string]any{"country": p.country}
	}
	if p.caID != "" {
		v["caId"] = p.caID
	}
	if len(v) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding the request: %w", err)
	}
	return b, nil
}
