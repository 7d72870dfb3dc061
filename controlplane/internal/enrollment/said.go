package enrollment

import (
	"strings"
	"unicode"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Bounds of what a device says of itself.
const (
	maxSerial   = 128 // bytes, as are the rest
	maxPlatform = 64
	maxMessage  = 1024
)

// checkSaid checks what a device says of itself.
func checkSaid(r protocol.EnrollRequest) error {
	if r.Role != "" && r.Role != protocol.RoleCore && r.Role != protocol.RoleClient {
		return fault.Field("role", "is %q, want %s or %s", fault.Brief(string(r.Role)), protocol.RoleCore, protocol.RoleClient)
	}
	if r.Name != "" {
		if err := checkName(r.Name); err != nil {
			return err
		}
	}
	if err := checkText("serial", r.Serial, maxSerial); err != nil {
		return err
	}
	return checkText("platform", r.Platform, maxPlatform)
}

// maxName leaves room for the agent's.
func maxName() int { return names.MaxThing - len(protocol.AgentThing("")) }

// checkName: a thing's name that leaves room for its agent's, and is none itself.
func checkName(name string) error {
	if err := names.CheckThing(name); err != nil {
		return fault.Field("name", "%s", fault.Message(err))
	}
	if len(name) > maxName() {
		return fault.Field("name", "has %d characters; with an agent at most %d", len(name), maxName())
	}
	if strings.HasSuffix(name, protocol.AgentThing("")) {
		return fault.Field("name", "%q is a name of agents; enrol with the name of the device", name)
	}
	return nil
}

func checkText(field, s string, limit int) error {
	if len(s) > limit {
		return fault.Field(field, "has %d bytes, at most %d are taken", len(s), limit)
	}
	// What cannot be seen, or turns what can, would let one text pass for another.
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || r == unicode.ReplacementChar }) {
		return fault.Field(field, "holds control characters or others that cannot be seen, or is not UTF-8")
	}
	return nil
}

// same reports an applicant that asks for something else with the key of r.
func (r Request) same(a applicant) error {
	name := r.Name
	if r.Assigned {
		name = ""
	}
	role := a.Role
	if role == "" {
		role = protocol.RoleCore
	}
	if a.way() == WayCertificate {
		if a.Thing != r.Name {
			return otherKey("name", r.Name, a.Thing)
		}
		return nil
	}
	switch {
	case a.Name != name:
		return otherKey("name", name, a.Name)
	case role != r.Role:
		return otherKey("role", string(r.Role), string(role))
	case a.Serial != r.Serial:
		return otherKey("serial", r.Serial, a.Serial)
	}
	return nil
}

func otherKey(what, before, now string) error {
	return fault.New(fault.Exists, "%s: this key asked as %q before and now asks as %q; enrol with a new key, or have the request removed with DELETE /enrollmentRequests/{id}", what, fault.Brief(before), fault.Brief(now))
}
