// Package protocol holds the messages that cross the wire between a core
// device and the cloud: what an unmodified Greengrass nucleus sends and
// receives (topics, jobs, fleet status, deployment document: spec
// nucleus-contract §2-§5), and what ggfleet's own agent says.
//
// Readers accept unknown members and read an absent one as "unknown". A wire
// type is apart from the domain types on both sides, so that a change of one is
// a decision about the other.
package protocol
