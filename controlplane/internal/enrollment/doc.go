// Package enrollment lets devices in: activations (spec cdf-services §6.2), the
// exchange of an activation for the agent's own certificate, and what an agent
// is to make true on its core device.
//
// The agent is a principal of its own: own key made on the device, own
// certificate, own thing beside the core's. Its thing carries the attribute
// "core", which its policy refers to, so that it reaches its core's topics and
// nobody else's.
//
// An activation's code is shown once and stored as a hash. The package knows
// neither HTTP nor the store of the fleet service: what it needs of a core are
// the ports in ports.go.
package enrollment
