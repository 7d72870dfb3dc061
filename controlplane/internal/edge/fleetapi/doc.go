// Package fleetapi is the HTTP edge of the fleet service: routes, media types,
// authentication, limits, and the translation between the bodies of the fleet
// API (controlplane/api) and the types of package fleet.
//
// It decides nothing about cores, templates or deployments; it asks the ports in
// ports.go. Together with its sibling edges it is the only place that knows gin.
// What is generated from controlplane/api/fleet.openapi.yaml is in gen.
package fleetapi
