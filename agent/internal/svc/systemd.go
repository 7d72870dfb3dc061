//go:build linux

package svc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/installer/durable"
)

const (
	unitDir     = "/etc/systemd/system/" // units that lie elsewhere came with a package
	systemctlIn = 2 * time.Minute        // longer than an orderly stop
)

// State asks systemd. It needs no rights.
func (s *Service) State() State {
	out, err := systemctl("show", "--property="+showProperties, s.unit())
	if err != nil {
		return State{Word: "unknown"}
	}
	return parseShow(out)
}

func (s *Service) unit() string { return s.def.Name + ".service" }

// rewrite makes file, a unit that Install wrote before, what it is to be now.
func (s *Service) rewrite(file string) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if string(old) == s.text {
		return nil
	}
	if err := durable.WriteFileAt(file, []byte(s.text), 0o644); err != nil {
		return err
	}
	_, err = systemctl("daemon-reload")
	return err
}

func (s *Service) enable() error {
	_, err := systemctl("enable", s.unit())
	return err
}

func (s *Service) disable() error {
	_, err := systemctl("disable", s.unit())
	return err
}

// removeDefinition removes an empty unit.
func removeDefinition(name string) error {
	file := filepath.Join(unitDir, name+".service")
	info, err := os.Stat(file)
	if err != nil || info.Size() != 0 {
		return nil //nolint:nilerr // nothing was left
	}
	return os.Remove(file)
}

func systemctl(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), systemctlIn)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("systemctl %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return out, err
}
