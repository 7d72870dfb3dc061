// Package telemetry says how the device fares: connection, health, nucleus and
// components, as the reports of shared/protocol.
//
// A report is appended to the Spool on disk with its sequence number, and sent
// from there in order, one at a time, until the broker has acknowledged it. So a
// report survives a kill, a broker that is away costs nothing but room, and the
// room is bounded: the oldest reports go first and are counted. A report may
// arrive twice (same sequence), never out of order.
//
// The package knows neither MQTT nor where the facts come from.
package telemetry
