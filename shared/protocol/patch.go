package protocol

import "encoding/base64"

// Paths of the agent's calls about patches, on the device HTTPS listener with
// the agent's client certificate.
const (
	PathPatches       = "/agent/v1/patches" // GET → PatchList: what waits for this device
	PatchTakePath     = "take"              // POST PathPatches/ID/take PatchTake → PatchOrder
	PatchPlaybookPath = "playbook"          // GET PathPatches/ID/playbook → YAML
	PatchResultPath   = "result"            // POST PathPatches/ID/result PatchResult → {}
)

// PatchPath is the path of one call about the patch id.
func PatchPath(id, call string) string { return PathPatches + "/" + id + "/" + call }

// PatchTopic returns ggfleet/v1/cores/<core>/patches, where the agent of a core
// is told that a patch waits. The payload means nothing: it asks PathPatches.
func PatchTopic(core string) string { return "ggfleet/v1/cores/" + core + "/patches" }

// MaxPatchOutput is the most of a run's output that is reported, in bytes: its
// end.
const MaxPatchOutput = 16 << 10

// PatchList is what waits for a device, in the order to be run.
type PatchList struct {
	Patches []PatchOffer `json:"patches"`
}

// PatchOffer is a patch that waits, or that was taken and not reported.
type PatchOffer struct {
	ID      string `json:"patchId"`
	Attempt int    `json:"attempt"` // from 1
}

// PatchTake takes an attempt of a patch for one run. The same run may take it
// again, so that a lost answer costs nothing; another one may not.
type PatchTake struct {
	Attempt int    `json:"attempt"`
	Run     string `json:"run"` // UUID made by the agent
}

// PatchOrder is what to run.
type PatchOrder struct {
	ID             string            `json:"patchId"`
	PlaybookDigest string            `json:"playbookDigest"` // lower-case hex SHA-256
	ExtraVars      map[string]string `json:"extraVars"`      // evaluated, not encoded
	TimeoutSeconds int               `json:"timeoutSeconds"`
}

// Variables returns the variables as the playbook gets them: every value in
// base64 (cdf-services §6.5).
func (o PatchOrder) Variables() map[string]string {
	out := make(map[string]string, len(o.ExtraVars))
	for k, v := range o.ExtraVars {
		out[k] = base64.StdEncoding.EncodeToString([]byte(v))
	}
	return out
}

// PatchResult is how a run ended.
type PatchResult struct {
	Attempt int    `json:"attempt"`
	Run     string `json:"run"`
	Success bool   `json:"success"`
	// Message is the end of the playbook's output, or a code of the agent
	// (Patch… constants) and an explanation.
	Message string `json:"message"`
}

// Codes with which the agent begins the message of a patch that failed before,
// or otherwise than by, its playbook.
const (
	PatchesNotAllowed    = "PATCHES_NOT_ALLOWED" // the device does not allow them
	PatchAnsibleNotFound = "ANSIBLE_NOT_FOUND"   // there is no ansible-playbook on the device
	PatchTimedOut        = "TIMED_OUT"
	PatchInterrupted     = "INTERRUPTED" // the agent or the device stopped while it ran
	PatchNotRun          = "NOT_RUN"     // it could not be started
)
