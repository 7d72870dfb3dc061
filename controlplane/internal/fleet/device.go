package fleet

import "time"

// Device is the fleet's record of a client device.
type Device struct {
	Name      string              `json:"name"`
	Core      string              `json:"coreName,omitempty"`  // empty: its core was deleted
	Artifacts map[string]Artifact `json:"artifacts,omitempty"` // by ArtifactCerts

	ProvisioningTemplate string `json:"provisioningTemplate,omitempty"`

	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"` // zero until the first update
}

// DeviceFilter selects client devices.
type DeviceFilter struct {
	Core string // empty: any
}

// DeleteDevice says what goes with a client device's record (cdf-services §2.4
// E18).
type DeleteDevice struct {
	Deprovision  bool // the thing, its certificate and artifacts
	Disassociate bool // the association with its core
}
