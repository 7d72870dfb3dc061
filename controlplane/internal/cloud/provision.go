package cloud

import (
	"context"
	"crypto"
	"crypto/x509/pkix"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// Things registers devices.
type Things interface {
	// Thing returns fault.NotFound if no thing has this name.
	Thing(ctx context.Context, name string) (Thing, error)
	// Issue signs a client certificate that is not registered yet. An unknown
	// CA id is fault.NotFound; the empty one means the cloud's own CA.
	Issue(ctx context.Context, r IssueRequest) (Issued, error)
	// Register makes r true and calls commit once with what belongs to the same
	// commit. A policy that does not exist is fault.NotFound.
	Register(ctx context.Context, r Registration, commit func(*state.Batch) error) error
}

// Thing is what the fleet service needs to know of a thing.
type Thing struct {
	Name         string
	Certificates []string // ids
	Groups       []string
}

// IssueRequest asks for a client certificate for a public key.
type IssueRequest struct {
	CAID     string
	Subject  pkix.Name
	Public   crypto.PublicKey
	Validity time.Duration
}

// Issued is a signed certificate that the registry does not know yet.
type Issued struct {
	ID        string
	PEM       string // the leaf alone: lite sends only the first certificate of its file
	CAID      string
	NotBefore time.Time
	NotAfter  time.Time
}

// Override says what happens to a member of a thing that exists already
// (cdf-services §4.3).
type Override string

// The overrides; the empty one is DoNothing.
const (
	DoNothing Override = "DO_NOTHING"
	Replace   Override = "REPLACE"
	Merge     Override = "MERGE"
	Fail      Override = "FAIL"
)

// CertificateStatus of a certificate (iot-api §16). Only ACTIVE may connect.
type CertificateStatus string

// The statuses that this service sets.
const (
	Active   CertificateStatus = "ACTIVE"
	Inactive CertificateStatus = "INACTIVE"
	Revoked  CertificateStatus = "REVOKED"
)

// Registration is a thing with its certificate and policies, to be made true.
type Registration struct {
	Thing      string
	Type       string
	Attributes map[string]string
	Groups     []string

	OverrideType, OverrideAttributes, OverrideGroups Override

	Certificate *Issued           // nil: none now
	Status      CertificateStatus // of the certificate; empty: ACTIVE
	Policies    []Policy          // attached to the certificate
}

// Policy names a policy; with a document it is created if it does not exist.
type Policy struct {
	Name     string
	Document string
}
