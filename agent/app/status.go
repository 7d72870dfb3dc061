package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ggfleet/ggfleet/agent/internal/identity"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
)

// Status writes what the agent in root is and what it runs. It only reads, and
// works while the agent runs.
func Status(w io.Writer, root string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "root:     %s\n", root)
	printService(w, root)

	if err := UpdateStatus(w, root, buildinfo.Version); err != nil {
		return err
	}

	agent := filepath.Join(root, "agent")
	var id identity.Identity
	if err := readJSON(filepath.Join(agent, "identity.json"), &id); err != nil || id.Core == "" {
		fmt.Fprintln(w, "enrolled: no")
		return err
	}
	fmt.Fprintf(w, "enrolled: %s at %s\ncore:     %s\n", id.AgentThing, id.URL, id.Core)

	if err := PrintConsent(w, root); err != nil {
		return err
	}

	var installed reconcile.Record
	if err := readJSON(filepath.Join(agent, reconcile.RecordName), &installed); err != nil {
		return err
	}
	state := "not running"
	if pid, ok := process.Running(agent); ok {
		state = fmt.Sprintf("running, pid %d", pid)
	}
	switch {
	case installed.Current == nil && installed.Trial == nil:
		fmt.Fprintln(w, "nucleus:  none installed")
	case installed.Current != nil:
		fmt.Fprintf(w, "nucleus:  %s %s (%s)\n", installed.Current.Name, installed.Current.Version, state)
	}
	if installed.Trial != nil {
		fmt.Fprintf(w, "on trial: %s %s (%s)\n", installed.Trial.Name, installed.Trial.Version, state)
	}
	return nil
}

// readJSON fills v from a small file; a missing one leaves v as it is.
func readJSON(name string, v any) error {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; ask as the user that the agent runs as", err)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}
