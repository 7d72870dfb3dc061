// Package event keeps what happened to the fleet and tells those who asked.
//
// An event is written with the change that it tells of: Add puts it into the
// change's own batch, so there is never the one without the other. One replica
// at a time moves new events from there into the log and numbers them in the
// order of their commits. From the log they go to webhooks, to MQTT topics, to
// readers of the stream, and, through the port Bus, to another event bus; each at
// least once and in order per core. The same events, and others that nobody
// subscribes to, are the history of a core.
//
// It knows no HTTP framework, no broker and no domain package: whoever adds an
// event says what it means.
package event
