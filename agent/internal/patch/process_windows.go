package patch

import (
	"os"
	"syscall"
)

// group makes a playbook a process group of its own. Ansible does not run on
// Windows: the runner says so before it comes to this.
func group() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// ask ends a playbook: there is no asking here.
func ask(p *os.Process) error { return p.Kill() }

// kill ends it.
func kill(p *os.Process) { _ = p.Kill() }
