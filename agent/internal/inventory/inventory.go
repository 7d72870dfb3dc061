// Package inventory reads the condition of the host from /proc and the file
// system. What cannot be read is unknown, never zero.
package inventory

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Host is the condition of the machine at one moment. Nil is unknown.
type Host struct {
	UptimeSeconds   int64
	Load1           *float64
	MemoryUsedBytes *uint64
	MemoryBytes     *uint64
	DiskFreeBytes   *uint64 // of the file system of the path asked about
	DiskBytes       *uint64
}

// Read returns the condition of this host and of the file system that holds
// path.
func Read(path string) Host {
	var h Host
	if f := fields("/proc/uptime"); len(f) > 0 {
		if v, err := strconv.ParseFloat(f[0], 64); err == nil {
			h.UptimeSeconds = int64(v)
		}
	}
	if f := fields("/proc/loadavg"); len(f) > 0 {
		if v, err := strconv.ParseFloat(f[0], 64); err == nil {
			h.Load1 = &v
		}
	}
	total, used, ok := memory(readSmall("/proc/meminfo"))
	if ok {
		h.MemoryBytes, h.MemoryUsedBytes = &total, &used
	}
	var st syscall.Statfs_t
	if syscall.Statfs(path, &st) == nil && st.Bsize > 0 {
		size := uint64(st.Bsize)
		free, all := st.Bavail*size, st.Blocks*size
		h.DiskFreeBytes, h.DiskBytes = &free, &all
	}
	return h
}

// memory reads MemTotal and MemAvailable of /proc/meminfo, which are in KiB.
func memory(b []byte) (total, used uint64, ok bool) {
	var available uint64
	found := 0
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		name, rest, _ := strings.Cut(sc.Text(), ":")
		f := strings.Fields(rest)
		if len(f) == 0 {
			continue
		}
		v, err := strconv.ParseUint(f[0], 10, 50)
		if err != nil {
			continue
		}
		switch name {
		case "MemTotal":
			total, found = v<<10, found+1
		case "MemAvailable":
			available, found = v<<10, found+1
		}
	}
	if found != 2 || available > total {
		return 0, 0, false
	}
	return total, total - available, true
}

func fields(name string) []string { return strings.Fields(string(readSmall(name))) }

func readSmall(name string) []byte {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // read only
	b, _ := io.ReadAll(io.LimitReader(f, 64<<10))
	return b
}
