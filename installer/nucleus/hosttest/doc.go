// Package hosttest is a host for tests: a nucleus.System whose files lie in a
// folder, with systemd, accounts and java played by functions, and every change
// of which can be made to fail. It is never part of a program that is shipped.
package hosttest
