package nucleusfacts

import (
	"context"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/systemd"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const (
	unitPrefix = "ggl."
	unitSuffix = ".service"
	broken     = 3 // restarts after which a component counts as broken
)

// readUnits asks systemd, in one call, how the units of lite are.
func (r *Reader) readUnits(ctx context.Context) {
	if time.Since(r.unitsAt) < unitsEvery {
		return
	}
	r.unitsAt = time.Now()
	ctx, cancel := context.WithTimeout(ctx, unitsTime)
	defer cancel()
	b, err := r.system.Output(ctx, maxOutput, "systemctl", "show", "--no-pager", unitPrefix+"*"+unitSuffix,
		"--property=Id,LoadState,ActiveState,Result,NRestarts,ExecMainStartTimestampMonotonic,ExecStart")
	if err != nil {
		r.log.DebugContext(ctx, "systemd does not answer", logx.Err, err)
		return
	}
	r.facts.Source, r.facts.Components = protocol.ComponentsFromSystemd, parseUnits(b)
}

// parseUnits returns the components among the units that `systemctl show` names, in
// the states of nucleus-contract §7.2.
func parseUnits(b []byte) (out []protocol.LocalComponent) {
	for _, unit := range systemd.ParseShow(string(b)) {
		if name, ok := componentOf(unit["Id"]); ok && unit["LoadState"] != "not-found" {
			out = append(out, protocol.LocalComponent{Name: name, Version: versionOf(unit["ExecStart"]), State: stateOf(unit)})
		}
	}
	return sorted(out)
}

// componentOf returns the component whose unit it is: neither a part of the
// runtime nor a component's installation.
func componentOf(unit string) (name string, ok bool) {
	name, ok = strings.CutPrefix(unit, unitPrefix)
	if !ok || strings.HasPrefix(name, "core.") {
		return "", false
	}
	name, ok = strings.CutSuffix(name, unitSuffix)
	if !ok || name == "" || !shown(name) || strings.HasSuffix(name, ".install") || strings.HasSuffix(name, ".bootstrap") {
		return "", false
	}
	return name, true
}

// versionOf finds the version that the recipe runner is started with.
func versionOf(execStart string) string {
	_, argv, ok := strings.Cut(execStart, "argv[]=")
	if !ok {
		return ""
	}
	argv, _, _ = strings.Cut(argv, " ;")
	words := strings.Fields(argv)
	for i, w := range words {
		if w == "-v" && i+1 < len(words) && shown(words[i+1]) {
			return words[i+1]
		}
	}
	return ""
}

func stateOf(unit systemd.Unit) string {
	started := unit["ExecMainStartTimestampMonotonic"]
	switch unit["ActiveState"] {
	case "activating":
		return "STARTING"
	case "active", "reloading":
		return "RUNNING"
	case "deactivating":
		return "STOPPING"
	case "inactive", "failed":
		if started == "" || started == "0" {
			return "INSTALLED"
		}
	}
	switch {
	case unit.Int("NRestarts") >= broken:
		return "BROKEN"
	case unit["Result"] == "success":
		return "FINISHED"
	default:
		return "ERRORED"
	}
}
