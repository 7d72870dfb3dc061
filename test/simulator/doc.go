// Package simulator is a Greengrass core device that speaks the runtimes' true
// protocol (spec nucleus-contract): MQTT with jobs and fleet status, the HTTPS
// data plane, the credentials endpoint and artifact downloads. It has the habits
// and the strictness of nucleus lite 2.6.0 and of the classic nucleus, so that
// what it accepts a real runtime accepts.
//
// It runs no component: states move to RUNNING (FINISHED for a component without
// lifecycle), or to BROKEN where Config.Fail says so. It knows the wire contract
// only, nothing of the cloud it talks to, and thousands fit into one process.
//
// What it leaves out: deployments by shadow (classic subscribes to the topics but
// acts on jobs alone), endpoint switch, telemetry, client devices.
package simulator
