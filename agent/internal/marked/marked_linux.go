package marked

import (
	"bytes"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Processes returns those that have the variable with the value. Who is not root
// sees his own only.
func Processes(variable, value string) (pids []int) {
	mark := []byte(variable + "=" + value)
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		for v := range environ(pid) {
			if bytes.Equal(v, mark) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// Kill ends them at once.
func Kill(variable, value string) {
	for _, pid := range Processes(variable, value) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone by now
	}
}

// Value returns the variable of process pid, "" when that is not known.
func Value(pid int, variable string) string {
	for v := range environ(pid) {
		if value, ok := bytes.CutPrefix(v, []byte(variable+"=")); ok {
			return string(value)
		}
	}
	return ""
}

// environ is what the process was started with, nothing of one that is gone or
// another user's.
func environ(pid int) iter.Seq[[]byte] {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		b = nil
	}
	return bytes.SplitSeq(b, []byte{0})
}
