package config

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Bounds of an overlay.
const (
	maxOverlay      = 64 << 10 // bytes
	maxOverlayDepth = 20
	maxName         = 256 // bytes of a member's name; YAML allows 1,024 characters
)

// Names of the two overlays in errors.
const (
	settingsOverlay = "overlay"       // of Settings
	inputOverlay    = "configOverlay" // of Input
)

// CheckOverlay refuses what can be the overlay of no core with fault.Invalid
// and the path of the member, below configOverlay.
func CheckOverlay(raw json.RawMessage) error {
	_, err := parseOverlay(inputOverlay, raw)
	return err
}

func parseOverlay(name string, raw json.RawMessage) (map[string]any, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if len(raw) > maxOverlay {
		return nil, fault.Field(name, "has %d bytes, at most %d are allowed", len(raw), maxOverlay)
	}
	if !utf8.Valid(raw) {
		return nil, fault.Field(name, "is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fault.Field(name, "is not JSON: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fault.Field(name, "has something after the JSON value")
	}
	o, ok := v.(map[string]any)
	if !ok {
		return nil, fault.Field(name, "is not a JSON object")
	}
	return o, checkOverlay(o, name, 0)
}

func checkOverlay(v any, path string, depth int) error {
	if depth > maxOverlayDepth {
		return fault.Field(path, "is nested deeper than %d", maxOverlayDepth)
	}
	switch v := v.(type) {
	case map[string]any:
		for key, x := range v {
			if key == "" || len(key) > maxName {
				return fault.Field(path, "has a member with a name of %d bytes, 1 to %d are allowed", len(key), maxName)
			}
			if err := checkOverlay(x, path+"."+key, depth+1); err != nil {
				return err
			}
		}
	case json.Number:
		if _, err := v.Float64(); err != nil {
			return fault.Field(path, "%s is too large for a number", v)
		}
	case []any:
		for _, x := range v {
			if err := checkOverlay(x, path+"[]", depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// merged returns m with the overlay merged in: members that were there keep
// their place, others follow in order of their names. m stays as it is.
func (m mapping) merged(overlay map[string]any, path string) (mapping, error) {
	out := make(mapping, 0, len(m)+len(overlay))
	for _, e := range m {
		v, ok := overlay[e.key]
		if !ok {
			out = append(out, e)
			continue
		}
		if v == nil {
			continue
		}
		at := path + "." + e.key
		inner, isMapping := e.value.(mapping)
		object, isObject := v.(map[string]any)
		if isMapping && !isObject {
			return nil, fault.Field(at, "is an object in the document: give an object, or null to leave it out")
		}
		if isMapping {
			merged, err := inner.merged(object, at)
			if err != nil {
				return nil, err
			}
			out = append(out, entry{e.key, merged})
			continue
		}
		out = append(out, entry{e.key, fromJSON(v)})
	}
	for _, key := range slices.Sorted(maps.Keys(overlay)) {
		if overlay[key] != nil && !slices.ContainsFunc(m, func(e entry) bool { return e.key == key }) {
			out = append(out, entry{key, fromJSON(overlay[key])})
		}
	}
	return out, nil
}

// fromJSON returns a decoded JSON value as the value of an entry. Inside an
// object null is nothing, as merge patches have it.
func fromJSON(v any) any {
	object, ok := v.(map[string]any)
	if !ok {
		return flow(v)
	}
	m := mapping{}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if object[key] != nil {
			m = append(m, entry{key, fromJSON(object[key])})
		}
	}
	return m
}

// flow writes a JSON value on one line of YAML. Numbers stay numbers and text
// stays text.
func flow(v any) string {
	switch v := v.(type) {
	case string:
		return scalar(v)
	case json.Number:
		if f, err := v.Float64(); err == nil && strings.ContainsAny(v.String(), "eE") {
			return strconv.FormatFloat(f, 'f', -1, 64) // 1e3 is text in YAML 1.1
		}
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	case []any:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = flow(x)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, scalar(key)+": "+flow(v[key]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return "null"
}
