// Package svc makes the agent a service of the operating system. It is the only
// owner of kardianos/service and is kept thin: the service runs the command that
// an operator could run, and systemd is told the rest by Notify.
//
// Verified on systemd; on other service managers the library's own defaults
// apply.
package svc

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/kardianos/service"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const baseName = "ggfleet-agent"

// Service is the agent of one root as a system service.
type Service struct {
	name string
	s    service.Service
}

// idle satisfies the library: the service manager runs our binary, not this.
type idle struct{}

func (idle) Start(service.Service) error { return nil }
func (idle) Stop(service.Service) error  { return nil }

// New returns the service of the agent that lives in root. Nothing is changed.
func New(root string) (*Service, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	name := Name(root)
	s, err := service.New(idle{}, &service.Config{
		Name: name, DisplayName: "ggfleet agent", Description: "ggfleet agent in " + root,
		Arguments: []string{"run", "--root", root},
		Option:    service.KeyValue{"SystemdScript": unit},
	})
	if err == nil && runtime.GOOS == "linux" && service.Platform() != "linux-systemd" {
		// The library knows older ones, but leaves links behind there, and none
		// of them would take care of a nucleus the way unit does.
		err = fault.New(fault.Unsupported, "systemd does not run here")
	}
	if err != nil {
		return nil, fmt.Errorf("the agent cannot be a service of this system: %w; start 'ggfleet-agent run' by other means", err)
	}
	return &Service{name, s}, nil
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

// Install adds the service, to be started with the machine. Done again, it
// renews it.
func (s *Service) Install() error {
	_, err := s.s.Status()
	if err == nil || !errors.Is(err, service.ErrNotInstalled) {
		if err := s.s.Uninstall(); err != nil && !gone(err) {
			return fmt.Errorf("replacing service %s: %w", s.name, err)
		}
	}
	if err := s.s.Install(); err != nil {
		// The library leaves an empty unit behind, which would be in the way of
		// the next attempt.
		return errors.Join(fmt.Errorf("installing service %s: %w; it needs the rights of the system's administrator", s.name, err), removeEmptyUnit(s.name))
	}
	return nil
}

func removeEmptyUnit(name string) error {
	file := "/etc/systemd/system/" + name + ".service"
	info, err := os.Stat(file)
	if err != nil || info.Size() != 0 {
		return nil //nolint:nilerr // nothing was left
	}
	return os.Remove(file)
}

// Uninstall stops and removes the service. One that is not there is fine.
func (s *Service) Uninstall() error {
	if err := s.s.Stop(); err != nil && !gone(err) {
		if _, e := s.s.Status(); !errors.Is(e, service.ErrNotInstalled) {
			return fmt.Errorf("stopping service %s: %w", s.name, err)
		}
		return nil
	}
	if err := s.s.Uninstall(); err != nil && !gone(err) {
		return fmt.Errorf("removing service %s: %w", s.name, err)
	}
	return nil
}

func gone(err error) bool {
	return errors.Is(err, service.ErrNotInstalled) || errors.Is(err, fs.ErrNotExist)
}

// Start starts the installed service.
func (s *Service) Start() error { return s.explain("starting", s.s.Start()) }

// Stop stops it, and with it the nucleus.
func (s *Service) Stop() error { return s.explain("stopping", s.s.Stop()) }

func (s *Service) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, e := s.s.Status(); errors.Is(e, service.ErrNotInstalled) {
		return fault.New(fault.NotFound, "service %s is not installed; run 'ggfleet-agent install' first", s.name)
	}
	return fmt.Errorf("%s service %s: %w", what, s.name, err)
}

// Status returns "running", "stopped", "not installed" or "unknown".
func (s *Service) Status() string {
	st, err := s.s.Status()
	switch {
	case errors.Is(err, service.ErrNotInstalled):
		return "not installed"
	case st == service.StatusRunning:
		return "running"
	case st == service.StatusStopped:
		return "stopped"
	}
	return "unknown"
}

// Notify tells systemd about this process ("READY=1", "STOPPING=1",
// "WATCHDOG=1"). Without systemd it does nothing.
func Notify(state string) error {
	addr := os.Getenv("NOTIFY_SOCKET")
	if addr == "" {
		return nil
	}
	if rest, ok := strings.CutPrefix(addr, "@"); ok {
		addr = "\x00" + rest // a name in the abstract namespace
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		return err
	}
	_, err = c.Write([]byte(state))
	return errors.Join(err, c.Close())
}
