// Package telemetry remembers what each core's agent last reported: is it
// there, how is its host, what does its nucleus do and run.
//
// It lives in memory alone. An agent says everything again when it connects, so
// a control plane that starts knows the fleet once the agents are back, and
// reports cost no write. What the reports look like is in shared/protocol and
// api/asyncapi.yaml.
//
// The package knows neither MQTT nor who may report: its caller vouches for the
// core that a message comes from.
package telemetry
