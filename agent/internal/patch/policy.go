package patch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ggfleet/ggfleet/installer/durable"
)

// allowName is the file in the agent's folder that allows patches.
const allowName = "patches-allowed"

// Allow lets the agent whose state folder is agentDir run patches, or not. It
// takes effect with the next patch, also while the agent runs.
func Allow(agentDir string, allow bool) error {
	name := filepath.Join(agentDir, allowName)
	if !allow {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forbidding patches: %w", err)
		}
		return nil
	}
	if err := os.MkdirAll(agentDir, 0o700); err != nil {
		return fmt.Errorf("allowing patches: %w", err)
	}
	if err := durable.WriteFileAt(name, []byte("The control plane may run Ansible playbooks here; ggfleet-agent patches off forbids it.\n"), 0o600); err != nil {
		return fmt.Errorf("allowing patches: %w", err)
	}
	return nil
}

// Allowed reports whether Allow let the agent run patches.
func Allowed(agentDir string) bool {
	_, err := os.Stat(filepath.Join(agentDir, allowName))
	return err == nil
}
