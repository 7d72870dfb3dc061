package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ggfleet/ggfleet/agent/internal/consent"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/agent/internal/svc"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Service carries out one of install, uninstall, start and stop for the service
// of the agent in root.
func Service(root, action string) error {
	s, err := svc.New(root)
	if err != nil {
		return err
	}
	switch action {
	case "install":
		return s.Install()
	case "uninstall":
		return s.Uninstall()
	case "start":
		return s.Start()
	case "stop":
		return s.Stop()
	}
	return fault.New(fault.Invalid, "%q is nothing that can be done to a service", action)
}

// Allow lets the control plane do what list names on the device of the agent in
// root (package consent), or not. The agent need not be stopped.
func Allow(root, list string, allow bool) error {
	permissions, err := consent.Parse(list)
	if err != nil {
		return err
	}
	for _, p := range permissions {
		if err := consent.Allow(filepath.Join(root, "agent"), p, allow); err != nil {
			return err
		}
	}
	return nil
}

// PrintConsent writes what the control plane may do on the device.
func PrintConsent(w io.Writer, root string) error {
	words := []string{"nothing"}
	if given := consent.Given(filepath.Join(root, "agent")); len(given) > 0 {
		words = words[:0]
		for _, p := range given {
			words = append(words, string(p))
		}
	}
	_, err := fmt.Fprintf(w, "allowed:  %s\n", strings.Join(words, " "))
	return err
}

// Status writes what the agent in root is and what it runs. It only reads, and
// works while the agent runs.
func Status(w io.Writer, root string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	service := "unknown"
	if s, err := svc.New(root); err == nil {
		service = s.Status()
	}
	fmt.Fprintf(w, "root:     %s\nservice:  %s (%s)\n", root, service, svc.Name(root))

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
