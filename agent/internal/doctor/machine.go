package doctor

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/inventory"
	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	maxFile   = 64 << 10
	maxOutput = 16 << 10
	settle    = 500 * time.Millisecond
	probeName = ".ggfleet-doctor"
)

// Machine is the host that this process runs on. built is when the agent was
// built, zero when that is not known.
func Machine(built time.Time) Host {
	reader := inventory.New("/")
	return Host{
		OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Root: os.Geteuid() == 0 || runtime.GOOS == "windows", Built: built,
		Now: time.Now, Getenv: os.Getenv, LookPath: exec.LookPath, Stat: os.Stat, ReadFile: readFile, Probe: probe, Runs: runs,
		Volume:  func(path string) (Volume, error) { return volume(reader, path) },
		Vitals:  func() Vitals { return vitals(reader) },
		User:    func(name string) bool { _, err := user.Lookup(name); return err == nil },
		Group:   func(name string) bool { _, err := user.LookupGroup(name); return err == nil },
		Command: command, Interfaces: interfaces, Settle: settle,
		Resolve: net.DefaultResolver.LookupHost,
		Dial:    (&net.Dialer{Timeout: checkTime}).DialContext,
	}
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// probe writes a file as the agent does: beside, synced, renamed.
func probe(dir string) error {
	name := filepath.Join(dir, probeName)
	if err := durable.WriteFileAt(name, []byte("probe\n"), 0o600); err != nil {
		return errors.Join(err, ignoreGone(os.Remove(name)))
	}
	return os.Remove(name)
}

// runs starts a script from dir.
func runs(ctx context.Context, dir string) error {
	if runtime.GOOS == "windows" {
		return nil // there is no such mount
	}
	f, err := os.CreateTemp(dir, probeName+"-*.sh") // a new file: whoever owns the folder may have put links there
	if err != nil {
		return err
	}
	_, err = f.WriteString("#!/bin/sh\nexit 0\n")
	if err = errors.Join(err, f.Chmod(0o700), f.Close()); err == nil {
		err = exec.CommandContext(ctx, f.Name()).Run()
	}
	return errors.Join(err, ignoreGone(os.Remove(f.Name())))
}

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func volume(r *inventory.Reader, path string) (v Volume, err error) {
	if _, err := os.Stat(path); err != nil {
		return v, err
	}
	d := r.Read(path).Disk
	if d.Bytes == nil || d.FreeBytes == nil {
		return v, errors.New("the system does not tell")
	}
	v.Bytes, v.Free = *d.Bytes, *d.FreeBytes
	if d.Inodes != nil && d.InodesFree != nil {
		v.Inodes, v.InodesFree = *d.Inodes, *d.InodesFree
	}
	v.ReadOnly = d.ReadOnly != nil && *d.ReadOnly
	v.NoExecute = noExecute(path)
	return v, nil
}

func vitals(r *inventory.Reader) Vitals {
	h := r.Read("/")
	v := Vitals{Load1: h.Load1, Celsius: h.TemperatureCelsius, ClockSynchronized: h.ClockSynchronized, MemoryBytes: h.MemoryBytes, OpenFiles: openFiles()}
	if h.MemoryBytes != nil && h.MemoryUsedBytes != nil {
		available := *h.MemoryBytes - *h.MemoryUsedBytes
		v.MemoryAvailable = &available
	}
	return v
}

func interfaces() (out []Interface, err error) {
	list, err := net.Interfaces()
	for _, i := range list {
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			continue // gone in this moment
		}
		out = append(out, Interface{Name: i.Name, Up: i.Flags&net.FlagUp != 0, Addresses: len(addresses)})
	}
	return out, err
}

// command runs a program and returns the beginning of what it prints.
func command(ctx context.Context, program string, args ...string) (string, error) {
	var out limited
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = run.Environ()
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // its children may hold the output open
	err := cmd.Run()
	return string(out), err
}

// limited keeps the first bytes written to it.
type limited []byte

func (l *limited) Write(b []byte) (int, error) {
	*l = append(*l, b[:min(len(b), maxOutput-len(*l))]...)
	return len(b), nil
}
