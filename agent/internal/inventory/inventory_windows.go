package inventory

import (
	"fmt"
	"time"

	"golang.org/x/sys/windows"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

func (r *Reader) read() Host {
	return Host{UptimeSeconds: int64(windows.DurationSinceBoot() / time.Second)}
}

func (r *Reader) identify() (f protocol.HostFacts) {
	if v := windows.RtlGetVersion(); v != nil {
		f.Kernel = fmt.Sprintf("%d.%d.%d", v.MajorVersion, v.MinorVersion, v.BuildNumber)
	}
	return f
}

func (r *Reader) routes() []protocol.DefaultRoute { return nil }

// disk tells of the volume that holds path.
func disk(path string) (d Disk) {
	name, err := windows.UTF16PtrFromString(path)
	var free, all uint64
	if err != nil || windows.GetDiskFreeSpaceEx(name, &free, &all, nil) != nil {
		return d
	}
	return Disk{FreeBytes: &free, Bytes: &all}
}
