// Package localstate is the agent's own folder on the device, ROOT/agent: one
// lock so that two agents never share a root, small records that survive a
// power cut, and the table of the durable steps of the agent's work (Point).
//
// It does not know what the records mean.
package localstate
