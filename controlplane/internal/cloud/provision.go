package cloud

import (
	"context"
	"crypto"
	"crypto/x509"
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
	// Import checks a certificate that was made elsewhere, to be registered: by a
	// CA that the cloud knows, or without one. PEM that is no client certificate,
	// or not of that CA: fault.Invalid; a CA the cloud does not know: fault.NotFound.
	Import(ctx context.Context, r ImportRequest) (Issued, error)
	// Describe returns all there is to know of a thing, or fault.NotFound.
	Describe(ctx context.Context, name string) (ThingDetail, error)
	// SetCertificates sets the status of every certificate of the thing; live
	// sessions follow. An unknown thing is fault.NotFound.
	SetCertificates(ctx context.Context, thing string, s CertificateStatus) error
	// Deprovision removes the thing with its memberships, executions,
	// associations and, as o says, certificates and policies, and calls commit
	// once with what belongs to the last commit. From the first step on its
	// certificates cannot connect unless another thing shares them. It can be
	// repeated after any failure; of a thing that is gone only commit is called.
	Deprovision(ctx context.Context, thing string, o Deprovision, commit func(*state.Batch) error) error
}

// Deprovision says what goes with a thing. What another thing shares is only
// detached.
type Deprovision struct {
	Certificates bool // delete them; else they stay, detached and INACTIVE
	Policies     bool // delete those that nothing else uses, built-in ones excepted
}

// ImportRequest names a certificate that was made elsewhere.
type ImportRequest struct {
	PEM   string // the certificate; a chain may follow
	CAPEM string // of the CA that signed it
	CAID  string // of the CA that signed it, instead of CAPEM
	// WithoutCA registers it although no CA of the cloud signed it.
	WithoutCA bool
}

// PrivateCA issues certificates from a certificate authority of the customer:
// ACM PCA on AWS, an intermediate of our own CA when self-hosted.
type PrivateCA interface {
	// IssuePrivate signs the CSR's key. ca is an ARN; an unknown one is
	// fault.NotFound. The certificate is not registered by it.
	IssuePrivate(ctx context.Context, ca string, r PrivateRequest) (PrivateCertificate, error)
}

// PrivateRequest asks a private CA for a certificate.
type PrivateRequest struct {
	CSR      []byte // PEM
	Subject  pkix.Name
	Validity time.Duration
}

// PrivateCertificate is what a private CA issued.
type PrivateCertificate struct {
	PEM   string // the leaf
	Chain string // its issuers, leaf's issuer first
}

// ThingDetail is a thing with what is attached to it.
type ThingDetail struct {
	Name         string
	ARN          string
	Type         string
	Attributes   map[string]string
	Version      int64
	Certificates []CertificateDetail
	Policies     []PolicyDetail // of all certificates, each once
	Groups       []GroupDetail  // direct ones
}

// CertificateDetail is a certificate of a thing.
type CertificateDetail struct {
	ID, ARN string
	Status  CertificateStatus
	PEM     string
}

// PolicyDetail is a policy attached to a certificate.
type PolicyDetail struct {
	Name, ARN string
	Document  string // JSON
}

// GroupDetail is a thing group.
type GroupDetail struct {
	Name, ARN  string
	Attributes map[string]string
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
	// Replaces is the certificate whose place this one takes: it begins when that
	// began and ends no earlier, whatever the clock says now. nil: none.
	Replaces *x509.Certificate
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

	Certificate *Issued // nil: none now
	// CertificateID attaches one that is registered, instead of Certificate. An
	// unknown one is fault.NotFound.
	CertificateID string
	// OverrideStatus says what happens to the status of that one.
	OverrideStatus Override
	Status         CertificateStatus // of the certificate; empty: ACTIVE
	Policies       []Policy          // attached to the certificate
	// ClientOf is the core device that the thing becomes a client device of, in
	// the same change; empty: none. A core that is no thing is fault.NotFound.
	ClientOf string
	// Supersede makes every other certificate of the thing REVOKED in the same
	// change; of those, the newest few stay attached and the rest goes.
	Supersede bool
}

// Policy names a policy; with a document it is created if it does not exist.
type Policy struct {
	Name     string
	Document string
}
