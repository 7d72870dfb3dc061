//go:build !linux

package svc

import (
	"errors"
	"os"
	"runtime"

	"github.com/kardianos/service"
)

// launchDaemons is where launchd's definitions lie.
const launchDaemons = "/Library/LaunchDaemons/"

// State asks the service manager.
func (s *Service) State() State {
	st, err := s.s.Status()
	if errors.Is(err, service.ErrNotInstalled) {
		return State{Word: "not installed"}
	}
	state := State{Installed: true, Boot: true, Running: st == service.StatusRunning, Word: "unknown"}
	switch st {
	case service.StatusRunning:
		state.Word = "running"
	case service.StatusStopped:
		state.Word = "stopped"
	case service.StatusUnknown:
	}
	if runtime.GOOS == "darwin" {
		state.File = launchDaemons + s.def.Name + ".plist"
	}
	return state
}

// rewrite makes file what it is to be now; the service manager reads it at the
// next start.
func (s *Service) rewrite(file string) error { return os.WriteFile(file, []byte(s.text), 0o644) } //nolint:gosec // everybody may read it

func (s *Service) enable() error  { return nil } // the definition says so
func (s *Service) disable() error { return nil } // no package brings a definition here

func removeDefinition(name string) error {
	if runtime.GOOS != "darwin" {
		return nil
	}
	info, err := os.Stat(launchDaemons + name + ".plist")
	if err != nil || info.Size() != 0 {
		return nil //nolint:nilerr // nothing was left
	}
	return os.Remove(launchDaemons + name + ".plist")
}
