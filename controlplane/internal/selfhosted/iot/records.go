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
}

// Group is a static thing group.
type Group struct {
	Name        string            `json:"name"`
	ID          string            `json:"id"`
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	CreatedAt   time.Time         `json:"createdAt"`
	// Retiring is set while the group is being removed: nobody joins it then.
	Retiring bool `json:"retiring,omitempty"`
}

// Policy is a policy; only the default version is kept.
type Policy struct {
	Name      string    `json:"name"`
	Document  string    `json:"document"`
	CreatedAt time.Time `json:"createdAt"`
	// BuiltIn policies were made by the first start: no deletion of a thing takes
	// one along.
	BuiltIn bool `json:"builtIn,omitempty"`
	// Deleting is set while somebody looks whether a certificate still has the
	// policy; attaching it takes the mark away.
	Deleting bool `json:"deleting,omitempty"`
}

const prefix = state.Root + "iot/"

func thingKey(name string) string      { return prefix + "thing/" + name }
func certKey(id string) string         { return prefix + "cert/" + id }
func groupKey(name string) string      { return prefix + "group/" + name }
func memberPrefix(group string) string { return prefix + "member/" + group + "/" }
func memberKey(g, thing string) string { return memberPrefix(g) + thing }
func policyKey(name string) string     { return prefix + "policy/" + name }

// policyRefKey says that the certificate has the policy: the certificate's
// record the other way round, for policies that are not built in.
func policyRefPrefix(name string) string    { return prefix + "policy-of/" + name + "/" }
func policyRefKey(name, cert string) string { return policyRefPrefix(name) + cert }
func caKey(id string) string                { return prefix + "ca/" + id }
func changedKey(kind, id string) string     { return changedPrefix + kind + "/" + id }

// changedPrefix holds one small key for each certificate or policy whose
// meaning for live sessions changed. Certificates themselves lie under a prefix
// that nobody watches, so that provisioning ten thousand cores tells no replica
// anything it need not know.
const changedPrefix = prefix + "changed/"
