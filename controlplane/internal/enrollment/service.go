package enrollment

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// AgentPolicy is the policy attached to every agent's certificate.
const AgentPolicy = "GGFleetAgentPolicy"

// AttributeCore is the attribute of an agent's thing that names its core.
const AttributeCore = "core"

// agentLife is the life of an agent's certificate.
const agentLife = 5 * 365 * 24 * time.Hour

// Config is what New needs. All but Log and Now are required.
type Config struct {
	Store         state.Store
	Objects       object.Store
	Things        cloud.Things
	Cores         Cores
	Distributions Distributions
	CAPEM         string // what devices trust: root first
	MQTTAddress   string // host:port for agents

	Log *slog.Logger
	Now func() time.Time
}

// Service lets devices in and tells agents what to do. Safe for concurrent use.
type Service struct {
	cfg   Config
	store state.Store
	log   *slog.Logger
	now   func() time.Time
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Objects == nil || cfg.Things == nil || cfg.Cores == nil || cfg.Distributions == nil || cfg.CAPEM == "" {
		return nil, errors.New("enrollment: Store, Objects, Things, Cores, Distributions and CAPEM are required")
	}
	s := &Service{cfg: cfg, store: cfg.Store, log: cfg.Log, now: cfg.Now}
	if s.log == nil {
		s.log = logx.Discard()
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// denied is what every wrong pair of id and code gets: it does not tell which of
// the two was wrong.
func denied() error {
	return fault.New(fault.Denied, "the activation does not exist, has expired, was used up, or its code is wrong; make a new one with POST /activations")
}

// Enroll trades an activation for the agent's certificate. The same key again
// gets the same certificate, so that a lost answer costs nothing.
func (s *Service) Enroll(ctx context.Context, r protocol.EnrollRequest) (protocol.EnrollResponse, error) {
	csr, err := pki.ParseCSR([]byte(r.CSR))
	if err != nil {
		return protocol.EnrollResponse{}, fault.Field("csr", "%s", fault.Message(err))
	}
	a, err := s.activation(ctx, r.ActivationID)
	if errors.Is(err, fault.NotFound) {
		a.Value.proves(r.Code) // as long as for one that exists
		return protocol.EnrollResponse{}, denied()
	}
	if err != nil {
		return protocol.EnrollResponse{}, err
	}
	if !a.Value.proves(r.Code) || s.now().After(a.Value.ExpiresAt) {
		s.log.WarnContext(ctx, "enrolment refused", "activation", a.Value.ID, logx.Core, a.Value.DeviceID)
		return protocol.EnrollResponse{}, denied()
	}
	core, agent := a.Value.DeviceID, protocol.AgentThing(a.Value.DeviceID)
	if _, err := s.cfg.Cores.EnrollCore(ctx, core); err != nil {
		return protocol.EnrollResponse{}, err
	}
	if err := names.CheckThing(agent); err != nil {
		return protocol.EnrollResponse{}, fault.New(fault.Invalid, "core name %s is too long for an agent: at most %d characters", core, names.MaxThing-len(protocol.AgentThing("")))
	}
	out := protocol.EnrollResponse{AgentThing: agent, Core: core, CAPEM: s.cfg.CAPEM, MQTTAddress: s.cfg.MQTTAddress}
	key := keyID(csr)
	if pem := a.Value.Issued[key]; pem != "" {
		out.CertificatePEM = pem
		return out, nil
	}
	if len(a.Value.Issued) >= a.Value.Limit {
		return protocol.EnrollResponse{}, denied()
	}
	out.CertificatePEM, err = s.admit(ctx, a, core, agent, key, csr)
	if errors.Is(err, fault.Conflict) {
		return s.Enroll(ctx, r) // the activation was used in this moment: look again
	}
	if err != nil {
		return protocol.EnrollResponse{}, fmt.Errorf("enrol agent of %s: %w", core, err)
	}
	s.log.InfoContext(ctx, "agent enrolled", logx.Core, core, logx.Thing, agent)
	return out, nil
}

// admit registers certificate and thing and uses the activation, in one commit.
func (s *Service) admit(ctx context.Context, a state.Record[Activation], core, agent, key string, csr *x509.CertificateRequest) (string, error) {
	issued, err := s.cfg.Things.Issue(ctx, cloud.IssueRequest{Subject: pkix.Name{CommonName: agent}, Public: csr.PublicKey, Validity: agentLife})
	if err != nil {
		return "", err
	}
	next := a.Value
	next.Issued = map[string]string{key: issued.PEM}
	for k, v := range a.Value.Issued {
		next.Issued[k] = v
	}
	next.UpdatedAt = s.now().UTC().Truncate(time.Millisecond)
	reg := cloud.Registration{
		Thing: agent, Attributes: map[string]string{AttributeCore: core}, OverrideAttributes: cloud.Replace,
		Certificate: &issued, Policies: []cloud.Policy{{Name: AgentPolicy}},
	}
	return issued.PEM, s.cfg.Things.Register(ctx, reg, func(b *state.Batch) error {
		b.Step = state.StepEnroll
		b.If(activationKey(a.Value.ID), a.Rev).Put(activationKey(a.Value.ID), next)
		_, err := s.store.Commit(ctx, b)
		return err
	})
}

func keyID(csr *x509.CertificateRequest) string {
	h := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(h[:])
}

// Assignment is what the agent of core is to make true on the device that q
// tells of.
func (s *Service) Assignment(ctx context.Context, core string, q protocol.AssignmentQuery) (protocol.CoreAssignment, error) {
	c, err := s.cfg.Cores.EnrollCore(ctx, core)
	if err != nil {
		return protocol.CoreAssignment{}, err
	}
	d, err := s.cfg.Distributions.Offer(ctx, core, q)
	if err != nil {
		return protocol.CoreAssignment{}, fmt.Errorf("the offered nucleus: %w", err)
	}
	return protocol.CoreAssignment{
		Core: c.Name, HasCertificate: !c.CertificatePending, CertsZip: c.CertsKey != "", Config: c.ConfigKey != "", CAPEM: s.cfg.CAPEM, Nucleus: d,
	}, nil
}

// Certificate completes a core with the CSR of the key that its agent made.
func (s *Service) Certificate(ctx context.Context, core, csr string) (protocol.CSRResponse, error) {
	pem, err := s.cfg.Cores.CompleteCore(ctx, core, csr)
	return protocol.CSRResponse{CertificatePEM: pem}, err
}

// Certs opens the core's certs.zip, Config its installer configuration. Both
// return fault.NotFound if there is none; the caller closes the reader.
func (s *Service) Certs(ctx context.Context, core string) (object.Reader, object.Info, error) {
	c, err := s.cfg.Cores.EnrollCore(ctx, core)
	if err != nil {
		return nil, object.Info{}, err
	}
	return s.open(ctx, c.CertsKey, "certs.zip", core)
}

// Config opens the core's installerConfig.yml.
func (s *Service) Config(ctx context.Context, core string) (object.Reader, object.Info, error) {
	c, err := s.cfg.Cores.EnrollCore(ctx, core)
	if err != nil {
		return nil, object.Info{}, err
	}
	return s.open(ctx, c.ConfigKey, "installer configuration", core)
}

func (s *Service) open(ctx context.Context, key, what, core string) (object.Reader, object.Info, error) {
	if key == "" {
		return nil, object.Info{}, fault.New(fault.NotFound, "core %s has no %s", core, what)
	}
	return s.cfg.Objects.Open(ctx, key)
}

// Distribution opens the archive with this digest.
func (s *Service) Distribution(ctx context.Context, digest string) (object.Reader, object.Info, error) {
	return s.cfg.Distributions.Open(ctx, digest)
}
