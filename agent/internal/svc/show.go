package svc

import (
	"path"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/systemd"
)

// showProperties is what systemd is asked for.
const showProperties = "LoadState,ActiveState,SubState,UnitFileState,FragmentPath,MainPID,NRestarts,ActiveEnterTimestamp,ConditionResult"

// parseShow reads what 'systemctl show' prints of the agent's unit.
func parseShow(out []byte) State {
	var v systemd.Unit
	if us := systemd.ParseShow(string(out)); len(us) > 0 {
		v = us[0]
	}
	switch v["LoadState"] {
	case "not-found":
		return State{Word: "not installed"}
	case "":
		return State{Word: "unknown"}
	}
	s := State{
		Installed: true, File: v["FragmentPath"],
		Running:  v["ActiveState"] == "active" || v["ActiveState"] == "activating" || v["ActiveState"] == "reloading",
		Boot:     v["UnitFileState"] == "enabled" || v["UnitFileState"] == "enabled-runtime",
		Packaged: v["FragmentPath"] != "" && path.Dir(v["FragmentPath"]) != "/etc/systemd/system",
		Word:     v["ActiveState"] + " (" + v["SubState"] + ")",
	}
	if v["LoadState"] != "loaded" { // masked, bad-setting, error
		s.Word = v["LoadState"]
	}
	s.PID, s.Restarts = v.Int("MainPID"), v.Int("NRestarts")
	if at, err := time.Parse("Mon 2006-01-02 15:04:05 MST", v["ActiveEnterTimestamp"]); err == nil && s.Running {
		s.Since = at
	}
	return s
}
