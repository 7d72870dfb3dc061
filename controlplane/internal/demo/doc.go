// Package demo does the whole job once, on a small fleet on this machine: it
// offers a nucleus, creates cores, enrols an agent for each, waits until the
// cores are HEALTHY, deploys a template of components and shows the fleet.
//
// It works through public surfaces only: the fleet API, and the agent's program
// as a process of its own. Run again on the same data, it goes on from what is
// there. The nucleus it offers is the simulated one.
package demo
