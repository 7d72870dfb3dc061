package telemetry

import (
	"maps"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Warning is a condition of a device that somebody should look at.
type Warning string

// The warnings.
const (
	LowDisk             Warning = "lowDisk"             // protocol.DiskLow, or less than a tenth of its inodes is free
	DiskReadOnly        Warning = "diskReadOnly"        // the file system of the agent takes nothing
	ReportsInMemory     Warning = "reportsInMemory"     // the spool does not take reports
	ReportsDamaged      Warning = "reportsDamaged"      // the spool was damaged: the disk may be failing
	ClockWrong          Warning = "clockWrong"          // more than a minute away from ours
	CertificateExpiring Warning = "certificateExpiring" // the agent's or the device's own, within 30 days
	NucleusDown         Warning = "nucleusDown"         // it failed
	IdentityShared      Warning = "identityShared"      // another agent has the same identity, and took the session within a day
)

const (
	lowShare    = 0.1 // of inodes
	clockFar    = 60  // seconds
	expiresSoon = 30 * 24 * time.Hour
	sharedFor   = 24 * time.Hour // that a session was taken over is held against a device
)

// Warnings returns all of them, in order.
func Warnings() []Warning {
	return []Warning{CertificateExpiring, ClockWrong, DiskReadOnly, IdentityShared, LowDisk, NucleusDown, ReportsDamaged, ReportsInMemory}
}

// warnings judges a report, in the order of Warnings.
func warnings(r *Report, now time.Time) (out []Warning) {
	holds := map[Warning]bool{
		ReportsInMemory: r.InMemory,
		IdentityShared:  !r.sharedAt.IsZero() && now.Sub(r.sharedAt) < sharedFor,
		ReportsDamaged:  r.DamagedReports > 0,
		NucleusDown:     r.Nucleus != nil && r.Nucleus.State == protocol.NucleusFailed,
	}
	if h := r.Host; h != nil {
		holds[LowDisk] = h.DiskFreeBytes != nil && h.DiskBytes != nil && protocol.DiskLow(*h.DiskFreeBytes, *h.DiskBytes) || low(h.InodesFree, h.Inodes)
		holds[DiskReadOnly] = h.DiskReadOnly != nil && *h.DiskReadOnly
		holds[ClockWrong] = h.ClockOffsetSeconds != nil && (*h.ClockOffsetSeconds > clockFar || *h.ClockOffsetSeconds < -clockFar)
	}
	if m := r.Machine; m != nil {
		holds[CertificateExpiring] = soon(m.AgentCertificateExpires, now) || soon(m.CoreCertificateExpires, now)
	}
	for _, w := range Warnings() {
		if holds[w] {
			out = append(out, w)
		}
	}
	return out
}

func low(free, whole *uint64) bool {
	return free != nil && whole != nil && float64(*free) < lowShare*float64(*whole)
}

func soon(t *time.Time, now time.Time) bool { return t != nil && t.Before(now.Add(expiresSoon)) }

// Counts counts the agents that were there since the start.
type Counts struct {
	Connected int
	Offline   int
	Warnings  map[Warning]int // of both, without those that none has
}

// add counts a once more, or once less.
func (c *Counts) add(a *agent, n int) {
	if !a.told() {
		return
	}
	if a.report.Connected {
		c.Connected += n
	} else {
		c.Offline += n
	}
	for _, w := range a.report.Warnings {
		if c.Warnings == nil {
			c.Warnings = map[Warning]int{}
		}
		if c.Warnings[w] += n; c.Warnings[w] == 0 {
			delete(c.Warnings, w)
		}
	}
}

// Counts counts the agents, at a price that does not depend on how many there
// are.
func (v *View) Counts() Counts {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := v.counts
	out.Warnings = maps.Clone(out.Warnings)
	return out
}

// Connected returns the names of the cores and client devices whose agents have a
// session, in no order.
func (v *View) Connected() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	names := make([]string, 0, v.counts.Connected)
	for name, a := range v.agents {
		if a.report.Connected {
			names = append(names, name)
		}
	}
	return names
}

// judge looks again at what time alone changes.
func (v *View) judge(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range v.agents {
		v.counts.add(a, -1)
		a.report.Warnings = warnings(&a.report, now)
		v.counts.add(a, 1)
	}
}

// Filter selects agents.
type Filter struct {
	Connected *bool   // nil: any
	Warning   Warning // empty: any
}

// Cores returns, in order, the names after after of at most limit cores whose
// agents the filter selects; more tells that there are others.
func (v *View) Cores(f Filter, after string, limit int) (names []string, more bool) {
	v.mu.Lock()
	for name, a := range v.agents {
		if name > after && !a.device && a.told() && (f.Connected == nil || *f.Connected == a.report.Connected) &&
			(f.Warning == "" || slices.Contains(a.report.Warnings, f.Warning)) {
			names = append(names, name)
		}
	}
	v.mu.Unlock()
	slices.Sort(names)
	if more = len(names) > limit; more {
		names = names[:limit]
	}
	return names, more
}
