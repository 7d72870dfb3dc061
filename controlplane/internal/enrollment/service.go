package enrollment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// AgentPolicy is the policy attached to every agent's certificate.
const AgentPolicy = "GGFleetAgentPolicy"

// Config is what New needs. All but MaxWaiting and what follows are required.
type Config struct {
	Store         state.Store
	Objects       object.Store
	Things        cloud.Things
	Cores         Cores
	Devices       Devices
	Creator       Creator
	Distributions Distributions
	CAPEM         string // what devices trust: root first
	MQTTAddress   string // host:port for agents
	HTTPSURL      string // of the device HTTPS listener

	MaxWaiting int // requests that wait at once; 0: DefaultWaiting
	MaxFromOne int // of them from one address; 0: DefaultFromOne

	Certificates     Certificates
	CertificateLife  time.Duration // of agents; 0: DefaultCertificateLife
	CertificateGrace time.Duration // after its end, in which one may still be renewed; negative: none; 0: DefaultCertificateGrace
	NonceKey         []byte        // 32 secret bytes that all replicas share; without them no expired certificate is renewed

	Log *slog.Logger
	Now func() time.Time
}

// Service lets devices in and tells agents what to do. Safe for concurrent use.
type Service struct {
	cfg   Config
	store state.Store
	log   *slog.Logger
	now   func() time.Time
	queue sync.Mutex // keeps this process's changes of the counts of what waits apart
	rules sync.Mutex // keeps this process's new rules apart
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Objects == nil || cfg.Things == nil || cfg.Cores == nil || cfg.Devices == nil || cfg.Creator == nil || cfg.Distributions == nil || cfg.CAPEM == "" {
		return nil, errors.New("enrollment: Store, Objects, Things, Cores, Devices, Creator, Distributions and CAPEM are required")
	}
	if cfg.MaxWaiting == 0 {
		cfg.MaxWaiting = DefaultWaiting
	}
	if cfg.MaxFromOne == 0 {
		cfg.MaxFromOne = DefaultFromOne
	}
	if cfg.CertificateLife == 0 {
		cfg.CertificateLife = DefaultCertificateLife
	}
	if cfg.CertificateGrace == 0 {
		cfg.CertificateGrace = DefaultCertificateGrace
	}
	if len(cfg.NonceKey) == 0 {
		cfg.CertificateGrace = -1
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

// Certificate completes a core with the CSR of the key that its agent made. If the
// core has a certificate for another key, which is lost, the new one takes its place.
func (s *Service) Certificate(ctx context.Context, core, csr string) (protocol.CSRResponse, error) {
	if c, err := s.cfg.Cores.EnrollCore(ctx, core); err != nil || !c.CertificatePending {
		if err != nil {
			return protocol.CSRResponse{}, err
		}
		return s.reissue(ctx, core, csr)
	}
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
