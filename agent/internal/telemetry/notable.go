package telemetry

import (
	"math"
	"runtime"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// What is worth a report between two heartbeats. Each step is wide enough that a
// value which trembles around it is not told again and again: what was said last
// is what it is measured from.
const (
	shareStep  = 0.05 // of a disk's bytes or inodes
	memoryStep = 0.15 // of the memory
	loadStep   = 1.0  // per CPU
	heatStep   = 5    // degrees Celsius
	clockStep  = 2    // seconds; the offset itself is known to one
)

// notable tells whether now differs so much from what was said that it is told
// before the next heartbeat.
func notable(said, now protocol.HealthReport) bool {
	return moved(said.DiskFreeBytes, now.DiskFreeBytes, now.DiskBytes, shareStep) ||
		moved(said.InodesFree, now.InodesFree, now.Inodes, shareStep) ||
		moved(said.MemoryUsedBytes, now.MemoryUsedBytes, now.MemoryBytes, memoryStep) ||
		apart(said.Load1, now.Load1, loadStep*float64(runtime.NumCPU())) ||
		apart(said.TemperatureCelsius, now.TemperatureCelsius, heatStep) ||
		apart(said.ClockOffsetSeconds, now.ClockOffsetSeconds, clockStep) ||
		differ(said.DiskReadOnly, now.DiskReadOnly) ||
		differ(said.ClockSynchronized, now.ClockSynchronized) ||
		said.ReportsInMemory != now.ReportsInMemory ||
		said.DamagedReports != now.DamagedReports
}

// moved tells whether a part of a whole moved by the given share of it, or came
// to be known or unknown.
func moved(said, now, whole *uint64, share float64) bool {
	if said == nil || now == nil || whole == nil {
		return (said == nil) != (now == nil)
	}
	return math.Abs(float64(*said)-float64(*now)) >= share*float64(*whole) && *said != *now
}

func apart(said, now *float64, step float64) bool {
	if said == nil || now == nil {
		return (said == nil) != (now == nil)
	}
	return math.Abs(*said-*now) >= step
}

func differ(said, now *bool) bool {
	if said == nil || now == nil {
		return (said == nil) != (now == nil)
	}
	return *said != *now
}
