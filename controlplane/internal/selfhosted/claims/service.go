package claims

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/policy"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Registered is a thing that a template made.
type Registered struct {
	Thing          string
	CertificatePEM string
	// ARNs of what was made or found, by the logical names of the template.
	ARNs map[string]string
}

// Registrar carries provisioning templates out.
type Registrar interface {
	// CheckTemplate returns why body can never be carried out, fault.Invalid, or nil.
	CheckTemplate(body []byte) error
	// RegisterThing makes what the template says with the parameters: all of it or
	// nothing. A body that is no template is fault.Invalid, naming the place; one that
	// cannot be carried out is *RefusedError; another call for the same thing that is
	// not done yet is fault.Conflict.
	RegisterThing(ctx context.Context, body []byte, parameters map[string]string) (Registered, error)
}

// RefusedError says why a template could not be carried out; Unwrap tells the kind.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap returns what refused it.
func (e *RefusedError) Unwrap() error { return e.Err }

// Config is what New needs. Store, Registry and Registrar are required.
type Config struct {
	Store     state.Store
	Registry  *iot.Registry
	Registrar Registrar
	Log       *slog.Logger     // nil: nothing is logged
	Now       func() time.Time // nil: time.Now
}

// Service is fleet provisioning. Safe for concurrent use.
type Service struct {
	store     state.Store
	registry  *iot.Registry
	registrar Registrar
	log       *slog.Logger
	now       func() time.Time
	boundary  *policy.Document
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Registry == nil || cfg.Registrar == nil {
		return nil, errors.New("claims: Store, Registry and Registrar are required")
	}
	s := &Service{store: cfg.Store, registry: cfg.Registry, registrar: cfg.Registrar, log: cfg.Log, now: cfg.Now}
	if s.log == nil {
		s.log = logx.Discard()
	}
	if s.now == nil {
		s.now = time.Now
	}
	var err error
	s.boundary, err = boundaryOf(cfg.Registry.Realm())
	return s, err
}

// Run removes what is over until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	return run.Every(ctx, 5*time.Minute, s.Sweep, func(err error) { s.log.WarnContext(ctx, "claims not swept", logx.Err, err) })
}

const prefix = state.Root + "claims/"
