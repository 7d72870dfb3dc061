package claims

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Limits of a template body and of what its functions make (iot-api §17).
const (
	maxBody      = 10240   // characters
	maxParameter = 4096    // characters of a parameter's value
	maxMade      = 1 << 18 // bytes that the functions of one body make in all
)

// certificateID is the parameter that holds the id of the certificate which is
// being provisioned.
const certificateID = "AWS::IoT::Certificate::Id"

// builtIn are the parameters that need no declaration; all but the first are of
// just-in-time provisioning.
func builtIn() []string {
	return []string{
		certificateID, "AWS::IoT::Certificate::Country", "AWS::IoT::Certificate::Organization", "AWS::IoT::Certificate::OrganizationalUnit",
		"AWS::IoT::Certificate::DistinguishedNameQualifier", "AWS::IoT::Certificate::StateName", "AWS::IoT::Certificate::CommonName",
		"AWS::IoT::Certificate::SerialNumber",
	}
}

// document is a template body that was read without error.
type document struct {
	parameters    map[string]parameter
	mappings      map[string]map[string]map[string]any // a string or a list of strings
	resources     map[string]any
	configuration map[string]any // DeviceConfiguration
}

type parameter struct {
	Type    string  `json:"Type"`
	Default *string `json:"Default"`
}

// parse reads a template body. Errors are of kind Invalid and name the section.
func parse(body string) (*document, error) {
	if n := utf8.RuneCountInString(body); n > maxBody {
		return nil, fault.Field("templateBody", "has %d characters, more than %d", n, maxBody)
	}
	var sections map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &sections); err != nil || sections == nil {
		return nil, fault.Field("templateBody", "is not a JSON object: %v", err)
	}
	d := &document{}
	into := map[string]any{"Parameters": &d.parameters, "Mappings": &d.mappings, "Resources": &d.resources, "DeviceConfiguration": &d.configuration}
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		if into[name] == nil {
			return nil, fault.Field(name, "is not known; a provisioning template has Parameters, Mappings, Resources and DeviceConfiguration")
		}
		if err := json.Unmarshal(sections[name], into[name]); err != nil {
			return nil, fault.Field(name, "cannot be read: %s", err)
		}
	}
	if len(d.resources) == 0 {
		return nil, fault.Field("Resources", "is missing")
	}
	for name, p := range d.parameters {
		if p.Type != "String" {
			return nil, fault.Field("Parameters."+name, "needs Type String")
		}
	}
	return d, d.checkMappings()
}

func (d *document) checkMappings() error {
	for name, keys := range d.mappings {
		for key, values := range keys {
			for second, v := range values {
				if _, list := texts(v); !list {
					if _, one := v.(string); !one {
						return fault.Field("Mappings."+name+"."+key+"."+second, "must be text or a list of texts; functions do not work here")
					}
				}
			}
		}
	}
	return nil
}

func texts(v any) ([]string, bool) {
	l, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]string, len(l))
	for i, x := range l {
		if out[i], ok = x.(string); !ok {
			return nil, false
		}
	}
	return out, true
}

// plain is a template without functions: what refers to something is a reference
// to one of its own parameters.
type plain struct {
	body          []byte
	parameters    map[string]string
	configuration map[string]any
}

// check looks at all that does not depend on parameters, and returns a plain
// template of the same form.
func (d *document) check() (plain, error) { return d.resolve(nil, true) }

// fill works the template out for one device. given may hold parameters that the
// template does not declare: they do not count.
func (d *document) fill(given map[string]string) (plain, error) { return d.resolve(given, false) }

