// Package device drives the device gateway with clients that nobody here wrote:
// AWS's device SDK for JavaScript (install it with npm ci in this directory) and
// mosquitto's command line clients. Tests whose client is missing are skipped,
// unless GGFLEET_REQUIRE_PEERS is 1: then they fail.
package device
