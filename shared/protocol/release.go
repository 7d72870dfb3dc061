package protocol

import (
	"net/url"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Paths of releases of the agent.
const (
	PathReleases = "/agent/v1/releases/" // GET + hex SHA-256 → the agent's binary; Range allowed
	PathInstall  = "/install/"           // GET + file name → what a technician needs; no client certificate; Range allowed
)

// MaxReleaseFile is the largest file of a release, in bytes.
const MaxReleaseFile = 256 << 20

// AgentRelease is a release of the agent that the control plane offers to one
// device. It is believed for its signature only.
type AgentRelease struct {
	Version   string `json:"version"`   // semantic version
	Platform  string `json:"platform"`  // GOOS/GOARCH
	Digest    string `json:"digest"`    // lower-case hex SHA-256 of the binary
	Size      int64  `json:"size"`      // bytes
	Signature string `json:"signature"` // minisign's signature file of the binary (package signed)

	// WaitSeconds is after how long the device may fetch it, so that a fleet does not
	// come at once.
	WaitSeconds int `json:"waitSeconds,omitempty"`
}

// UpdateState says how far a device is with a release.
type UpdateState string

// The states of an update. The last three are ends.
const (
	UpdateOff         UpdateState = "off"         // this agent never updates itself; the reason says why
	UpdateDownloading UpdateState = "downloading" // being fetched; the reason says why it does not go on
	UpdateBlocked     UpdateState = "blocked"     // the device cannot take it now: disk, file system; tried again
	UpdateTrial       UpdateState = "trial"       // about to run, or running and not proven yet
	UpdateWaiting     UpdateState = "waiting"     // the old one runs again, until the control plane is there to prove the new one
	UpdateRefused     UpdateState = "refused"     // not what its signature or platform says; never run
	UpdateFailed      UpdateState = "failed"      // it did not prove itself; the old one runs
	UpdateCommitted   UpdateState = "committed"   // it is the agent now
)

// UpdateStates returns all of them.
func UpdateStates() []UpdateState {
	return []UpdateState{UpdateOff, UpdateDownloading, UpdateBlocked, UpdateTrial, UpdateWaiting, UpdateRefused, UpdateFailed, UpdateCommitted}
}

// Failure reports whether s speaks against the release, not only against the
// device.
func (s UpdateState) Failure() bool { return s == UpdateRefused || s == UpdateFailed }

// AgentUpdate is the last update of a device: the zero value when there was none.
type AgentUpdate struct {
	Version string      `json:"version,omitempty"` // of the release
	Digest  string      `json:"digest,omitempty"`  // of its binary
	State   UpdateState `json:"state,omitempty"`
	Reason  string      `json:"reason,omitempty"`
}

// MaxUpdateReason bounds AgentUpdate.Reason in bytes.
const MaxUpdateReason = 300

// AgentAbout is what an agent says of itself when it asks for its assignment.
type AgentAbout struct {
	Version string // that runs
	Update  AgentUpdate
}

// Set writes a into a query. Members that are empty are left out.
func (a AgentAbout) Set(v url.Values) {
	for name, value := range map[string]string{
		"agent": a.Version, "updateVersion": a.Update.Version, "updateDigest": a.Update.Digest,
		"updateState": string(a.Update.State), "updateReason": fault.Clip(a.Update.Reason, MaxUpdateReason),
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
}

// ParseAgentAbout reads what Set wrote. What cannot be is taken as not said.
func ParseAgentAbout(v url.Values) AgentAbout {
	a := AgentAbout{
		Version: queryWord(v, "agent"),
		Update: AgentUpdate{
			Version: queryWord(v, "updateVersion"), Digest: queryWord(v, "updateDigest"), State: UpdateState(queryWord(v, "updateState")),
			Reason: fault.Clip(strings.ToValidUTF8(v.Get("updateReason"), "?"), MaxUpdateReason),
		},
	}
	known := false
	for _, s := range UpdateStates() {
		known = known || s == a.Update.State
	}
	if !known {
		a.Update = AgentUpdate{}
	}
	return a
}

// queryWord returns a short printable value, "" for any other.
func queryWord(v url.Values, name string) string {
	s := v.Get(name)
	if len(s) > maxQuery || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return s
}