func (d *document) resolve(given map[string]string, dry bool) (plain, error) {
	r := &resolver{doc: d, given: given, dry: dry, names: map[string]string{}, left: maxMade}
	resources, err := r.rewrite("Resources", d.resources)
	if err != nil {
		return plain{}, err
	}
	d.activate(resources)
	out := plain{parameters: map[string]string{}, configuration: map[string]any{}}
	declared := map[string]any{}
	for value, name := range r.names {
		out.parameters[name], declared[name] = value, map[string]string{"Type": "String"}
	}
	for _, key := range slices.Sorted(maps.Keys(d.configuration)) {
		if out.configuration[key], err = r.scalar("DeviceConfiguration."+key, d.configuration[key]); err != nil {
			return plain{}, err
		}
	}
	if out.body, err = json.Marshal(map[string]any{"Parameters": declared, "Resources": resources}); err != nil {
		return plain{}, fmt.Errorf("encode provisioning template: %w", err)
	}
	return out, nil
}

// activate gives the certificate that is being provisioned its status although it
// exists: it waited for this. One that the device names otherwise keeps its own.
func (d *document) activate(rewritten any) {
	all, _ := rewritten.(map[string]any)
	for name, r := range d.resources {
		given, _ := r.(map[string]any)
		properties, _ := given["Properties"].(map[string]any)
		ref, _ := properties["CertificateId"].(map[string]any)
		if out, ok := all[name].(map[string]any); ok && ref["Ref"] == certificateID {
			out["OverrideSettings"] = map[string]string{"Status": "REPLACE"}
		}
	}
}

// scalar is a value of DeviceConfiguration, which is flat.
func (r *resolver) scalar(path string, v any) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		name, arg, ok := function(v)
		if !ok {
			return nil, fault.Field(path, "must be text, a number or true or false: DeviceConfiguration is flat")
		}
		return r.text(path, name, arg)
	case []any:
		return nil, fault.Field(path, "must not be a list: DeviceConfiguration is flat")
	}
	return v, nil
}

// rewrite returns v with a reference in the place of each function, and of each
// policy document that is an object a text.
func (r *resolver) rewrite(path string, v any) (any, error) {
	if m, object := v.(map[string]any); object {
		if name, arg, ok := function(m); ok {
			return r.reference(path, name, arg)
		}
	}
	return inside(path, v, r.member, r.rewrite)
}

// inside returns v with what member made of each member of an object, or item of
// each item of a list.
func inside(path string, v any, member func(path, key string, v any) (any, error), item func(path string, v any) (any, error)) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			x, err := member(path+"."+key, key, v[key])
			if err != nil {
				return nil, err
			}
			out[key] = x
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			var err error
			if out[i], err = item(path+"["+strconv.Itoa(i)+"]", x); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

func (r *resolver) member(path, key string, v any) (any, error) {
	m, object := v.(map[string]any)
	if !object {
		return r.rewrite(path, v)
	}
	name, arg, isFunction := function(m)
	switch {
	case key == "PolicyDocument" && !isFunction:
		return r.policy(path, m)
	case key == "ThingGroups" && isFunction:
		list, err := r.list(path, name, arg)
		if err != nil {
			return nil, err
		}
		out := make([]any, len(list))
		for i, x := range list {
			out[i] = r.named(x)
		}
		return out, nil
	}
	return r.rewrite(path, v)
}

// policy makes a policy that is an object the text that the registry keeps.
func (r *resolver) policy(path string, m map[string]any) (any, error) {
	v, err := r.literal(path, m)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", path, err)
	}
	return r.named(string(raw)), nil
}

// literal returns v with the result in the place of each function.
func (r *resolver) literal(path string, v any) (any, error) {
	if m, object := v.(map[string]any); object {
		if name, arg, ok := function(m); ok {
			if name == "Fn::Split" || name == "Fn::FindInMap" {
				return r.call(path, name, arg)
			}
			return r.text(path, name, arg)
		}
	}
	return inside(path, v, func(path, _ string, v any) (any, error) { return r.literal(path, v) }, r.literal)
}

// reference is a function's result as a parameter of the plain template.
func (r *resolver) reference(path, name string, arg any) (any, error) {
	s, err := r.text(path, name, arg)
	if err != nil {
		return nil, err
	}
	return r.named(s), nil
}

func (r *resolver) named(value string) any {
	name, ok := r.names[value]
	if !ok {
		name = "p" + strconv.Itoa(len(r.names)+1)
		r.names[value] = name
	}
	return map[string]any{"Ref": name}
}
