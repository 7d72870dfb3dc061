package protocol

import (
	"encoding/json"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxFleetStatus is the largest fleet status message accepted: classic sends
// chunks of at most 128000 bytes (nucleus-contract §2.4).
const MaxFleetStatus = 128 << 10

// Message types and triggers of a fleet status.
const (
	StatusComplete = "COMPLETE"
	StatusPartial  = "PARTIAL"

	TriggerNucleusLaunch         = "NUCLEUS_LAUNCH"
	TriggerCadence               = "CADENCE"
	TriggerNetworkReconfigure    = "NETWORK_RECONFIGURE"
	TriggerLocalDeployment       = "LOCAL_DEPLOYMENT"
	TriggerThingDeployment       = "THING_DEPLOYMENT"
	TriggerThingGroupDeployment  = "THING_GROUP_DEPLOYMENT"
	TriggerComponentStatusChange = "COMPONENT_STATUS_CHANGE"
	TriggerReconnect             = "RECONNECT"
)

// Runtimes by the names of the API. Only lite says its own; classic sends none.
const (
	RuntimeLite    = "aws_nucleus_lite"
	RuntimeClassic = "aws_nucleus_classic"
)

// Health of a core device as its last message says.
const (
	Healthy   = "HEALTHY"
	Unhealthy = "UNHEALTHY"
)

// FleetStatus is the message on FleetStatusTopic (nucleus-contract §2.4).
type FleetStatus struct {
	GGCVersion          string                 `json:"ggcVersion"`
	Platform            string                 `json:"platform"`
	Architecture        string                 `json:"architecture"`
	Runtime             string                 `json:"runtime,omitempty"`
	Thing               string                 `json:"thing"`
	SequenceNumber      int64                  `json:"sequenceNumber"`
	Timestamp           int64                  `json:"timestamp"` // milliseconds
	MessageType         string                 `json:"messageType"`
	Trigger             string                 `json:"trigger"`
	OverallDeviceStatus string                 `json:"overallDeviceStatus"`
	ChunkInfo           *ChunkInfo             `json:"chunkInfo,omitempty"`
	Components          []ComponentStatus      `json:"components"`
	Deployment          *DeploymentInformation `json:"deploymentInformation,omitempty"`
}

// ChunkInfo numbers the parts of one message, from 1.
type ChunkInfo struct {
	ChunkID     int `json:"chunkId"`
	TotalChunks int `json:"totalChunks"`
}

// ComponentStatus is one component on a core.
type ComponentStatus struct {
	ComponentName   string                  `json:"componentName"`
	Version         string                  `json:"version"`
	FleetConfigARNs []string                `json:"fleetConfigArns"`
	Details         *ComponentStatusDetails `json:"componentStatusDetails,omitempty"`
	IsRoot          bool                    `json:"isRoot"`
	Status          string                  `json:"status"`
}

// ComponentStatusDetails says why a component is ERRORED or BROKEN.
type ComponentStatusDetails struct {
	StatusCodes  []string `json:"statusCodes"`
	StatusReason string   `json:"statusReason"`
}

// DeploymentInformation is the result of a deployment in a fleet status. Lite
// sends {} when there is none: DeploymentID is empty then.
type DeploymentInformation struct {
	Status                  string             `json:"status,omitempty"`
	FleetConfigurationARN   string             `json:"fleetConfigurationArnForStatus,omitempty"`
	DeploymentID            string             `json:"deploymentId,omitempty"`
	StatusDetails           *DeploymentDetails `json:"statusDetails,omitempty"`
	UnchangedRootComponents []string           `json:"unchangedRootComponents,omitempty"`
}

// DeploymentDetails says how a deployment ended.
type DeploymentDetails struct {
	DetailedStatus string   `json:"detailedStatus"`
	FailureCause   string   `json:"failureCause,omitempty"`
	ErrorStack     []string `json:"errorStack,omitempty"`
	ErrorTypes     []string `json:"errorTypes,omitempty"`
}

// ParseFleetStatus reads a fleet status message. Errors are fault.Invalid.
func ParseFleetStatus(b []byte) (FleetStatus, error) {
	var s FleetStatus
	if len(b) > MaxFleetStatus {
		return s, fault.New(fault.TooLarge, "fleet status of %d bytes is over the limit of %d", len(b), MaxFleetStatus)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fault.New(fault.Invalid, "fleet status is not the JSON expected: %v", err)
	}
	if s.MessageType != StatusComplete && s.MessageType != StatusPartial {
		return s, fault.Field("messageType", "is %q, want %s or %s", s.MessageType, StatusComplete, StatusPartial)
	}
	if s.OverallDeviceStatus != Healthy && s.OverallDeviceStatus != Unhealthy {
		return s, fault.Field("overallDeviceStatus", "is %q, want %s or %s", s.OverallDeviceStatus, Healthy, Unhealthy)
	}
	if c := s.ChunkInfo; c != nil && (c.ChunkID < 1 || c.TotalChunks < 1 || c.ChunkID > c.TotalChunks || c.TotalChunks > MaxChunks) {
		return s, fault.Field("chunkInfo", "chunk %d of %d is out of range", c.ChunkID, c.TotalChunks)
	}
	if s.Deployment != nil && s.Deployment.DeploymentID == "" {
		s.Deployment = nil
	}
	return s, nil
}

// MaxChunks bounds the parts of one message that a reader will collect.
const MaxChunks = 64
