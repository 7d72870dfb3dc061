package inventory

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

func (r *Reader) read() (h Host) {
	if v, ok := number(r.small("proc/uptime")); ok {
		h.UptimeSeconds = int64(v)
	}
	if v, ok := number(r.small("proc/loadavg")); ok {
		h.Load1 = &v
	}
	if total, used, ok := memory(r.small("proc/meminfo")); ok {
		h.MemoryBytes, h.MemoryUsedBytes = &total, &used
	}
	h.TemperatureCelsius = r.temperature()
	h.ClockSynchronized = clock()
	return h
}

// temperature is that of the hottest thermal zone, or of the hottest hwmon
// sensor on a machine without zones.
func (r *Reader) temperature() *float64 {
	for _, pattern := range []string{"sys/class/thermal/thermal_zone*/temp", "sys/class/hwmon/hwmon*/temp*_input"} {
		files, _ := filepath.Glob(filepath.Join(r.root, pattern))
		hottest := math.Inf(-1)
		for _, f := range files[:min(len(files), maxSensors)] {
			name, err := filepath.Rel(r.root, f)
			if err != nil {
				continue
			}
			if t, ok := celsius(r.small(name)); ok {
				hottest = max(hottest, t)
			}
		}
		if !math.IsInf(hottest, 0) {
			return &hottest
		}
	}
	return nil
}

// clock asks the kernel whether somebody keeps its clock right.
func clock() *bool {
	const unsynchronized, timeError = 0x40, 5
	var t syscall.Timex
	state, err := syscall.Adjtimex(&t)
	if err != nil {
		return nil
	}
	ok := state != timeError && t.Status&unsynchronized == 0
	return &ok
}

func (r *Reader) identify() protocol.HostFacts {
	f := protocol.HostFacts{
		Kernel: r.first("proc/sys/kernel/osrelease"),
		BootID: r.first("proc/sys/kernel/random/boot_id"),
		Model:  r.first("proc/device-tree/model"),
		Serial: r.first("proc/device-tree/serial-number", "sys/class/dmi/id/product_serial", "sys/class/dmi/id/board_serial"),
	}
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		if f.Distribution == "" {
			f.Distribution = prettyName(r.small(name))
		}
	}
	if f.Model == "" {
		vendor, product := r.first("sys/class/dmi/id/sys_vendor"), r.first("sys/class/dmi/id/product_name")
		f.Model = fact(fmt.Appendf(nil, "%s %s", vendor, product))
	}
	return f
}

func (r *Reader) routes() []protocol.DefaultRoute {
	return slices.Concat(routes4(r.small("proc/net/route")), routes6(r.small("proc/net/ipv6_route")))
}

// disk tells of the file system that holds path. A kernel that gave up writing
// after an error says so in the flags.
func disk(path string) (d Disk) {
	const readOnly = 1
	var st syscall.Statfs_t
	if syscall.Statfs(path, &st) != nil || st.Bsize <= 0 {
		return d
	}
	size := uint64(st.Bsize)
	free, all, ro := st.Bavail*size, st.Blocks*size, st.Flags&readOnly != 0
	d.FreeBytes, d.Bytes, d.ReadOnly = &free, &all, &ro
	if st.Files > 0 { // btrfs and others have no such number
		d.InodesFree, d.Inodes = &st.Ffree, &st.Files
	}
	return d
}
