package enrollment

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Caller is who asks to be enrolled, as far as the connection tells.
type Caller struct {
	Address     netip.Addr        // the zero value: not known
	Certificate string            // id of the client certificate; empty: none
	Thing       string            // that the certificate belongs to; empty: it is a claim
	Attributes  map[string]string // of the thing
}

// Answer is the agent's identity, or Pending when the device has to wait.
type Answer struct {
	protocol.EnrollResponse

	Pending *protocol.EnrollPending
}

// applicant is one call of Enroll.
type applicant struct {
	Caller

	protocol.EnrollRequest

	csr *x509.CertificateRequest
	key string // keyID of the csr
}

// races is how often a change that another one came before is tried again.
const races = 32

// Enroll lets an agent in that is known by an activation, a thing's certificate,
// a claim, or by nothing (protocol.EnrollRequest). The same key again gets the
// same certificate. fault.Denied when it is refused, fault.Exhausted when too many
// wait already, fault.Exists for a key that asks for another name than before.
func (s *Service) Enroll(ctx context.Context, c Caller, r protocol.EnrollRequest) (Answer, error) {
	a := applicant{Caller: c, EnrollRequest: r}
	var err error
	if a.csr, err = pki.ParseCSR([]byte(r.CSR)); err != nil {
		return Answer{}, fault.Field("csr", "%s", fault.Message(err))
	}
	if err := checkSaid(r); err != nil {
		return Answer{}, err
	}
	a.key = keyID(a.csr)
	enroll := s.byRequest
	if r.ActivationID != "" || r.Code != "" {
		enroll = s.byActivation
	}
	for range races {
		out, err := enroll(ctx, a)
		if !errors.Is(err, fault.Conflict) {
			return out, err
		}
	}
	return Answer{}, fmt.Errorf("enrol: %d lost races in a row: %w", races, fault.Conflict)
}

func keyID(csr *x509.CertificateRequest) string {
	h := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(h[:])
}

// denied is what every wrong pair of id and code gets: it does not tell which of
// the two was wrong.
func denied() error {
	return fault.New(fault.Denied, "the activation does not exist, has expired, was used up, or its code is wrong")
}

// byActivation trades an activation for the agent's certificate.
func (s *Service) byActivation(ctx context.Context, r applicant) (Answer, error) {
	a, err := s.activation(ctx, r.ActivationID)
	if errors.Is(err, fault.NotFound) {
		a.Value.proves(r.Code) // as long as for one that exists
		return Answer{}, denied()
	}
	if err != nil {
		return Answer{}, err
	}
	if !a.Value.proves(r.Code) || s.now().After(a.Value.ExpiresAt) {
		s.log.WarnContext(ctx, "enrolment refused", "activation", a.Value.ID, "device", a.Value.DeviceID, logx.Address, r.Address.String())
		return Answer{}, denied()
	}
	subject, err := s.subject(ctx, a.Value.DeviceID)
	if err != nil {
		return Answer{}, err
	}
	if err := r.agrees(subject); err != nil {
		return Answer{}, err
	}
	if want := a.Value.Role; want != "" && want != subject.Role {
		return Answer{}, fault.New(fault.Denied, "the activation is for a %s, but %s is a %s", kindOf(want), subject.Name, kindOf(subject.Role))
	}
	if pem := a.Value.Issued[r.key]; pem != "" {
		current, err := s.current(ctx, subject.Name, func(c cloud.CertificateDetail) bool { return c.PEM == pem })
		if err != nil || current == "" {
			return Answer{}, orDenied(err, "another agent has enrolled for %s since, or this one was revoked; make a new activation", subject.Name)
		}
		return s.welcome(subject, pem), nil
	}
	if len(a.Value.Issued) >= a.Value.Limit {
		return Answer{}, denied()
	}
	pem, err := s.admit(ctx, r, subject, entry{Way: WayActivation}, func(b *state.Batch, issued cloud.Issued) {
		next := a.Value
		next.Issued = maps.Clone(next.Issued)
		if next.Issued == nil {
			next.Issued = map[string]string{}
		}
		next.Issued[r.key] = issued.PEM
		next.UpdatedAt = s.stamp()
		b.If(activationKey(next.ID), a.Rev).Put(activationKey(next.ID), next)
	})
	if err != nil {
		return Answer{}, err
	}
	return s.welcome(subject, pem), nil
}

