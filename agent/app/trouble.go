package app

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/shared/logx"
)

const (
	troubleName = "trouble.json"
	maxEnds     = 20 // that are kept
	recently    = time.Hour
)

// trouble is what the nucleus suffers from, kept for whoever stands at the device:
// 'status' and the doctor run beside the agent. One that is well has no record.
type trouble struct {
	LastError string      `json:"lastError,omitempty"` // of it, or of its installation
	Ends      []time.Time `json:"ends,omitempty"`      // when it was started again, by the device's clock
}

// readTrouble returns the trouble of the agent in agentDir. What cannot be read is
// not told.
func readTrouble(agentDir string) (t trouble) {
	_ = readJSON(filepath.Join(agentDir, troubleName), &t)
	return t
}

// recent is how often the nucleus was started again within the last hour.
func (t trouble) recent(now time.Time) (n int) {
	for _, at := range t.Ends {
		if age := now.Sub(at); age >= 0 && age < recently {
			n++
		}
	}
	return n
}

func (t trouble) print(w io.Writer, now time.Time) {
	if t.LastError != "" {
		fmt.Fprintf(w, "trouble:  %s\n", t.LastError)
	}
	if n := t.recent(now); n > 0 {
		fmt.Fprintf(w, "          the nucleus was started again %d times within an hour\n", n)
	}
}

// troubleKeeper writes the record when it changes: a nucleus that is well costs no
// write. It belongs to the supervisor's goroutine.
type troubleKeeper struct {
	a        *agent
	kept     trouble
	restarts int
}

func (a *agent) keepTrouble() *troubleKeeper {
	return &troubleKeeper{a: a, kept: readTrouble(a.dir.Path("."))}
}

func (k *troubleKeeper) became(n telemetry.Nucleus) {
	now := trouble{LastError: n.LastError, Ends: k.kept.Ends}
	for ; k.restarts < n.Restarts; k.restarts++ {
		now.Ends = append(slices.Clone(now.Ends), time.Now().UTC())
	}
	now.Ends = now.Ends[max(0, len(now.Ends)-maxEnds):]
	if now.LastError == k.kept.LastError && slices.Equal(now.Ends, k.kept.Ends) {
		return
	}
	k.kept = now
	if err := k.a.dir.WriteJSON(troubleName, now); err != nil {
		k.a.cfg.Log.Warn("trouble of the nucleus is not kept", logx.Err, err)
	}
}
