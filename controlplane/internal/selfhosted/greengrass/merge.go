package greengrass

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// same reports whether two records differ in nothing but when they were made.
func same(a, b CoreDevice) bool {
	if !slices.EqualFunc(a.Components, b.Components, sameComponent) {
		return false
	}
	a.LastStatusAt, b.LastStatusAt = time.Time{}, time.Time{}
	a.Components, b.Components = nil, nil
	return reflect.DeepEqual(a, b)
}

func sameComponent(a, b InstalledComponent) bool {
	return a.Name == b.Name && a.Version == b.Version && a.State == b.State && a.Reason == b.Reason && a.IsRoot == b.IsRoot &&
		a.Source == b.Source && slices.Equal(a.Codes, b.Codes) && slices.Equal(a.ARNs, b.ARNs)
}

// merge reads a message as nucleus-contract §2.4 says: COMPLETE replaces the
// list, PARTIAL is merged by name, UNINSTALLED removes. A smaller sequence
// number is no reason to refuse: a core set up anew starts over.
func merge(c CoreDevice, m protocol.FleetStatus, now time.Time) CoreDevice {
	next := CoreDevice{
		Thing: m.Thing, Status: m.OverallDeviceStatus, Version: m.GGCVersion, Platform: m.Platform, Architecture: m.Architecture,
		Runtime: m.Runtime, LastStatusAt: now, CreatedAt: c.CreatedAt, Results: c.Results,
	}
	before := make(map[string]InstalledComponent, len(c.Components))
	for _, x := range c.Components {
		before[x.Name] = x
	}
	list := map[string]InstalledComponent{}
	if m.MessageType == protocol.StatusPartial {
		list = maps.Clone(before)
	}
	for _, r := range m.Components {
		if x, ok := list[r.ComponentName]; r.Status == "UNINSTALLED" || ok && dropped(x, r, m) {
			delete(list, r.ComponentName)
		} else {
			list[r.ComponentName] = installed(before[r.ComponentName], r, m, now)
		}
	}
	if d := m.Deployment; d != nil && d.Status != "" {
		next.Results = withResult(c.Results, d)
		keepRoots(list, m)
	}
	next.Components = slices.SortedFunc(maps.Values(list), func(a, b InstalledComponent) int { return strings.Compare(a.Name, b.Name) })
	return next
}

// dropped reports whether a deployment removed the component: older classic
// versions then send it once more with its last state and no configuration. The
// runtime's own services never had one.
func dropped(before InstalledComponent, r protocol.ComponentStatus, m protocol.FleetStatus) bool {
	byDeployment := m.Trigger == protocol.TriggerThingDeployment || m.Trigger == protocol.TriggerThingGroupDeployment || m.Trigger == protocol.TriggerLocalDeployment
	return m.Runtime != protocol.RuntimeLite && m.MessageType == protocol.StatusPartial && byDeployment && len(before.ARNs) > 0 && len(r.FleetConfigARNs) == 0
}

// installed is what a message makes of a component; before is the zero value for
// one that is new.
func installed(before InstalledComponent, r protocol.ComponentStatus, m protocol.FleetStatus, now time.Time) InstalledComponent {
	x := InstalledComponent{
		Name: cut(r.ComponentName, maxCode), Version: cut(r.Version, maxCode), State: cut(r.Status, maxCode), IsRoot: r.IsRoot,
		ARNs: bounded(r.FleetConfigARNs, maxReasonLength), LastReportedAt: now, ChangedAt: now,
	}
	if r.Details != nil {
		x.Reason, x.Codes = cut(r.Details.StatusReason, maxReasonLength), bounded(r.Details.StatusCodes, maxCode)
	}
	if before.Name != "" && before.Version == x.Version && before.State == x.State {
		x.ChangedAt = before.ChangedAt
	}
	x.Source = source(before, x, m)
	return x
}

// source tells what installed the component: the id of the last deployment that
// names its configuration, SourceLocal, or "" where only the configuration's ARN
// tells it (see Installed).
func source(before, x InstalledComponent, m protocol.FleetStatus) string {
	local := slices.ContainsFunc(x.ARNs, func(arn string) bool { return !isConfiguration(arn) })
	d := m.Deployment
	switch {
	case d != nil && slices.Contains(x.ARNs, d.FleetConfigurationARN):
		return sourceOf(m)
	case local && (m.Trigger == protocol.TriggerLocalDeployment || !slices.ContainsFunc(x.ARNs, isConfiguration)):
		return SourceLocal
	case slices.Equal(before.ARNs, x.ARNs):
		return before.Source
	}
	return ""
}

// sourceOf is the source of what the message's deployment installed.
func sourceOf(m protocol.FleetStatus) string {
	if m.Trigger == protocol.TriggerLocalDeployment || !isConfiguration(m.Deployment.FleetConfigurationARN) {
		return SourceLocal // lite reports the bare id of a local deployment in its place
	}
	return m.Deployment.DeploymentID
}

func isConfiguration(arn string) bool {
	_, _, _, ok := names.ParseConfigurationARN(arn)
	return ok
}

// keepRoots gives the roots that a deployment left as they were its
// configuration: classic names them and says no more.
func keepRoots(list map[string]InstalledComponent, m protocol.FleetStatus) {
	d := m.Deployment
	kind, name, _, ok := names.ParseConfigurationARN(d.FleetConfigurationARN)
	if !ok || d.Status != string(protocol.JobSucceeded) {
		return
	}
	for _, root := range d.UnchangedRootComponents {
		x, ok := list[root]
		if !ok {
			continue
		}
		arns := slices.DeleteFunc(slices.Clone(x.ARNs), func(arn string) bool {
			k, n, _, ok := names.ParseConfigurationARN(arn)
			return ok && k == kind && n == name
		})
		x.ARNs, x.Source, x.IsRoot = append(arns, d.FleetConfigurationARN), sourceOf(m), true
		list[root] = x
	}
}

func withResult(results []Result, d *protocol.DeploymentInformation) []Result {
	r := Result{DeploymentID: d.DeploymentID, Status: d.Status}
	if x := d.StatusDetails; x != nil {
		r.Detailed, r.Cause = x.DetailedStatus, cut(x.FailureCause, maxReasonLength)
		r.ErrorStack, r.ErrorTypes = bounded(x.ErrorStack, maxCode), bounded(x.ErrorTypes, maxCode)
	}
	out := slices.DeleteFunc(slices.Clone(results), func(o Result) bool { return o.DeploymentID == r.DeploymentID })
	out = append(out, r)
	if len(out) > maxResults {
		out = out[len(out)-maxResults:]
	}
	return out
}

// cut returns the first n characters of s.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	at := 0
	for range n {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	return s[:at]
}

// bounded returns the first few of list, each of at most n characters; none are
// nil: [] and absent are stored alike.
func bounded(list []string, n int) []string {
	var out []string
	for _, s := range list[:min(len(list), maxListed)] {
		out = append(out, cut(s, n))
	}
	return out
}
