package telemetry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Limits of what a report may hold, beside its size.
const (
	maxText       = 256  // bytes of names, versions and states
	maxError      = 2048 // bytes kept of an error's text
	maxInterfaces = 64
	maxAddresses  = 64
)

// Report is what an agent said last. What it points to is never changed.
type Report struct {
	Connected      bool      // it has a session and no last will ended it
	Version        string    // of the agent
	LastReport     time.Time // when anything arrived last, by our clock
	sharedAt       time.Time // when it was told last that another agent took its session
	Nucleus        *Nucleus  // nil: not told yet, as are the next two
	Host           *Host
	Machine        *protocol.HostFacts
	Components     []protocol.LocalComponent
	Source         string // of the components, a protocol.ComponentsFrom… constant; empty: an old agent
	Omitted        int    // components that the agent had no room for
	DroppedReports uint64 // given up on the device, over its life
	DamagedReports uint64 // pieces of its spool found damaged, since the agent's start
	InMemory       bool   // the device's disk takes no reports
	Warnings       []Warning
}

// Nucleus is the nucleus as its agent sees it.
type Nucleus struct {
	State        protocol.NucleusState
	Name         string
	Version      string
	Restarts     int    // since the agent's start
	LastError    string // one line
	Runtime      string
	Root         string
	Adopted      bool
	ConfigDigest string
	LogBytes     int64
	LogErrors    uint64 // since the agent's start
}

// Host is the condition of the machine. Nil is unknown.
type Host struct {
	UptimeSeconds      int64
	Load1              *float64
	MemoryUsedBytes    *uint64
	MemoryBytes        *uint64
	DiskFreeBytes      *uint64 // of the file system of the agent's root, as are the next four
	DiskBytes          *uint64
	InodesFree         *uint64
	Inodes             *uint64
	DiskReadOnly       *bool
	TemperatureCelsius *float64
	ClockSynchronized  *bool
	ClockOffsetSeconds *float64 // device's less ours
}

// message is a parsed report: its header, and what it changes.
type message struct {
	protocol.ReportHeader
	gone  bool // the last will
	apply func(*Report)
}

// kindOf returns the kind of the report that the agent of name publishes on
// topic, and whether name is that of a client device.
func kindOf(name, topic string) (kind string, device, ok bool) {
	if kind, ok = strings.CutPrefix(topic, protocol.Subject{Role: protocol.RoleCore, Name: name}.ReportTopic("")); ok {
		return kind, false, true
	}
	kind, ok = strings.CutPrefix(topic, protocol.Subject{Role: protocol.RoleClient, Name: name}.ReportTopic(""))
	return kind, true, ok
}

// parse reads a report of the given kind by the agent of name. ok is false for
// kinds that this version does not know. Errors are of kind fault.Invalid or
// fault.TooLarge.
func parse(name string, device bool, kind string, payload []byte) (m message, ok bool, err error) {
	read, ok := readers[kind]
	if !ok {
		return m, false, nil
	}
	if len(payload) > protocol.MaxAgentMessage {
		return m, true, fault.New(fault.TooLarge, "%d bytes; at most %d are read", len(payload), protocol.MaxAgentMessage)
	}
	if m, err = read(payload); err != nil {
		return m, true, err
	}
	switch {
	case m.V < 1:
		err = fault.Field("v", "is %d, want 1 or more", m.V)
	case !device && (m.Core != name || m.Device != ""):
		err = fault.Field("core", "is not the core of the topic, %s", name)
	case device && (m.Device != name || m.Core != ""):
		err = fault.Field("device", "is not the device of the topic, %s", name)
	case m.Time.IsZero():
		err = fault.Field("time", "is missing")
	case m.gone != (m.Sequence == 0):
		err = fault.Field("sequence", "is %d; a last will has 0, and nothing else has", m.Sequence)
	}
	return m, true, err
}

//nolint:gochecknoglobals // a constant table
var readers = map[string]func([]byte) (message, error){
	protocol.ReportConnection: readConnection,
	protocol.ReportHost:       readHost,
	protocol.ReportHealth:     readHealth,
	protocol.ReportNucleus:    readNucleus,
	protocol.ReportComponents: readComponents,
}

func decode[T any](b []byte) (T, error) {
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fault.New(fault.Invalid, "is not JSON of the known form: %v", err)
	}
	return v, nil
}

func readConnection(b []byte) (message, error) {
	r, err := decode[protocol.ConnectionReport](b)
	if err == nil {
		err = texts("agentVersion", r.AgentVersion)
	}
	return message{ReportHeader: r.ReportHeader, gone: !r.Connected, apply: func(to *Report) {
		to.Version = r.AgentVersion
		if at := r.TakenOverAt; at != nil && r.Time.Sub(*at) < sharedFor {
			to.sharedAt = time.Now() // both times are the device's; ours begins now
		}
	}}, err
}

func readHealth(b []byte) (message, error) {
	r, err := decode[protocol.HealthReport](b)
	switch {
	case err != nil:
	case r.UptimeSeconds < 0:
		err = fault.Field("uptimeSeconds", "is %d, want 0 or more", r.UptimeSeconds)
	case r.Load1 != nil && *r.Load1 < 0:
		err = fault.Field("load1", "is %g, want 0 or more", *r.Load1)
	default:
		err = texts("agentVersion", r.AgentVersion)
	}
	return message{ReportHeader: r.ReportHeader, apply: func(to *Report) {
		to.Version, to.DroppedReports, to.DamagedReports, to.InMemory = r.AgentVersion, r.DroppedReports, r.DamagedReports, r.ReportsInMemory
		to.Host = &Host{
			UptimeSeconds: r.UptimeSeconds, Load1: r.Load1, MemoryUsedBytes: r.MemoryUsedBytes, MemoryBytes: r.MemoryBytes,
			DiskFreeBytes: r.DiskFreeBytes, DiskBytes: r.DiskBytes, InodesFree: r.InodesFree, Inodes: r.Inodes, DiskReadOnly: r.DiskReadOnly,
			TemperatureCelsius: r.TemperatureCelsius, ClockSynchronized: r.ClockSynchronized, ClockOffsetSeconds: r.ClockOffsetSeconds,
		}
	}}, err
}

