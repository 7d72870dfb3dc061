package nucleus

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// record says what was started last: a process, or a unit of systemd.
type record struct {
	Token  string `json:"token,omitempty"` // of a process
	Digest string `json:"digest"`
	PID    int    `json:"pid,omitempty"` // 0: the start was about to happen
	Start  uint64 `json:"start,omitempty"`
	Boot   string `json:"boot"`
	Unit   string `json:"unit,omitempty"`
}

const recordName = "nucleus.json"

// Running returns the pid of the nucleus process that the agent with the given
// state folder runs. It only reads.
func Running(agentDir string) (pid int, ok bool) {
	b, err := os.ReadFile(filepath.Join(agentDir, recordName))
	var r record
	if err == nil && json.Unmarshal(b, &r) == nil {
		if pid, _, ok = r.alive(); ok {
			return pid, true
		}
	}
	pid, _, ok = lost(filepath.Dir(agentDir))
	return pid, ok
}
