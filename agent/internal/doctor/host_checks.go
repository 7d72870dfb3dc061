package doctor

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Bounds of the host checks.
const (
	diskFull              = 50 << 20
	shareLow, shareFull   = 0.05, 0.01 // of inodes and memory
	loadHigh              = 4          // for each processor
	celsiusHigh, celsiusX = 80, 95
	openFilesLow          = 4096
)

func checkFolder(_ context.Context, e *examination) finding {
	if _, err := e.Stat(e.Device.Root); !e.Enrolled && errors.Is(err, fs.ErrNotExist) {
		return skipped("%s is not there yet: enrolling makes it", e.Device.Root)
	}
	if err := e.Probe(e.Device.Root); err != nil {
		return failed("writing to %s: %v", e.Device.Root, err)
	}
	return passed("%s can be written", e.Device.Root)
}

func checkReadOnly(_ context.Context, e *examination) finding {
	return readOnly(e, e.Device.Root)
}

func readOnly(e *examination, path string) finding {
	v, err := e.Volume(path)
	switch {
	case err != nil:
		return skipped("%s: %v", path, err)
	case v.ReadOnly:
		return failed("%s is mounted read-only", path)
	}
	return passed("%s is mounted for writing", path)
}

func checkDisk(_ context.Context, e *examination) finding { return room(e, e.Device.Root) }

func room(e *examination, path string) finding {
	v, err := e.Volume(path)
	switch {
	case err != nil:
		return skipped("%s: %v", path, err)
	case v.Free < diskFull:
		return failed("%d MB of %d MB are free at %s", v.Free>>20, v.Bytes>>20, path)
	case protocol.DiskLow(v.Free, v.Bytes):
		return warned("%d MB of %d MB are free at %s", v.Free>>20, v.Bytes>>20, path)
	}
	return passed("%d MB of %d MB are free at %s", v.Free>>20, v.Bytes>>20, path)
}

func checkInodes(_ context.Context, e *examination) finding {
	v, err := e.Volume(e.Device.Root)
	if err != nil || v.Inodes == 0 {
		return skipped("the file system does not count files")
	}
	f := share(v.InodesFree, v.Inodes, shareLow, shareFull)
	f.detail = passed("%d of %d are free", v.InodesFree, v.Inodes).detail
	return f
}

// share judges how much is left of all.
func share(left, all uint64, low, none float64) finding {
	switch part := float64(left) / float64(all); {
	case part < none:
		return finding{status: Failed}
	case part < low:
		return finding{status: Warning}
	}
	return finding{status: OK}
}

func checkExecution(ctx context.Context, e *examination) finding {
	if v, err := e.Volume(e.Device.Root); err == nil && v.NoExecute {
		return failed("%s is mounted noexec", e.Device.Root)
	}
	if err := e.Runs(ctx, e.Device.Root); err != nil {
		return failed("a program in %s does not start: %v", e.Device.Root, err)
	}
	return passed("programs start from %s", e.Device.Root)
}

func checkMemory(_ context.Context, e *examination) finding {
	v := e.Vitals()
	if v.MemoryBytes == nil || v.MemoryAvailable == nil || *v.MemoryBytes == 0 {
		return skipped("the system does not tell")
	}
	f := share(*v.MemoryAvailable, *v.MemoryBytes, shareLow, shareFull)
	f.detail = passed("%d MB of %d MB are available", *v.MemoryAvailable>>20, *v.MemoryBytes>>20).detail
	return f
}

func checkLoad(_ context.Context, e *examination) finding {
	v := e.Vitals()
	if v.Load1 == nil || e.CPUs < 1 {
		return skipped("the system does not tell")
	}
	if *v.Load1 > float64(loadHigh*e.CPUs) {
		return warned("load %.1f on %d processors", *v.Load1, e.CPUs)
	}
	return passed("load %.1f on %d processors", *v.Load1, e.CPUs)
}

func checkTemperature(_ context.Context, e *examination) finding {
	v := e.Vitals()
	switch {
	case v.Celsius == nil:
		return skipped("there is no sensor")
	case *v.Celsius >= celsiusX:
		return failed("%.0f °C", *v.Celsius)
	case *v.Celsius >= celsiusHigh:
		return warned("%.0f °C", *v.Celsius)
	}
	return passed("%.0f °C", *v.Celsius)
}

func checkClock(_ context.Context, e *examination) finding {
	now := e.Now().UTC()
	floor := e.Built
	if e.Certificate.NotBefore.After(floor) {
		floor = e.Certificate.NotBefore
	}
	if !floor.IsZero() && now.Before(floor.Add(-24*time.Hour)) {
		return failed("it shows %s, and it cannot be before %s", now.Format(time.RFC3339), floor.UTC().Format(time.RFC3339))
	}
	return passed("%s", now.Format(time.RFC3339))
}

func checkSynchronised(_ context.Context, e *examination) finding {
	switch v := e.Vitals(); {
	case v.ClockSynchronized == nil:
		return skipped("the system does not tell")
	case !*v.ClockSynchronized:
		return warned("the kernel's clock is not synchronised")
	}
	return passed("the kernel's clock is synchronised")
}

func checkRights(_ context.Context, e *examination) finding {
	if !e.Host.Root {
		return warned("this runs without the rights of the administrator")
	}
	return passed("it runs as administrator")
}

func checkOpenFiles(_ context.Context, e *examination) finding {
	v := e.Vitals()
	switch {
	case v.OpenFiles == nil:
		return skipped("the system does not tell")
	case *v.OpenFiles < openFilesLow:
		return warned("%d, want %d or more", *v.OpenFiles, openFilesLow)
	}
	return passed("%d", *v.OpenFiles)
}

func checkManager(_ context.Context, e *examination) finding {
	if e.Service.Manager == "" {
		return warned("no service manager that is known here runs")
	}
	return passed("%s", e.Service.Manager)
}

func checkService(_ context.Context, e *examination) finding {
	switch s := e.Service; {
	case s.Manager == "":
		return skipped("there is nothing that would run it")
	case !s.Installed:
		return warned("it is not installed")
	case !s.Running && !e.Enrolled && e.Asks == "":
		return skipped("it is installed and waits until the device is enrolled")
	case !s.Running:
		return failed("it is installed and does not run")
	case !s.Enabled:
		return warned("it runs, and will not start with the machine")
	}
	return passed("it runs and starts with the machine")
}

func checkCgroups(_ context.Context, e *examination) finding {
	if e.OS != "linux" {
		return skipped("not on %s", e.OS)
	}
	if b, err := e.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return controllers(fields(b))
	}
	b, err := e.ReadFile("/proc/cgroups") // version 1: one line each, the last word tells whether it is on
	if err != nil {
		return warned("none are mounted")
	}
	var on []string
	for _, line := range lines(b) {
		if f := fields([]byte(line)); len(f) == 4 && f[3] == "1" {
			on = append(on, f[0])
		}
	}
	return controllers(on)
}

func controllers(have []string) finding {
	for _, want := range []string{"memory", "cpu"} {
		if !slices.Contains(have, want) {
			return warned("there is no controller for %s, only %v", want, have)
		}
	}
	return passed("memory and cpu")
}

func checkPlatform(_ context.Context, e *examination) finding {
	if !e.Core {
		return skipped("a client device has no nucleus")
	}
	if e.OS != "linux" || !slices.Contains([]string{"amd64", "arm64", "arm"}, e.Arch) {
		return failed("%s/%s", e.OS, e.Arch)
	}
	return passed("%s/%s", e.OS, e.Arch)
}
