package help

import (
	"fmt"
	"os"
	"syscall"
)

// InJournal reports whether what this process writes to standard error goes to
// systemd's journal.
func InJournal() bool {
	info, err := os.Stderr.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
