package patch

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// group makes a playbook a process group of its own, which ends with the agent.
func group() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// killAll ends every process of the run that an agent which was killed has left.
func killAll(run string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		env, err := os.ReadFile(filepath.Join(d, "environ"))
		if err != nil {
			continue // gone, or of another user
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			pid, err := strconv.Atoi(filepath.Base(d))
			if err == nil && string(v) == runVar+"="+run {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone by now
			}
		}
	}
}
