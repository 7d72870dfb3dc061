package inventory

import (
	"cmp"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Limits of what is told, so that a report stays small whatever the host has.
const (
	maxInterfaces = 32
	maxAddresses  = 16 // of one interface
	maxRoutes     = 8
	maxSensors    = 64
	maxFact       = 128 // bytes of one text
	maxFile       = 64 << 10
)

// Host is the condition of the machine at one moment. Nil is unknown.
type Host struct {
	UptimeSeconds      int64
	Load1              *float64
	MemoryUsedBytes    *uint64
	MemoryBytes        *uint64
	Disk               Disk
	TemperatureCelsius *float64 // the hottest sensor
	ClockSynchronized  *bool    // by the kernel's word
}

// Disk is the condition of a file system. Nil is unknown.
type Disk struct {
	FreeBytes  *uint64 // to the agent's user
	Bytes      *uint64
	InodesFree *uint64
	Inodes     *uint64
	ReadOnly   *bool
}

// Reader reads one machine.
type Reader struct {
	root   string // of the file system whose /proc, /sys and /etc are read
	static protocol.HostFacts
	asked  bool
}

// New returns a Reader of this machine. A root other than "/" makes it read
// the pseudo files below that folder: a test's.
func New(root string) *Reader { return &Reader{root: root} }

// Read returns the condition of the host and of the file system that holds
// path.
func (r *Reader) Read(path string) Host {
	h := r.read()
	h.Disk = disk(path)
	return h
}

// Facts returns what the machine is. What cannot change while the agent runs is
// read once; a Reader is for one goroutine.
func (r *Reader) Facts() protocol.HostFacts {
	if !r.asked {
		r.static, r.asked = r.identify(), true
		r.static.OS, r.static.Architecture, r.static.CPUs = runtime.GOOS, runtime.GOARCH, runtime.NumCPU()
	}
	f := r.static
	f.Interfaces, f.Routes = interfaces(), r.routes()
	return f
}

// interfaces lists what connects this host: hardware and whatever has an
// address that others could reach. Links of containers come and go and tell
// nothing.
func interfaces() (out []protocol.Interface) {
	list, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range list {
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		n := protocol.Interface{Name: fact([]byte(i.Name)), Up: i.Flags&net.FlagUp != 0 && i.Flags&net.FlagRunning != 0, MAC: i.HardwareAddr.String()}
		addresses, _ := i.Addrs() // none are as good as unknown ones
		for _, a := range addresses {
			if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLinkLocalUnicast() {
				n.Addresses = append(n.Addresses, ip.String())
			}
		}
		if len(n.Addresses) == 0 && strings.HasPrefix(i.Name, "veth") {
			continue
		}
		slices.Sort(n.Addresses)
		n.Addresses = n.Addresses[:min(len(n.Addresses), maxAddresses)]
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b protocol.Interface) int { return cmp.Compare(a.Name, b.Name) })
	return out[:min(len(out), maxInterfaces)]
}

// small returns the content of a pseudo file, nil when it cannot be read.
func (r *Reader) small(name string) []byte {
	f, err := os.Open(filepath.Join(r.root, name))
	if err != nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // read only
	b, _ := io.ReadAll(io.LimitReader(f, maxFile))
	return b
}

// first returns the first of the files that says something.
func (r *Reader) first(names ...string) string {
	for _, n := range names {
		if s := fact(r.small(n)); s != "" {
			return s
		}
	}
	return ""
}