// subject is what the fleet has of this name, or fault.NotFound.
func (s *Service) subject(ctx context.Context, name string) (protocol.Subject, error) {
	_, err := s.cfg.Cores.EnrollCore(ctx, name)
	if err == nil {
		return protocol.Subject{Role: protocol.RoleCore, Name: name}, nil
	}
	if !errors.Is(err, fault.NotFound) {
		return protocol.Subject{}, fmt.Errorf("look up core %s: %w", name, err)
	}
	if _, err = s.cfg.Devices.EnrollDevice(ctx, name); err == nil {
		return protocol.Subject{Role: protocol.RoleClient, Name: name}, nil
	}
	if !errors.Is(err, fault.NotFound) {
		return protocol.Subject{}, fmt.Errorf("look up client device %s: %w", name, err)
	}
	return protocol.Subject{}, fault.New(fault.NotFound, "neither a core nor a client device of this fleet has the name %s", fault.Brief(name))
}

// agrees reports an applicant that says it is another than it is known to be.
func (r applicant) agrees(s protocol.Subject) error {
	if r.Name != "" && r.Name != s.Name {
		return fault.Field("name", "is %q, but what the device presents is for %s; leave the name out, or take what belongs to %q", r.Name, s.Name, r.Name)
	}
	if r.Role != "" && r.Role != s.Role {
		return fault.Field("role", "is %s, but %s is a %s; enrol with role %s", r.Role, s.Name, kindOf(s.Role), s.Role)
	}
	return nil
}

func kindOf(r protocol.Role) string {
	if r == protocol.RoleClient {
		return "client device"
	}
	return "core"
}

// entry tells how an agent got in.
type entry struct {
	Way     Way    `json:"way"`
	Request string `json:"request,omitempty"` // id of its enrolment request; empty: by activation

	// decision let it in: whoever got in under the name after that keeps the place,
	// which nobody had looked at. nil: it takes anybody's place.
	decision *Decision
}

// errTaken: another device got in since it was decided.
var errTaken = errors.New("another device got in since")

// takes reports whether who comes in by e takes the place of the agent that is there.
func (e entry) takes(there agentRecord) bool {
	switch {
	case e.decision == nil || there.Certificate == "" || there.Request == e.Request:
		return true
	case e.decision.Rule != "": // no rule gives away a place
		return there.At.Before(e.decision.At)
	}
	return !there.At.After(e.decision.At)
}

// agentRecord is the agent of a device as it got in last.
type agentRecord struct {
	entry

	Role        protocol.Role `json:"role"` // of the device
	Key         string        `json:"key"`
	Certificate string        `json:"certificate"` // its id
	At          time.Time     `json:"at,omitzero"` // when it got in
}

func agentKey(device string) string { return prefix + "agent/" + device }