func readHost(b []byte) (message, error) {
	r, err := decode[protocol.HostReport](b)
	f := r.HostFacts
	switch {
	case err != nil:
	case len(f.Interfaces) > maxInterfaces || len(f.Routes) > maxInterfaces:
		err = fault.New(fault.TooLarge, "%d interfaces and %d routes; at most %d are read", len(f.Interfaces), len(f.Routes), maxInterfaces)
	case f.CPUs < 0:
		err = fault.Field("cpus", "is %d, want 0 or more", f.CPUs)
	default:
		err = texts("os", f.OS, "distribution", f.Distribution, "kernel", f.Kernel, "architecture", f.Architecture,
			"model", f.Model, "serial", f.Serial, "bootId", f.BootID)
	}
	for i := 0; err == nil && i < len(f.Interfaces); i++ {
		n := f.Interfaces[i]
		if err = texts("name", n.Name, "mac", n.MAC); err == nil && len(n.Addresses) > maxAddresses {
			err = fault.New(fault.TooLarge, "%d addresses; at most %d are read", len(n.Addresses), maxAddresses)
		}
		for j := 0; err == nil && j < len(n.Addresses); j++ {
			err = texts(fmt.Sprintf("addresses[%d]", j), n.Addresses[j])
		}
		err = fault.Under(fmt.Sprintf("interfaces[%d]", i), err)
	}
	for i := 0; err == nil && i < len(f.Routes); i++ {
		err = fault.Under(fmt.Sprintf("defaultRoutes[%d]", i), texts("interface", f.Routes[i].Interface, "gateway", f.Routes[i].Gateway))
	}
	return message{ReportHeader: r.ReportHeader, apply: func(to *Report) { to.Machine = &f }}, err
}

func readNucleus(b []byte) (message, error) {
	r, err := decode[protocol.NucleusReport](b)
	switch {
	case err != nil:
	case !slices.Contains(nucleusStates, r.State):
		err = fault.Field("state", "is none of %v", nucleusStates)
	case r.Restarts < 0:
		err = fault.Field("restarts", "is %d, want 0 or more", r.Restarts)
	case r.LogBytes < 0:
		err = fault.Field("logBytes", "is %d, want 0 or more", r.LogBytes)
	case len(r.Root) > maxError:
		err = fault.Field("root", "has %d bytes; at most %d are read", len(r.Root), maxError)
	default:
		err = texts("name", r.Name, "version", r.Version, "runtime", r.Runtime, "configDigest", r.ConfigDigest)
	}
	return message{ReportHeader: r.ReportHeader, apply: func(to *Report) {
		to.Nucleus = &Nucleus{
			State: r.State, Name: r.Name, Version: r.Version, Restarts: r.Restarts, LastError: oneLine(r.LastError),
			Runtime: r.Runtime, Root: oneLine(r.Root), Adopted: r.Adopted, ConfigDigest: r.ConfigDigest, LogBytes: r.LogBytes, LogErrors: r.LogErrors,
		}
	}}, err
}

//nolint:gochecknoglobals // a constant list
var nucleusStates = []protocol.NucleusState{
	protocol.NucleusAbsent, protocol.NucleusInstalling, protocol.NucleusStarting, protocol.NucleusRunning, protocol.NucleusFailed, protocol.NucleusStopped,
}

func readComponents(b []byte) (message, error) {
	r, err := decode[protocol.ComponentsReport](b)
	switch {
	case err != nil:
	case r.Components == nil:
		err = fault.Field("components", "is missing")
	case len(r.Components) > protocol.MaxComponents:
		err = fault.New(fault.TooLarge, "%d components; at most %d are read", len(r.Components), protocol.MaxComponents)
	case r.Omitted < 0:
		err = fault.Field("omitted", "is %d, want 0 or more", r.Omitted)
	default:
		err = texts("source", r.Source)
	}
	for i := 0; err == nil && i < len(r.Components); i++ {
		c := r.Components[i]
		err = fault.Under(fmt.Sprintf("components[%d]", i), texts("name", c.Name, "version", c.Version, "state", c.State))
	}
	return message{ReportHeader: r.ReportHeader, apply: func(to *Report) {
		to.Components, to.Source, to.Omitted = slices.Clone(r.Components), r.Source, r.Omitted
	}}, err
}

// texts refuses what would hurt whoever shows it. It takes names and texts in
// turn.
func texts(pairs ...string) error {
	for pair := range slices.Chunk(pairs, 2) {
		name, s := pair[0], pair[1]
		if len(s) > maxText {
			return fault.Field(name, "has %d bytes; at most %d are read", len(s), maxText)
		}
		if strings.ContainsFunc(s, unicode.IsControl) {
			return fault.Field(name, "has control characters")
		}
	}
	return nil
}

// oneLine makes an error's text, which may quote a program's output, fit to be
// shown anywhere.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, fault.Clip(s, maxError))
}
