// Package consent keeps what the owner of a device lets the control plane do on
// it. Everything is forbidden until it is allowed here, on the device. A change
// takes effect at once, also while the agent runs.
package consent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Permission is one thing that can be allowed.
type Permission string

// The permissions.
const (
	Patches     Permission = "patches"     // run Ansible playbooks
	Logs        Permission = "logs"        // read logs of agent, nucleus and components
	Bundle      Permission = "bundle"      // fetch a support bundle
	Restart     Permission = "restart"     // restart the nucleus or a component
	Diagnostics Permission = "diagnostics" // run the named diagnostics and the doctor
)

// Permissions returns all of them.
func Permissions() []Permission { return []Permission{Patches, Logs, Bundle, Restart, Diagnostics} }

// Parse reads a comma-separated list of permissions; "all" is every one of
// them, the empty text none.
func Parse(list string) ([]Permission, error) {
	var out []Permission
	for word := range strings.SplitSeq(list, ",") {
		p := Permission(strings.TrimSpace(word))
		switch {
		case p == "":
		case p == "all":
			out = append(out, Permissions()...)
		case slices.Contains(Permissions(), p):
			out = append(out, p)
		default:
			return nil, fault.New(fault.Invalid, "%q is nothing that can be allowed; there are %v, and all", p, Permissions())
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func file(agentDir string, p Permission) string { return filepath.Join(agentDir, string(p)+"-allowed") }

// Allow lets the agent whose state folder is agentDir do p, or not.
func Allow(agentDir string, p Permission, allow bool) error {
	name := file(agentDir, p)
	if !allow {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forbidding %s: %w", p, err)
		}
		return nil
	}
	if err := os.MkdirAll(agentDir, 0o700); err != nil {
		return fmt.Errorf("allowing %s: %w", p, err)
	}
	text := fmt.Sprintf("The control plane may use %q on this device; 'ggfleet-agent forbid %s' ends that.\n", p, p)
	err := durable.WriteFileAt(name, []byte(text), 0o600)
	if errors.Is(err, fs.ErrNotExist) { // an agent that starts sweeps its folder
		err = durable.WriteFileAt(name, []byte(text), 0o600)
	}
	if err != nil {
		return fmt.Errorf("allowing %s: %w", p, err)
	}
	return nil
}

// Allowed reports whether Allow let the agent do p.
func Allowed(agentDir string, p Permission) bool {
	_, err := os.Stat(file(agentDir, p))
	return err == nil
}

// Given returns what is allowed.
func Given(agentDir string) []Permission {
	return slices.DeleteFunc(Permissions(), func(p Permission) bool { return !Allowed(agentDir, p) })
}
