package captures

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

// Sizes that lite takes, in bytes (nucleus-contract traps 21, 23).
const (
	maxUpdateAnswer = 1024
	maxGroups       = 2048
	maxURLAnswer    = 2000
	maxResolve      = 16384
	maxCredentials  = 1500
)

const token = "jobs-nucleus-lite" //nolint:gosec // a correlation id, no secret

// checkAck checks reason codes: a CONNACK of a clean session, granted QoS,
// PUBACK and UNSUBACK 0 (trap 6).
func (r *replayer) checkAck(p mqttwire.Packet, filters int) {
	switch p.Type { //nolint:exhaustive // the rest has one code, or none
	case mqttwire.Connack:
		if p.Code() != 0 || p.SessionPresent {
			r.violate("CONNACK code 0x%02x, session present %v; want 0 and a new session", p.Code(), p.SessionPresent)
		}
	case mqttwire.Suback:
		if len(p.Codes) != filters || slices.ContainsFunc(p.Codes, func(c byte) bool { return c != 1 }) {
			r.violate("SUBACK codes %v, want QoS 1 granted for each of %d", p.Codes, filters)
		}
	case mqttwire.Unsuback:
		if len(p.Codes) != filters || slices.ContainsFunc(p.Codes, func(c byte) bool { return c != 0 }) {
			r.violate("UNSUBACK codes %v, want 0 (trap 6)", p.Codes)
		}
	default:
		if p.Code() != 0 {
			r.violate("%s code 0x%02x, want 0", p.Type, p.Code())
		}
	}
}

