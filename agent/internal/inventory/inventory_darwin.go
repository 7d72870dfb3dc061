package inventory

import (
	"syscall"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

func (r *Reader) read() Host { return Host{} }

func (r *Reader) identify() (f protocol.HostFacts) {
	f.Kernel, _ = syscall.Sysctl("kern.osrelease")
	f.Model, _ = syscall.Sysctl("hw.model")
	f.BootID, _ = syscall.Sysctl("kern.bootsessionuuid")
	return f
}

func (r *Reader) routes() []protocol.DefaultRoute { return nil }

// disk tells of the file system that holds path.
func disk(path string) (d Disk) {
	const readOnly = 1
	var st syscall.Statfs_t
	if syscall.Statfs(path, &st) != nil {
		return d
	}
	size := uint64(st.Bsize)
	free, all, ro := st.Bavail*size, st.Blocks*size, st.Flags&readOnly != 0
	return Disk{FreeBytes: &free, Bytes: &all, InodesFree: &st.Ffree, Inodes: &st.Files, ReadOnly: &ro}
}
