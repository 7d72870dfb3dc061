// Package enroll makes the agent known to a control plane: from what an operator
// hands over, or from nothing but the address and somebody's approval, to a stored
// identity. It does not know what the agent does afterwards.
//
// Order of work: how to enrol is stored first (Intent), then the agent's key, and
// both before anything is sent, so that sending again is sending the same; the
// identity is stored as one record; then the intent, which holds secrets, is
// removed. A lost answer, a kill or a power cut at any point costs one more call.
package enroll