// checkMessage checks a message of the jobs service (§2.2).
func (r *replayer) checkMessage(p mqttwire.Packet) {
	if p.Size > maxPacket {
		r.violate("packet of %d bytes is over the announced maximum (trap 5)", p.Size)
	}
	if p.Retain {
		r.violate("message on %s is retained", p.Topic)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(p.Payload, &m); err != nil {
		r.violate("message on %s is no JSON object: %s", p.Topic, short(p.Payload))
		return
	}
	r.wantSeconds("timestamp", m["timestamp"])
	request := strings.HasSuffix(p.Topic, "/accepted") || strings.HasSuffix(p.Topic, "/rejected")
	switch {
	case request && string(m["clientToken"]) != `"`+token+`"`:
		r.violate("answer on %s has clientToken %s, want the request's (trap 7)", p.Topic, m["clientToken"])
	case !request && m["clientToken"] != nil:
		r.violate("notification with a clientToken")
	case strings.HasSuffix(p.Topic, "/rejected"):
		r.violate("refused: %s", short(p.Payload))
	}
	if strings.HasSuffix(p.Topic, "/update/accepted") {
		if len(p.Payload) > maxUpdateAnswer {
			r.violate("answer to an update of %d bytes, at most %d (trap 21)", len(p.Payload), maxUpdateAnswer)
		}
		return
	}
	if raw, ok := m["execution"]; ok {
		r.checkExecution(raw)
	}
}

func (r *replayer) checkExecution(raw json.RawMessage) {
	var e map[string]json.RawMessage
	if json.Unmarshal(raw, &e) != nil || len(e) == 0 {
		r.violate("execution is %s; leave it out when there is none (trap 13a)", short(raw))
		return
	}
	for _, key := range []string{"queuedAt", "lastUpdatedAt"} {
		r.wantSeconds(key, e[key])
	}
	if e["startedAt"] != nil {
		r.wantSeconds("startedAt", e["startedAt"])
	}
	var x protocol.JobExecution
	if err := json.Unmarshal(raw, &x); err != nil {
		r.violate("execution: %v", err)
		return
	}
	if x.JobID == "" || len(x.JobID) > 64 || x.ThingName != r.t.Thing || x.VersionNumber < 1 || x.ExecutionNumber < 1 {
		r.violate("execution of job %q for thing %q, version %d, number %d", x.JobID, x.ThingName, x.VersionNumber, x.ExecutionNumber)
	}
	switch x.Status { //nolint:exhaustive // the rest is no next execution
	case protocol.JobQueued, protocol.JobInProgress:
		if len(x.JobDocument) == 0 || x.JobDocument[0] != '{' {
			r.violate("execution %s is %s without a jobDocument (trap 13a)", x.JobID, x.Status)
		}
	default:
		r.violate("the next execution %s is %q", x.JobID, x.Status)
	}
}

var configurationARN = regexp.MustCompile(`^arn:[a-z-]+:greengrass:[a-z0-9-]+:\d{12}:configuration:(thing|thinggroup)/[^/]+:\d+$`)

// checkJob compares the document with the deployment that the driver was asked
// for (§3).
func (r *replayer) checkJob(captured *protocol.JobExecution, payload []byte) {
	var a protocol.JobAnswer
	var doc, want protocol.DeploymentDocument
	if json.Unmarshal(payload, &a) != nil || a.Execution == nil || json.Unmarshal(captured.JobDocument, &want) != nil {
		return // said already
	}
	if err := json.Unmarshal(a.Execution.JobDocument, &doc); err != nil {
		r.violate("job document: %v", err)
		return
	}
	if doc.DeploymentID == "" || len(doc.DeploymentID) > 64 {
		r.violate("deploymentId %q, want 1 to 64 characters", doc.DeploymentID)
	}
	if !configurationARN.MatchString(doc.ConfigurationARN) {
		r.violate("configurationArn %q, want kind, name and revision (trap 19)", doc.ConfigurationARN)
	}
	if doc.CreationTimestamp < 1e12 {
		r.violate("creationTimestamp %d, want milliseconds (trap 14)", doc.CreationTimestamp)
	}
	if len(doc.Components) != len(want.Components) {
		r.violate("document has %d components, %d were deployed", len(doc.Components), len(want.Components))
	}
	for name, c := range want.Components {
		got := doc.Components[name]
		if got.Version != c.Version {
			r.violate("document has %s %q, %s was deployed", name, got.Version, c.Version)
		}
		if c.ConfigurationUpdate != nil && (got.ConfigurationUpdate == nil || !sameJSON(got.ConfigurationUpdate.Merge, c.ConfigurationUpdate.Merge)) {
			r.violate("document has another configuration for %s", name)
		}
	}
	r.docIDs = append(r.docIDs, want.DeploymentID, doc.DeploymentID)
	r.learn(want.ConfigurationARN, doc.ConfigurationARN)
}

func (r *replayer) wantSeconds(key string, raw json.RawMessage) {
	var n int64
	if json.Unmarshal(raw, &n) != nil || n < 1e9 || n > 1e11 {
		r.violate("%s is %s, want whole seconds (trap 13)", key, raw)
	}
}

func (r *replayer) checkThingGroups(body []byte) {
	if len(body) > maxGroups {
		r.violate("thing groups of %d bytes, at most %d (trap 21)", len(body), maxGroups)
	}
	var a struct {
		ThingGroups []map[string]any `json:"thingGroups"`
	}
	if err := json.Unmarshal(body, &a); err != nil || a.ThingGroups == nil {
		r.violate("thing groups: %s", short(body))
		return
	}
	own := false
	for _, g := range a.ThingGroups {
		own = own || g["thingGroupName"] == r.t.Thing
		if len(g) != 1 {
			r.violate("thing group %v: lite gets names only (§4.3)", g)
		}
	}
	if !own {
		r.violate("thing groups lack the thing's own name (trap 20): %s", short(body))
	}
}

func (r *replayer) checkCredentials(body []byte) {
	var a struct {
		Credentials map[string]string `json:"credentials"`
	}
	if err := json.Unmarshal(body, &a); err != nil || len(body) > maxCredentials || len(a.Credentials) != 4 {
		r.violate("credentials of %d bytes with %d members, want four text members (trap 23)", len(body), len(a.Credentials))
		return
	}
	for _, key := range []string{"accessKeyId", "secretAccessKey", "sessionToken"} {
		if a.Credentials[key] == "" {
			r.violate("credentials lack %s", key)
		}
	}
	if t, err := time.Parse("2006-01-02T15:04:05Z", a.Credentials["expiration"]); err != nil || time.Until(t) <= 0 {
		r.violate("credentials expire at %q, want a coming time in UTC", a.Credentials["expiration"])
	}
}

func (r *replayer) checkArtifactURL(body []byte) string {
	if len(body) >= maxURLAnswer {
		r.violate("artifact URL answer of %d bytes, want less than %d (trap 21)", len(body), maxURLAnswer)
	}
	var a struct {
		URL string `json:"preSignedUrl"`
	}
	if err := json.Unmarshal(body, &a); err != nil || a.URL == "" {
		r.violate("artifact URL: %s", short(body))
		return ""
	}
	u, err := url.Parse(a.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		r.violate("artifact URL %q", a.URL)
		return ""
	}
	return a.URL
}

func (r *replayer) checkResolve(request, body, captured []byte) {
	if len(body) > maxResolve {
		r.violate("resolve answer of %d bytes, at most %d (trap 21)", len(body), maxResolve)
	}
	var req struct {
		Candidates []struct {
			Name         string            `json:"componentName"`
			Requirements map[string]string `json:"versionRequirements"`
		} `json:"componentCandidates"`
	}
	got, ok := resolvedIn(body)
	if json.Unmarshal(request, &req) != nil || len(req.Candidates) != 1 || !ok {
		r.violate("resolve answer must have exactly one entry: %s", short(body))
		return
	}
	name := req.Candidates[0].Name
	if want := "components:" + name + ":versions:" + got.ComponentVersion; got.ComponentName != name || len(got.ARN) > 256 ||
		!strings.HasPrefix(got.ARN, "arn:aws:greengrass:"+r.t.Region+":") || !strings.HasSuffix(got.ARN, want) {
		r.violate("resolve answer names %s-%s with ARN %q (trap 28)", got.ComponentName, got.ComponentVersion, got.ARN)
	}
	if v, err := semver.StrictNewVersion(got.ComponentVersion); err != nil {
		r.violate("componentVersion %q is no semantic version", got.ComponentVersion)
	} else {
		for _, text := range req.Candidates[0].Requirements {
			if c, err := semver.NewConstraint(text); err != nil || !c.Check(v) {
				r.violate("%s-%s does not meet %q", name, got.ComponentVersion, text)
			}
		}
	}
	raw, err := base64.StdEncoding.DecodeString(got.Recipe)
	if err != nil {
		r.violate("recipe of %s is not base64", name)
		return
	}
	var recipe map[string]any
	if err := json.Unmarshal(raw, &recipe); err != nil {
		r.violate("recipe of %s is not JSON (trap 31): %v", name, err)
		return
	}
	if recipe["ComponentName"] != got.ComponentName || recipe["ComponentVersion"] != got.ComponentVersion {
		r.violate("recipe names %v-%v, the answer %s-%s", recipe["ComponentName"], recipe["ComponentVersion"], got.ComponentName, got.ComponentVersion)
	}
	for _, problem := range RecipeProblems(raw) {
		r.violate("recipe of %s: %s", name, problem)
	}
	r.learnComponent(got, recipe, captured)
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return len(a) == len(b)
	}
	p, _ := json.Marshal(x) //nolint:errchkjson // came from JSON
	q, _ := json.Marshal(y) //nolint:errchkjson // came from JSON
	return string(p) == string(q)
}