// admit makes the agent of subject, in one commit with what more adds: its
// certificate, its thing, and the end of whoever was its agent before.
func (s *Service) admit(ctx context.Context, r applicant, subject protocol.Subject, e entry, more func(*state.Batch, cloud.Issued)) (string, error) {
	agent := protocol.AgentThing(subject.Name)
	if err := names.CheckThing(agent); err != nil {
		return "", fault.New(fault.Invalid, "the name %s is too long for an agent: at most %d characters", subject.Name, maxName())
	}
	issued, err := s.cfg.Things.Issue(ctx, cloud.IssueRequest{Subject: pkix.Name{CommonName: agent}, Public: r.csr.PublicKey, Validity: s.cfg.CertificateLife})
	if err != nil {
		return "", fmt.Errorf("issue certificate of agent %s: %w", agent, err)
	}
	before, err := state.ReadOr[agentRecord](ctx, s.store, agentKey(subject.Name))
	if err != nil {
		return "", fmt.Errorf("read agent of %s: %w", subject.Name, err)
	}
	if !e.takes(before.Value) {
		return "", errTaken
	}
	attribute := protocol.AttributeCore
	if subject.Role == protocol.RoleClient {
		attribute = protocol.AttributeDevice
	}
	reg := cloud.Registration{
		Thing: agent, Attributes: map[string]string{attribute: subject.Name}, OverrideAttributes: cloud.Replace,
		Certificate: &issued, Policies: []cloud.Policy{{Name: AgentPolicy}}, Supersede: true,
	}
	err = s.cfg.Things.Register(ctx, reg, func(b *state.Batch) error {
		b.Step = state.StepEnroll
		more(b, issued)
		b.If(agentKey(subject.Name), before.Rev).Put(agentKey(subject.Name), agentRecord{entry: e, Role: subject.Role, Key: r.key, Certificate: issued.ID, At: s.stamp()})
		if old := before.Value.Request; old != "" && old != e.Request {
			if err := s.replacedBatch(ctx, b, old); err != nil {
				return err
			}
		}
		event.Add(b, event.AgentEnrolled, subject.Name, s.now(), enrolledDetail{
			Role: subject.Role, Name: subject.Name, Way: e.Way, RequestID: e.Request, CertificateID: issued.ID, Address: addressText(r.Address),
			Replaces: before.Value.Certificate,
		})
		_, err := s.store.Commit(ctx, b)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("enrol agent of %s: %w", subject.Name, err)
	}
	s.log.InfoContext(ctx, "agent enrolled", logx.Thing, agent, "role", subject.Role, "way", e.Way, "key", r.key, logx.Address, addressText(r.Address), "replaces", before.Value.Certificate)
	return issued.PEM, nil
}

// enrolledDetail is the detail of AgentEnrolled.
type enrolledDetail struct {
	Role          protocol.Role `json:"role"`
	Name          string        `json:"name"`
	Way           Way           `json:"way"`
	RequestID     string        `json:"requestId,omitempty"`
	CertificateID string        `json:"certificateId"`
	Replaces      string        `json:"replacesCertificateId,omitempty"`
	Address       string        `json:"address,omitempty"`
}

// welcome is what an agent gets that is let in.
func (s *Service) welcome(subject protocol.Subject, pem string) Answer {
	out := protocol.EnrollResponse{AgentThing: protocol.AgentThing(subject.Name), CertificatePEM: pem, CAPEM: s.cfg.CAPEM, MQTTAddress: s.cfg.MQTTAddress}
	if subject.Role == protocol.RoleClient {
		out.Device = subject.Name
	} else {
		out.Core = subject.Name
	}
	return Answer{EnrollResponse: out}
}

// current returns the ACTIVE certificate of the device's agent that is the one, ""
// if there is none.
func (s *Service) current(ctx context.Context, device string, is func(cloud.CertificateDetail) bool) (pem string, _ error) {
	d, err := s.cfg.Things.Describe(ctx, protocol.AgentThing(device))
	if errors.Is(err, fault.NotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look up agent of %s: %w", device, err)
	}
	for _, c := range d.Certificates {
		if c.Status == cloud.Active && is(c) {
			return c.PEM, nil
		}
	}
	return "", nil
}

// enrolled returns the certificate that the key got as the device's agent, if that
// one still may connect: the request that it came by may be forgotten.
func (s *Service) enrolled(ctx context.Context, device protocol.Subject, key string) (pem string, _ error) {
	a, err := state.ReadOr[agentRecord](ctx, s.store, agentKey(device.Name))
	if err != nil {
		return "", fmt.Errorf("read agent of %s: %w", device.Name, err)
	}
	if a.Value.Key != key || a.Value.Role != device.Role {
		return "", nil
	}
	return s.current(ctx, device.Name, func(c cloud.CertificateDetail) bool { return c.ID == a.Value.Certificate })
}

func orDenied(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return fault.New(fault.Denied, format, args...)
}
