// Package names holds the rules for the names of the field: things, thing
// groups, components, task ids, client ids, and the ARNs made from them.
//
// Limits are AWS's (spec iot-api §15, greengrassv2-api §1.6); each function
// says which. Errors are of kind fault.Invalid.
package names
