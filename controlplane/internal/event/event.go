package event

import (
	"encoding/json"
	"time"

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

// The types that are part of a core's history only.
const (
	StatusChanged       Type = "Core Status Changed"
	CertificateIssued   Type = "Certificate Issued"
	CertificateChanged  Type = "Certificate Status Changed"
	DeploymentWithdrawn Type = "Deployment Withdrawn"
)

// Published reports whether subscribers get events of this type.
func (t Type) Published() bool {
	switch t {
	case CoreCreated, CoreDeleted, CoreTemplateUpdated, DeviceCreated, DeviceDeleted, DeploymentTaskCreated, DeploymentTaskDeleted:
		return true
	default:
		return false
	}
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

	// Sequence is the place in the log, from 1; 0 until it is there.
	Sequence int64 `json:"sequence,omitempty"`
}

const (
	prefix       = state.Root + "event/"
	outboxPrefix = prefix + "outbox/"
)

// Add puts an event into b: it happens with b or not at all. detail is encoded as
// JSON.
func Add(b *state.Batch, t Type, core string, at time.Time, detail any) {
	raw, err := json.Marshal(detail)
	if err != nil {
		b.Put(outboxPrefix+"invalid", detail)
		return
	}
	e := Event{ID: names.NewUUID(), Type: t, Core: core, At: at.UTC().Truncate(time.Millisecond), Detail: raw}
	b.Put(outboxPrefix+e.ID, e)
}
