// Package e2e tests whole jobs from the outside: a real ggfleet and real agents
// with their nucleus, each a process of its own, as an operator meets them.
package e2e
