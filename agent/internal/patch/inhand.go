package patch

import "github.com/ggfleet/ggfleet/agent/internal/localstate"

// InHand reports whether a patch was taken and has not been reported yet: then
// the agent should not stop by itself.
func InHand(dir *localstate.Dir) bool {
	_, err := dir.Root().Stat(journalName)
	return err == nil
}
