package iot

import (
	"maps"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Most attributes that a thing or a group may have (iot-api §15). RegisterBatch
// does not lower the limit for a thing without a type: provisioning templates of
// this server describe cores with more attributes than three and no type.
const (
	MaxAttributes        = 50
	MaxAttributesUntyped = 3
	maxAttributeBytes    = 47 << 10 // names and values together
)

// attributesOf is what a thing or group has after it was given some: they replace
// what it had, or with merge are laid over it. One whose value is empty goes.
func attributesOf(had, given map[string]string, merge bool) map[string]string {
	out := map[string]string{}
	if merge {
		maps.Copy(out, had)
	}
	maps.Copy(out, given)
	maps.DeleteFunc(out, func(_, v string) bool { return v == "" })
	if len(out) == 0 {
		return nil
	}
	return out
}

// checkAttributes refuses more than limit attributes, or too many bytes of them.
func checkAttributes(path string, attributes map[string]string, limit int, why string) error {
	if len(attributes) > limit {
		return fault.Field(path, "would make %d attributes, over the limit of %d%s", len(attributes), limit, why)
	}
	size := 0
	for n, v := range attributes {
		size += len(n) + len(v)
	}
	if size > maxAttributeBytes {
		return fault.Field(path, "would make %d bytes of attributes, over the limit of %d", size, maxAttributeBytes)
	}
	return nil
}

const attributesField = "attributePayload.attributes"

// checkThingAttributes refuses what a thing of that type may not have.
func checkThingAttributes(thingType string, attributes map[string]string) error {
	if thingType == "" {
		return checkAttributes(attributesField, attributes, MaxAttributesUntyped, " for a thing without a thing type; give it a type, which allows 50")
	}
	return checkAttributes(attributesField, attributes, MaxAttributes, "")
}
