// Package memory is the fake of object.Store for tests: objects in a map, and
// failures on demand. It must not be used outside of tests: it holds every
// byte in memory and forgets all of them at the end of the process.
package memory
