// Package svc makes the agent a service of the operating system, and tells the
// service manager how it is (Notify, Watchdog). It is the only owner of
// kardianos/service and is kept thin: the service runs the command that an
// operator could run, by a definition of our own (Render). A service that a
// package brought is enabled and disabled, never rewritten.
//
// Verified on systemd. What launchd and Windows are told is compiled and its
// texts are tested; it was not run.
package svc

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/kardianos/service"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const baseName = "ggfleet-agent"

// Service is the agent of one root as a system service.
type Service struct {
	def  Definition
	text string // what Render makes of def
	s    service.Service
}

// State is how a service is.
type State struct {
	Installed bool
	Running   bool
	Boot      bool   // starts with the machine
	Packaged  bool   // its definition came with a package
	Word      string // of the service manager: "active (running)"; "not installed", "unknown"
	File      string // of its definition; empty where there is none
	PID       int    // 0: none, or not known
	Restarts  int    // by the service manager, since it was started
	Since     time.Time
}

// New returns the service of the agent that lives in root. Nothing is changed.
func New(root string) (*Service, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	d := Definition{Name: Name(root), Program: program, Root: root}
	text, err := Render(runtime.GOOS, d)
	if err != nil {
		return nil, err
	}
	w := windowsService(d)
	s, err := service.New(idle{}, &service.Config{
		Name: d.Name, DisplayName: w.DisplayName, Description: w.Description, Executable: d.Program, Arguments: w.Arguments,
		Option: service.KeyValue{
			"SystemdScript": text, "LaunchdConfig": text,
			"DelayedAutoStart": true, "OnFailure": w.OnFailure, "OnFailureDelayDuration": w.AfterFailed, "OnFailureResetPeriod": w.ForgetAfter,
		},
	})
	if err == nil && runtime.GOOS == "linux" && service.Platform() != "linux-systemd" {
		// The library knows older ones, but leaves links behind there, and none
		// of them would take care of a nucleus the way our unit does.
		err = fault.New(fault.Unsupported, "systemd does not run here")
	}
	if err != nil {
		return nil, fmt.Errorf("the agent cannot be a service of this system: %w; start 'ggfleet-agent run' by other means", err)
	}
	return &Service{d, text, s}, nil
}

// Name is the service's name: one for the default root, and one of its own for
// every other, so that several agents can be services of one machine.
func Name(root string) string {
	if filepath.Clean(root) == localstate.DefaultRoot {
		return baseName
	}
	h := sha256.Sum256([]byte(filepath.Clean(root)))
	return baseName + "-" + hex.EncodeToString(h[:4])
}

// Manager is what runs services on this system: systemd, launchd, windows.
func (s *Service) Manager() string { return strings.TrimPrefix(s.s.Platform(), runtime.GOOS+"-") }

// Name is the name of the service.
func (s *Service) Name() string { return s.def.Name }

// Install adds the service, to be started with the machine. Done again, it
// renews it; the service goes on meanwhile.
func (s *Service) Install() (State, error) {
	now := s.State()
	var err error
	switch {
	case now.Installed && now.File != "":
		if !now.Packaged {
			err = s.rewrite(now.File)
		}
		if err == nil {
			err = s.enable()
		}
	case now.Installed: // Windows: what is known of it cannot be read back
		if err = s.s.Uninstall(); err == nil {
			err = s.s.Install()
		}
	default:
		if err = s.s.Install(); err != nil {
			// The library leaves an empty file behind, which would be in the way of
			// the next attempt.
			err = errors.Join(err, removeDefinition(s.def.Name))
		}
	}
	if err != nil {
		return now, s.refused("installing", err)
	}
	return s.State(), nil
}

// Uninstall stops the service and removes it; one of a package is disabled only.
// One that is not there is fine.
func (s *Service) Uninstall() (State, error) {
	now := s.State()
	if !now.Installed {
		return now, nil
	}
	if now.Running {
		if err := s.s.Stop(); err != nil && !gone(err) {
			return now, s.refused("stopping", err)
		}
	}
	remove := s.s.Uninstall
	if now.Packaged {
		remove = s.disable
	}
	if err := remove(); err != nil && !gone(err) {
		return now, fmt.Errorf("removing service %s: %w", s.def.Name, err)
	}
	return now, nil
}

func gone(err error) bool {
	return errors.Is(err, service.ErrNotInstalled) || errors.Is(err, fs.ErrNotExist)
}

// Start starts the installed service.
func (s *Service) Start() error { return s.explain("starting", s.s.Start) }

// Stop stops it, and with it a nucleus that the agent runs as a process.
func (s *Service) Stop() error { return s.explain("stopping", s.s.Stop) }

func (s *Service) explain(what string, do func() error) error {
	if !s.State().Installed {
		return fault.New(fault.NotFound, "service %s is not installed; run 'ggfleet-agent install' first", s.def.Name)
	}
	if err := do(); err != nil {
		return s.refused(what, err)
	}
	return nil
}

// refused is what the service manager did not do. Of a user without rights it says
// no more than a number.
func (s *Service) refused(what string, err error) error {
	if euid := os.Geteuid(); euid > 0 {
		return fmt.Errorf("%s service %s: %w; it needs the rights of the system's administrator", what, s.def.Name, err)
	}
	return fmt.Errorf("%s service %s: %w", what, s.def.Name, err)
}

// idle satisfies the library where it only installs, starts and stops.
type idle struct{}

func (idle) Start(service.Service) error { return nil }
func (idle) Stop(service.Service) error  { return nil }
