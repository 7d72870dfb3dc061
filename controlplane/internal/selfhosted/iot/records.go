package iot

import (
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// Thing is an entry of the registry.
type Thing struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"` // of this incarnation
	Type       string            `json:"type,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Version    int64             `json:"version"`
	Principals []string          `json:"principals,omitempty"` // certificate ids
	Groups     []string          `json:"groups,omitempty"`     // static groups, in the order joined
	CreatedAt  time.Time         `json:"createdAt"`
	// Deleting is set by the first step of a deletion: from then on nothing new
	// may refer to the thing, so what is left of it only gets less.
	Deleting bool `json:"deleting,omitempty"`
	// Detached are the policies that its deletion took from its certificates, to be
	// deleted where nothing else has them.
	Detached []string `json:"detached,omitempty"`
}

// Certificate is a registered principal.
type Certificate struct {
	ID        string                  `json:"id"`
	PEM       string                  `json:"pem"`
	Status    cloud.CertificateStatus `json:"status"`
	CAID      string                  `json:"caId,omitempty"`
	Things    []string                `json:"things,omitempty"`
	Policies  []string                `json:"policies,omitempty"`
	NotBefore time.Time               `json:"notBefore"`
	NotAfter  time.Time               `json:"notAfter"`
	CreatedAt time.Time               `json:"createdAt"`

	ModifiedAt time.Time       `json:"modifiedAt,omitzero"`
	Version    int             `json:"version,omitempty"` // grows with each change of the status; 0 means 1
	Mode       CertificateMode `json:"mode,omitempty"`    // empty: as CAID says, see ModeOf
	// Exclusive: the one thing that it is attached to is the only one it may have.
	Exclusive bool `json:"exclusive,omitempty"`
}

// Group is a static thing group.
type Group struct {
	Name        string            `json:"name"`
	ID          string            `json:"id"`
	Description string            `json:"description,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	Parents     []string          `json:"parents,omitempty"` // from the top of the hierarchy to the group it was made under
	Children    []string          `json:"children,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Version     int64             `json:"version"`
	CreatedAt   time.Time         `json:"createdAt"`
	Policies    []string          `json:"policies,omitempty"` // attached to it, at most MaxGroupPolicies
	// Retiring is set while the group is being removed: nobody joins it then.
	Retiring bool `json:"retiring,omitempty"`
	// Expelling: it is being removed together with its members.
	Expelling bool `json:"expelling,omitempty"`
}

const (
	prefix       = state.Root + "iot/"
	certPrefix   = prefix + "cert/"
	policyPrefix = prefix + "policy/"
)

func thingKey(name string) string      { return prefix + "thing/" + name }
func certKey(id string) string         { return certPrefix + id }
func typeKey(name string) string       { return prefix + "type/" + name }
func groupKey(name string) string      { return prefix + "group/" + name }
func memberPrefix(group string) string { return prefix + "member/" + group + "/" }
func memberKey(g, thing string) string { return memberPrefix(g) + thing }
func policyKey(name string) string     { return policyPrefix + name }

// policyRefKey says that the certificate has the policy: the certificate's
// record the other way round, for policies that are not built in.
func policyRefPrefix(name string) string    { return prefix + "policy-of/" + name + "/" }
func policyRefKey(name, cert string) string { return policyRefPrefix(name) + cert }

// groupRefKey says that the thing group has the policy: the group's record the
// other way round.
func groupRefPrefix(policy string) string     { return prefix + "policy-of-group/" + policy + "/" }
func groupRefKey(policy, group string) string { return groupRefPrefix(policy) + group }

func caKey(id string) string            { return prefix + "ca/" + id }
func changedKey(kind, id string) string { return changedPrefix + kind + "/" + id }

// changedPrefix holds one small key for each certificate or policy whose
// meaning for live sessions changed, and one for each thing group that has
// policies. Certificates themselves lie under a prefix that nobody watches, so that
// provisioning ten thousand cores tells no replica anything it need not know.
const changedPrefix = prefix + "changed/"
