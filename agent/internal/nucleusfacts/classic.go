package nucleusfacts

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// maxConfig is how large an effective configuration is read, in bytes: its tree
// takes about twenty times that in memory.
const maxConfig = 256 << 10

var errTooMuch = fault.New(fault.TooLarge, "the program printed more than is read")

// readState takes what the nucleus says in its state file.
func (r *Reader) readState(ctx context.Context) {
	if !r.state.changed(r.at.StateFile) {
		return
	}
	b, ok := load(r.at.StateFile, nucleus.MaxState)
	if !ok {
		return // not written yet, or gone since
	}
	s, err := nucleus.ParseState(b)
	if err != nil {
		r.log.DebugContext(ctx, "nucleus state cannot be read", logx.Err, err)
		return
	}
	r.facts.Source, r.facts.Components = protocol.ComponentsFromState, sorted(s.Components)
}

// readClassic takes versions from the effective configuration, and states from
// greengrass-cli if it is deployed.
func (r *Reader) readClassic(ctx context.Context) {
	path := filepath.Join(r.at.Root, "config", "effectiveConfig.yaml")
	if r.config.changed(path) {
		if b, ok := load(path, maxConfig); !ok {
			r.log.WarnContext(ctx, "effective configuration is too large to be read", "path", path)
		} else if c, err := parseEffective(b); err != nil {
			r.log.DebugContext(ctx, "effective configuration cannot be read", logx.Err, err) // it may be half written
		} else if r.facts.ConfigDigest != c.digest {
			r.facts.ConfigDigest, r.versions, r.cliDue = c.digest, c.components, true
			if r.facts.Source != protocol.ComponentsFromCLI {
				r.facts.Source, r.facts.Components = protocol.ComponentsFromConfiguration, c.components
			}
		}
	}
	r.askCLI(ctx)
}

func (r *Reader) askCLI(ctx context.Context) {
	since := time.Since(r.cliAt)
	if since < cliSoonest || !r.cliDue && since < cliEvery {
		return
	}
	program, err := nucleus.Trusted(filepath.Join(r.at.Root, "bin", "greengrass-cli"))
	if err != nil {
		r.log.DebugContext(ctx, "greengrass-cli is not asked", logx.Err, err)
		r.fallBack()
		return
	}
	r.cliAt, r.cliDue = time.Now(), false
	ctx, cancel := context.WithTimeout(ctx, cliTime)
	defer cancel()
	b, err := r.system.Output(ctx, maxOutput, program, "component", "list")
	list := parseCLI(b)
	if err != nil || len(list) == 0 {
		r.log.DebugContext(ctx, "greengrass-cli does not answer", logx.Err, err)
		r.fallBack()
		return
	}
	r.facts.Source, r.facts.Components = protocol.ComponentsFromCLI, list
}

// fallBack tells versions alone: states that nobody confirms are not told on.
func (r *Reader) fallBack() {
	if r.versions != nil {
		r.facts.Source, r.facts.Components = protocol.ComponentsFromConfiguration, r.versions
	}
}

// effective is what is taken of an effective configuration.
type effective struct {
	components []protocol.LocalComponent
	digest     string
}

// allowed are the settings of the nucleus that the digest covers. None of them
// is a secret.
//
//nolint:gochecknoglobals // a constant table
var allowed = []string{
	"awsRegion", "componentStoreMaxSizeBytes", "deploymentPollingFrequencySeconds", "envStage", "greengrassDataPlaneEndpoint",
	"greengrassDataPlanePort", "iotCredEndpoint", "iotDataEndpoint", "iotRoleAlias", "platformOverride", "runWithDefault", "s3EndpointType",
}

// parseEffective reads config/effectiveConfig.yaml of classic.
func parseEffective(b []byte) (e effective, err error) {
	type service struct {
		Version       any            `yaml:"version"`
		Configuration map[string]any `yaml:"configuration"`
	}
	var doc struct {
		System struct {
			ThingName any `yaml:"thingName"`
			RootPath  any `yaml:"rootpath"`
		} `yaml:"system"`
		Services map[string]service `yaml:"services"`
	}
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return e, fault.New(fault.Invalid, "the effective configuration is not YAML of the known form: %v", err)
	}
	if len(doc.Services) == 0 {
		return e, fault.New(fault.Invalid, "the effective configuration names no services")
	}
	settings := map[string]any{}
	for name, s := range doc.Services {
		version, ok := s.Version.(string)
		if !ok || version == "" || !shown(name) || !shown(version) {
			continue
		}
		e.components = append(e.components, protocol.LocalComponent{Name: name, Version: version})
		if strings.HasPrefix(name, "aws.greengrass.Nucleus") {
			for _, k := range allowed {
				settings[k] = fmt.Sprint(s.Configuration[k])
			}
		}
	}
	e.components = sorted(e.components)
	covered, err := json.Marshal([]any{doc.System.ThingName, fmt.Sprint(doc.System.RootPath), settings, e.components})
	if err != nil {
		return e, fault.New(fault.Invalid, "the effective configuration has values that are no texts: %v", err)
	}
	sum := sha256.Sum256(covered)
	e.digest = hex.EncodeToString(sum[:])
	return e, nil
}

// parseCLI reads what `greengrass-cli component list` prints: a block of lines
// for each component.
func parseCLI(b []byte) (out []protocol.LocalComponent) {
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, maxOutput)
	for sc.Scan() {
		name, value, ok := strings.Cut(strings.TrimSpace(sc.Text()), ":")
		value = strings.TrimSpace(value)
		if !ok || !shown(value) {
			continue
		}
		switch last := len(out) - 1; {
		case name == "Component Name" && value != "":
			out = append(out, protocol.LocalComponent{Name: value})
		case name == "Version" && last >= 0:
			out[last].Version = value
		case name == "State" && last >= 0:
			out[last].State = value
		}
	}
	return sorted(out)
}

// shown tells whether a text can be a name, version or state.
func shown(s string) bool {
	return len(s) <= 256 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' || r > 0x7f && r < 0xa0 })
}

// sorted returns the list by name, one entry each, and never nil.
func sorted(list []protocol.LocalComponent) []protocol.LocalComponent {
	out := append([]protocol.LocalComponent{}, list...)
	slices.SortStableFunc(out, func(a, b protocol.LocalComponent) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(out, func(a, b protocol.LocalComponent) bool { return a.Name == b.Name })
}
