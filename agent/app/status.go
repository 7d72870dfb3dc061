package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ggfleet/ggfleet/agent/internal/identity"
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

	return errors.Join(asOwner(UpdateStatus(w, root, buildinfo.Version)), printDevice(w, root))
}

// printDevice writes who the agent is, and what it looks after.
func printDevice(w io.Writer, root string) error {
	agent := filepath.Join(root, "agent")
	var id identity.Identity
	if err := readJSON(filepath.Join(agent, "identity.json"), &id); err != nil || id.AgentThing == "" {
		if err == nil {
			printUnenrolled(w, root)
		} else {
			fmt.Fprintf(w, "enrolled: damaged; only the nucleus is kept running. If a start of the agent does not mend it, %s\n", mendHint(root))
		}
		return errors.Join(err, printNucleus(context.Background(), w, agent))
	}
	printIdentity(w, agent, id)

	if err := PrintConsent(w, root); err != nil {
		return err
	}

	if id.Device != "" {
		return nil // it has no nucleus; 'ggfleet-agent client' shows its cores
	}
	return printNucleus(context.Background(), w, agent)
}

// asOwner adds the way out to what another user may not read.
func asOwner(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; ask as the user that the agent runs as", err)
	}
	return err
}

// readJSON fills v from a small file; a missing one leaves v as it is.
func readJSON(name string, v any) error {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return asOwner(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s is damaged: %w", name, err)
	}
	return nil
}
