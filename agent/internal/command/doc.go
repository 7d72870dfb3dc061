// Package command is the agent's command line. A command reads its flags, calls
// one function of package app and prints what came of it; it decides nothing
// else. It is the agent's only user of cobra.
package command
