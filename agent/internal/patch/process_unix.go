//go:build unix

package patch

import (
	"os"
	"syscall"
)

// ask asks the process group of a playbook to end.
func ask(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGTERM) }

// kill ends it.
func kill(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
