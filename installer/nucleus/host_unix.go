//go:build unix

package nucleus

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ggfleet/ggfleet/shared/fault"
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

// Trusted returns the path of a program, links followed, that root may run: nobody
// but root can exchange it or a folder on the way to it. Otherwise the error is of
// kind fault.Denied. An agent that is not root gives nothing away by running it.
func Trusted(program string) (string, error) {
	program, err := filepath.EvalSymlinks(program)
	if err != nil || os.Geteuid() != 0 {
		return program, err
	}
	for name := program; ; name = filepath.Dir(name) {
		info, err := os.Lstat(name)
		if err != nil {
			return "", err
		}
		if others(info) {
			return "", fault.New(fault.Denied, "%s is not run as root: accounts other than root may change %s", program, name)
		}
		if name == filepath.Dir(name) {
			return program, nil
		}
	}
}
