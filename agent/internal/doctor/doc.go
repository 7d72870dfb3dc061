// Package doctor finds out why a device does not work and says what to do.
//
// A Check has a code, its meaning and the way out, and looks at one thing. The
// checks run in the order of the table in checks.go; one that stands on another
// which did not pass is skipped, so that what is reported is the cause and not
// all that follows from it.
//
// The package looks, and changes nothing but a probe file that it removes. What
// it looks at comes through Host and Device, which package app fills: so every
// check has a test that breaks exactly what it is for.
package doctor
