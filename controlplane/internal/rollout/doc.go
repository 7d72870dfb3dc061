// Package rollout is how a deployment spreads over many cores, as a state machine
// without clock, store or device (greengrassv2-api §11): the rate of notifications
// from the counters, when the next one is due, and the criteria that stop it all.
// Whoever drives a rollout keeps its State with what it records anyway, so that
// neither a crash nor a second replica notifies a core too many.
package rollout
