package patch

import (
	"syscall"
)

// group makes a playbook a process group of its own.
func group() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
