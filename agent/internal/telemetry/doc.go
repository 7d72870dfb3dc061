// Package telemetry says how the device fares: connection, host, health, nucleus
// and components, as the reports of shared/protocol. Only what changed is said,
// and the health now and then as a heartbeat (docs/telemetry.md).
//
// A report is appended to the Spool on disk with its sequence number, and sent
// from there in order, one at a time, until the broker has acknowledged it. So a
// report survives a kill, a broker that is away costs nothing but room, and the
// room is bounded: the oldest reports go first and are counted. A report may
// arrive twice (same sequence), never out of order. A disk that takes nothing
// costs the reports' safety, not the reports: they are kept in memory and say so.
//
// The package does not know MQTT.
package telemetry
