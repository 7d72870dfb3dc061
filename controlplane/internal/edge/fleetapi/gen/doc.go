// Package gen is the server side of the fleet API, generated from
// controlplane/api/fleet.openapi.yaml: routes, binding of parameters, and one
// method for each operation. Nothing in it is written by hand.
package gen
