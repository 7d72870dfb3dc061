package telemetry

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/nucleusfacts"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// observer owns what was last reported. Sequences are 0 for what was never said.
type observer struct {
	*Reporter

	nucleus   Nucleus
	facts     nucleusfacts.Facts // as they were said
	factsAt   time.Time          // when
	component []protocol.LocalComponent
	host      protocol.HostFacts
	hostAt    time.Time
	health    protocol.HealthReport
	due       time.Time // when the next heartbeat is
	spare     int       // reports that may come before it

	saidNucleus, saidComponents, saidHost, saidHealth uint64
}

// observe reports what changes until ctx is done.
func (r *Reporter) observe(ctx context.Context) error {
	o := &observer{Reporter: r, spare: maxSpare}
	health := time.NewTimer(0)
	defer health.Stop()
	look := time.NewTicker(r.cfg.Components)
	defer look.Stop()
	for {
		run.Progress(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-r.up:
			o.again(ctx)
		case n := <-r.nucleus:
			o.became(ctx, n)
		case <-health.C:
			o.lookAtHost(ctx)
			health.Reset(max(r.cfg.Health/looks, min(r.cfg.Health, 30*time.Second)))
		case <-look.C:
			o.lookAtNucleus(ctx)
		}
	}
}

// again says everything to whoever may have forgotten it. What still waits in
// the spool is said anyhow: a line that comes and goes does not fill it.
func (o *observer) again(ctx context.Context) {
	o.store(ctx, protocol.ReportConnection, func(h protocol.ReportHeader, _ Condition) any {
		c := protocol.ConnectionReport{ReportHeader: h, Connected: true, AgentVersion: o.cfg.AgentVersion}
		if o.cfg.TakenOver != nil {
			if at := o.cfg.TakenOver().UTC(); !at.IsZero() {
				c.TakenOverAt = &at
			}
		}
		return c
	})
	for _, kind := range []struct {
		said uint64
		say  func(context.Context)
	}{{o.saidNucleus, o.sayNucleus}, {o.saidComponents, o.sayComponents}, {o.saidHost, o.sayHost}, {o.saidHealth, o.sayHealth}} {
		if kind.said > 0 && !o.cfg.Spool.Waiting(kind.said) {
			kind.say(ctx)
		}
	}
}

// became takes what the supervisor tells.
func (o *observer) became(ctx context.Context, n Nucleus) {
	if n == o.nucleus {
		return
	}
	if n.StateFile != o.nucleus.StateFile || n.Root != o.nucleus.Root || n.Runtime != o.nucleus.Runtime {
		o.component, o.saidComponents = nil, 0
		o.facts = nucleusfacts.Facts{}
	}
	o.nucleus = n
	o.sayNucleus(ctx)
}

func (o *observer) lookAtNucleus(ctx context.Context) {
	n := nucleusfacts.Nucleus{Runtime: o.nucleus.Runtime, Root: o.nucleus.Root, StateFile: o.nucleus.StateFile}
	if n == (nucleusfacts.Nucleus{}) {
		return
	}
	f := o.cfg.Facts.Read(ctx, n)
	said := o.facts
	o.facts = f
	if f.Components != nil && (o.saidComponents == 0 || !slices.Equal(f.Components, o.component)) {
		o.component = f.Components
		o.sayComponents(ctx)
	}
	// What logs hold changes all the time: it goes along with the heartbeat.
	grown := f.LogErrors != said.LogErrors || f.LogBytes/(1<<20) != said.LogBytes/(1<<20)
	switch {
	case f.ConfigDigest != said.ConfigDigest, grown && time.Since(o.factsAt) >= o.cfg.Health:
		o.sayNucleus(ctx)
	default:
		o.facts.LogErrors, o.facts.LogBytes = said.LogErrors, said.LogBytes
	}
}

func (o *observer) sayNucleus(ctx context.Context) {
	n, f := o.nucleus, o.facts
	o.factsAt = time.Now()
	o.saidNucleus = o.store(ctx, protocol.ReportNucleus, func(h protocol.ReportHeader, _ Condition) any {
		return protocol.NucleusReport{
			ReportHeader: h, State: n.State, Name: n.Name, Version: n.Version, PID: n.PID, Restarts: n.Restarts, LastError: n.LastError,
			Runtime: n.Runtime, Root: n.Root, Adopted: n.Adopted, ConfigDigest: f.ConfigDigest, LogBytes: f.LogBytes, LogErrors: f.LogErrors,
		}
	})
}

