// Package inventory reads what the machine is and how it fares: on Linux from
// /proc, /sys and the file systems, elsewhere what costs little. What cannot be
// read is unknown, never zero. Nothing here starts a program or waits.
//
// It knows nothing of reports, only their shapes.
package inventory
