package app

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/ggfleet/ggfleet/agent/internal/consent"
)

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
