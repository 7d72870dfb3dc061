package fleet

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Members of the options of a task of type Delete.
const (
	optionCores   = "deprovisionCores"
	optionDevices = "deprovisionClientDevices"
)

// deleteOptions reads the options of a task of type Delete, which must name at
// least one of those allowed. Text is no boolean, whatever it says.
func deleteOptions(raw json.RawMessage, allowed ...string) (DeleteOptions, error) {
	want := "an object with " + strings.Join(allowed, " or ") + " (true or false)"
	var members map[string]json.RawMessage
	if raw = present(raw); len(raw) > 0 && json.Unmarshal(raw, &members) != nil {
		return DeleteOptions{}, fault.Field("options", "is not %s", want)
	}
	if len(members) == 0 {
		return DeleteOptions{}, fault.Field("options", "is missing or empty; deleting wants %s", want)
	}
	var o DeleteOptions
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(allowed, name) {
			return o, fault.Field("options."+fault.Brief(name), "is not known here; want %s", strings.Join(allowed, " or "))
		}
		value := string(members[name])
		if value != "true" && value != "false" {
			return o, fault.Field("options."+name, "is %.40s, want true or false", value)
		}
		switch name {
		case optionCores:
			o.DeprovisionCores = value == "true"
		case optionDevices:
			o.DeprovisionClientDevices = value == "true"
		}
	}
	return o, nil
}
