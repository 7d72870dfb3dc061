package doctor

import (
	"context"
	"crypto/tls"
	"io/fs"
	"net"
	"time"
)

// Host is the machine as the checks see it. Every function must be there.
type Host struct {
	OS, Arch string
	CPUs     int
	Root     bool      // this process is the administrator
	Built    time.Time // when this agent was built: no true clock shows less; zero: unknown

	Now      func() time.Time
	Getenv   func(name string) string
	LookPath func(program string) (string, error)
	Stat     func(name string) (fs.FileInfo, error)
	ReadFile func(name string) ([]byte, error) // bounded
	// Probe makes, syncs and removes a small file in dir.
	Probe func(dir string) error
	// Runs starts a program that was put into dir for this, and removes it.
	Runs func(ctx context.Context, dir string) error
	// Volume describes the file system that holds path.
	Volume func(path string) (Volume, error)
	Vitals func() Vitals
	// User and Group report whether there is one of this name.
	User, Group func(name string) bool
	// Command runs a program and returns the first kilobytes of what it prints.
	Command func(ctx context.Context, program string, args ...string) (string, error)

	Interfaces func() ([]Interface, error)
	Resolve    func(ctx context.Context, host string) ([]string, error)
	Dial       func(ctx context.Context, network, address string) (net.Conn, error)
	// Settle is how long a server has, after a handshake, to refuse a client's
	// certificate: with TLS 1.3 it does so no sooner.
	Settle time.Duration
}

// Volume is a file system.
type Volume struct {
	Bytes, Free         uint64
	Inodes, InodesFree  uint64 // 0 of 0: it has none
	ReadOnly, NoExecute bool
}

// Vitals is the condition of the machine. Nil is unknown.
type Vitals struct {
	MemoryBytes, MemoryAvailable *uint64
	Load1                        *float64
	Celsius                      *float64 // of the hottest sensor
	ClockSynchronized            *bool
	OpenFiles                    *uint64 // how many files a process may have open
}

// Interface is a network interface that is not the loopback.
type Interface struct {
	Name      string
	Up        bool
	Addresses int
}

// Device is what the agent knows of itself and its device. What is empty is not
// known or does not apply.
type Device struct {
	Root     string // the agent's root folder
	Enrolled bool
	Asks     string // where a device that is not enrolled asks to be let in; empty: nowhere
	Damaged  error  // why the identity cannot be used; nil: it can
	Thing    string // the agent's
	Name     string // the device's
	Core     bool   // it is a core device, not a client device

	URL            string // of the device HTTPS listener; of a device that is not enrolled, where it asks
	AssignmentPath string // of the call that every agent may make
	MQTTAddress    string // host:port
	// TLS connects to a host as the agent; it trusts only the CA of the enrolment.
	TLS         func(host string) *tls.Config
	Certificate Certificate // the agent's own

	Service ServiceState
	Secrets []string // files that nobody but their owner may read
	Shared  []string // the same, but their group may as well
	Waiting int64    // bytes of reports that wait to be sent, or were sent a little while ago
	Dropped uint64   // reports given up

	Aside []string // files that keep what was found damaged

	Nucleus Nucleus
	Allowed []string // what the control plane may do here
	Update  Update
}

// Certificate is a certificate with its key. A zero NotAfter: there is none.
type Certificate struct {
	NotBefore, NotAfter time.Time
	Err                 error // why it cannot be used with its key and CA
}

// ServiceState is the agent as a service of the system.
type ServiceState struct {
	Manager   string // systemd, launchd, ...; empty: none that could run it
	Installed bool
	Enabled   bool // starts with the machine
	Running   bool
}

// Nucleus is what is installed on a core device.
type Nucleus struct {
	Runtime     string // classic, lite, simulated; empty: none
	Version     string
	Java        string // path of the program for classic, if one is set; empty: that of PATH
	Root        string
	Program     string // what is executed; empty: units start it
	Running     bool
	Restarts    int    // within the last hour
	LastError   string // of the nucleus or its installation
	Rejected    string // version that failed and was gone back from
	Config      []byte // the installer configuration
	Certificate Certificate
	Trusts      bool     // its root CA file holds the CA of the enrolment
	User, Group string   // that components run as
	Units       []string // systemd units that must be active
	// Files compares its files with what was unpacked. An error of kind
	// fault.Unsupported: that is not known. nil: the agent did not unpack it.
	Files     func(ctx context.Context) error
	LogErrors int // lines that tell of errors, near the end of its log
}

// Update is what became of the last self-update.
type Update struct {
	Keys     int // trusted release keys
	Rejected string
}