// componentsRoom is how many bytes the list of components may take.
const componentsRoom = protocol.MaxAgentMessage - 4096

func (o *observer) sayComponents(ctx context.Context) {
	list := fitting(o.component)
	o.saidComponents = o.store(ctx, protocol.ReportComponents, func(h protocol.ReportHeader, _ Condition) any {
		return protocol.ComponentsReport{ReportHeader: h, Components: list, Source: o.facts.Source, Omitted: len(o.component) - len(list)}
	})
}

// fitting returns as much of the list as one report has room for.
func fitting(list []protocol.LocalComponent) []protocol.LocalComponent {
	room := componentsRoom
	for i, c := range list[:min(len(list), protocol.MaxComponents)] {
		b, _ := json.Marshal(c) //nolint:errchkjson // texts always encode
		if room -= len(b) + 1; room < 0 {
			return list[:i]
		}
	}
	return list[:min(len(list), protocol.MaxComponents)]
}

// lookAtHost says what is notable of the host, and all of it when the heartbeat
// is due.
func (o *observer) lookAtHost(ctx context.Context) {
	now := time.Now()
	facts := o.cfg.Host.Facts()
	if o.cfg.Certificates != nil {
		agent, device := o.cfg.Certificates()
		facts.AgentCertificateExpires, facts.CoreCertificateExpires = known(agent), known(device)
	}
	if o.saidHost == 0 || now.Sub(o.hostAt) >= hostEvery && !reflect.DeepEqual(facts, o.host) {
		o.host = facts
		o.sayHost(ctx)
	}
	switch {
	case o.saidHealth == 0, !now.Before(o.due):
		o.spare = min(o.spare+1, maxSpare)
		o.sayHealth(ctx)
	case o.spare > 0 && notable(o.health, o.measure(o.cfg.Spool.Condition())):
		o.spare--
		o.sayHealth(ctx)
	}
}

// maxSpare is how many reports between heartbeats may come in a row; each
// heartbeat allows one more. It bounds what a value costs that never rests.
const maxSpare = 3

// hostEvery is the time between host reports at least: a network that flaps is
// not worth a line each time.
const hostEvery = time.Minute

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (o *observer) sayHost(ctx context.Context) {
	o.hostAt = time.Now()
	o.saidHost = o.store(ctx, protocol.ReportHost, func(h protocol.ReportHeader, _ Condition) any {
		return protocol.HostReport{ReportHeader: h, HostFacts: o.host}
	})
}

func (o *observer) sayHealth(ctx context.Context) {
	tenth := o.cfg.Health / 10
	o.due = time.Now().Add(o.cfg.Health - tenth/2 + rand.N(tenth+1))
	o.saidHealth = o.store(ctx, protocol.ReportHealth, func(h protocol.ReportHeader, c Condition) any {
		o.health = o.measure(c)
		o.health.ReportHeader = h
		return o.health
	})
}

func (o *observer) measure(c Condition) protocol.HealthReport {
	host := o.cfg.Host.Read(o.cfg.DiskPath)
	h := protocol.HealthReport{
		AgentVersion: o.cfg.AgentVersion, UptimeSeconds: host.UptimeSeconds, Load1: host.Load1,
		MemoryUsedBytes: host.MemoryUsedBytes, MemoryBytes: host.MemoryBytes, DiskFreeBytes: host.Disk.FreeBytes, DiskBytes: host.Disk.Bytes,
		InodesFree: host.Disk.InodesFree, Inodes: host.Disk.Inodes, DiskReadOnly: host.Disk.ReadOnly,
		TemperatureCelsius: host.TemperatureCelsius, ClockSynchronized: host.ClockSynchronized,
		DroppedReports: c.Dropped, DamagedReports: c.Damaged, ReportsInMemory: c.Trouble != nil,
	}
	if o.cfg.ClockOffset != nil {
		if d, ok := o.cfg.ClockOffset(); ok {
			s := d.Round(100 * time.Millisecond).Seconds()
			h.ClockOffsetSeconds = &s
		}
	}
	return h
}
