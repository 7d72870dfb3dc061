//go:build unix

package nucleus

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

const nonBlock = syscall.O_NONBLOCK

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

func ownerOf(info fs.FileInfo) (uid, gid int) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), int(st.Gid)
	}
	return 0, 0
}

func writable(dir string) error {
	const write = 2 // W_OK
	if err := syscall.Access(dir, write); err != nil {
		return fmt.Errorf("writing in %s: %w", dir, err)
	}
	return nil
}
