// Package telemetry remembers what the agent of each core and client device last
// reported: is it there, what is its host and how does it fare, what does its
// nucleus do and run; and it counts what somebody should look at.
//
// It lives in memory alone. An agent says everything again when it connects, so
// a control plane that starts knows the fleet once the agents are back, and
// reports cost no write. What the reports look like is in shared/protocol and
// api/asyncapi.yaml.
//
// The package knows neither MQTT nor who may report: its caller vouches for the
// core or client device that a message comes from.
package telemetry
