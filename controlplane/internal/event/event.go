package event

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Source is the source of every event (cdf-services §7).
const Source = "com.aws.cdf.greengrass2-provisioning"

// Type is the detail-type of an event.
type Type string

// The detail types that are published (cdf-services §7).
const (
	CoreCreated           Type = "Core Created Event"
	CoreDeleted           Type = "Core Deleted Event"
	CoreTemplateUpdated   Type = "Core Template Updated Event"
	DeviceCreated         Type = "Device Created Event"
	DeviceDeleted         Type = "Device Deleted Event"
	DeploymentTaskCreated Type = "DeploymentTask Created Event" // per core
	DeploymentTaskDeleted Type = "DeploymentTask Deleted Event"
)

// Types of our own that are published too.
const (
	HelpRequested Type = "Help Requested Event" // somebody asked something of one device
	HelpEnded     Type = "Help Ended Event"     // how it ended
)

// Devices that want in, and agents that got in.
const (
	EnrollmentRequested Type = "Enrollment Requested Event"
	EnrollmentApproved  Type = "Enrollment Approved Event"
	EnrollmentDenied    Type = "Enrollment Denied Event"
	AgentEnrolled       Type = "Agent Enrolled Event"
)

// AgentReleaseStopped says that too many devices failed with a release of the agent.
const AgentReleaseStopped Type = "Agent Release Stopped Event"

// The types that are part of a core's history only.
const (
	StatusChanged       Type = "Core Status Changed"
	CertificateIssued   Type = "Certificate Issued"
	CertificateChanged  Type = "Certificate Status Changed"
	DeploymentWithdrawn Type = "Deployment Withdrawn"
)

// Published reports whether subscribers get events of this type.
func (t Type) Published() bool {
	return slices.Contains(Types(), t)
}

// Types returns the types that are published.
func Types() []Type {
	return []Type{
		CoreCreated, CoreDeleted, CoreTemplateUpdated, DeviceCreated, DeviceDeleted, DeploymentTaskCreated, DeploymentTaskDeleted,
		HelpRequested, HelpEnded, EnrollmentRequested, EnrollmentApproved, EnrollmentDenied, AgentEnrolled, AgentReleaseStopped,
	}
}

// Slug is the type as topics and CloudEvents name it:
// deployment-task-created-event.
func (t Type) Slug() string {
	var b strings.Builder
	before := ' '
	for _, r := range string(t) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case unicode.IsUpper(r) && unicode.IsLower(before):
			b.WriteByte('-')
			fallthrough
		default:
			b.WriteRune(unicode.ToLower(r))
		}
		before = r
	}
	return b.String()
}

// Event is something that happened.
type Event struct {
	ID   string `json:"id"` // of this event, the same at each delivery
	Type Type   `json:"type"`
	// Core is the core (or client device) that it happened to: events of one core
	// are delivered in order. May be empty.
	Core   string          `json:"core,omitempty"`
	At     time.Time       `json:"at"`
	Detail json.RawMessage `json:"detail"`

	// Sequence is the place in the log: 1, 2, 3 … without gaps. It is 0 before the
	// event is there, and for ever if its type is not published.
	Sequence int64 `json:"sequence,omitempty"`
}

// Envelope is an event as subscribers get it: source, detail-type and detail of
// cdf-services §7, and beside them what tells one event from another.
type Envelope struct {
	Source     string          `json:"source"`
	DetailType Type            `json:"detail-type"`
	Detail     json.RawMessage `json:"detail"`
	ID         string          `json:"id"`
	Time       time.Time       `json:"time"`
}

// Envelope returns e as subscribers get it.
func (e Event) Envelope() Envelope {
	return Envelope{Source: Source, DetailType: e.Type, Detail: e.Detail, ID: e.ID, Time: e.At}
}

// succeeded reports whether the detail of e says status success.
func (e Event) succeeded() bool {
	var d struct {
		Status string `json:"status"`
	}
	return json.Unmarshal(e.Detail, &d) == nil && d.Status == "success"
}

// Add puts an event into b: it happens with b or not at all. Events of one batch
// are told in the order of their Add. detail is encoded as JSON.
func Add(b *state.Batch, t Type, core string, at time.Time, detail any) {
	e := Event{ID: names.NewUUID(), Type: t, Core: core, At: at.UTC().Truncate(time.Millisecond)}
	key := fmt.Sprintf("%s%03d-%s", outboxPrefix, b.Len(), e.ID)
	raw, err := json.Marshal(detail)
	if err != nil {
		b.Put(key, detail) // makes the error that the commit returns
		return
	}
	e.Detail = raw
	b.Put(key, e)
}
