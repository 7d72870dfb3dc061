package patch

import "syscall"

// group makes a playbook a process group of its own, which ends with the agent.
func group() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
