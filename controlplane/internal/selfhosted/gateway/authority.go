package gateway

import (
	"crypto/x509"
	"net/netip"
	"strings"
	"sync"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/policy"
	"github.com/ggfleet/ggfleet/shared/names"
)

// The actions that policies decide on a connection (iot-api §16).
const (
	actConnect       = "iot:Connect"
	actPublish       = "iot:Publish"
	actRetainPublish = "iot:RetainPublish"
	actSubscribe     = "iot:Subscribe"
	actReceive       = "iot:Receive"
)

// maxKnown bounds the decisions remembered for one session.
const maxKnown = 128

// authority is what one session may do. It never changes: a changed identity
// gets a new one, and the remembered decisions go with the old.
type authority struct {
	session Session
	realm   names.Realm
	vars    policy.Vars

	mu    sync.RWMutex
	known map[question]bool
}

type question struct{ action, name string }

func newAuthority(s Session, leaf *x509.Certificate, realm names.Realm) *authority {
	a := &authority{session: s, realm: realm, known: map[question]bool{}}
	a.vars = policy.Vars{MQTT: true, ClientID: s.ClientID, CertificateID: s.Identity.CertificateID, Certificate: leaf}
	if ap, err := netip.ParseAddrPort(s.Address); err == nil {
		a.vars.SourceIP = ap.Addr().Unmap()
	}
	id := s.Identity
	if id.Thing != "" && names.ThingOfClientID(s.ClientID) == id.Thing {
		a.vars.Thing = &policy.Thing{Name: id.Thing, Type: id.ThingType, Attributes: id.Attributes}
	}
	return a
}

// may decides action on the client id, topic or filter called name.
func (a *authority) may(action, name string) bool {
	q := question{action, name}
	a.mu.RLock()
	yes, ok := a.known[q]
	a.mu.RUnlock()
	if ok {
		return yes
	}
	id, r := a.session.Identity, policy.Request{Action: action, Resource: a.resource(action, name), Vars: &a.vars}
	yes = policy.Decide(id.Policies, r) && (id.Boundary == nil || policy.Decide([]*policy.Document{id.Boundary}, r))
	a.mu.Lock()
	if len(a.known) >= maxKnown {
		clear(a.known)
	}
	// The name may be a window on a whole packet: keep a copy of it alone.
	a.known[question{action, strings.Clone(name)}] = yes
	a.mu.Unlock()
	return yes
}

func (a *authority) resource(action, name string) string {
	switch action {
	case actConnect:
		return a.realm.Client(name)
	case actSubscribe:
		return a.realm.TopicFilter(name)
	}
	return a.realm.Topic(name)
}
