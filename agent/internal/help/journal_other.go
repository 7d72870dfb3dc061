//go:build !linux

package help

// InJournal reports whether what this process writes to standard error goes to
// systemd's journal.
func InJournal() bool { return false }
