package svc

import (
	"path"
	"strconv"
	"strings"
	"time"
)

// showProperties is what systemd is asked for.
const showProperties = "LoadState,ActiveState,SubState,UnitFileState,FragmentPath,MainPID,NRestarts,ActiveEnterTimestamp,ConditionResult"

// parseShow reads what 'systemctl show' prints.
func parseShow(out []byte) State {
	v := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		v[name] = value
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
	s.PID, _ = strconv.Atoi(v["MainPID"])
	s.Restarts, _ = strconv.Atoi(v["NRestarts"])
	if at, err := time.Parse("Mon 2006-01-02 15:04:05 MST", v["ActiveEnterTimestamp"]); err == nil && s.Running {
		s.Since = at
	}
	return s
}
