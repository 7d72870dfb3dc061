// Package help keeps what operators ask of single devices: the lines of a log, a
// support bundle, a restart, a diagnosis.
//
// A request is a record and stands among those that wait for its device until
// the device's agent has taken it and reported how it ended. A device has few of
// them at once; one that nobody takes expires, and what a device sent is kept
// for a week. Whether it does what is asked is the device's own decision
// (agent/internal/consent), and each request and its end is an event that names
// who asked.
//
// Contents lie in the object store in parts, which the agent sends one by one:
// nothing here holds more than a part, and a broken line costs a part.
//
// The package knows neither HTTP nor MQTT; its ports are in ports.go.
package help
