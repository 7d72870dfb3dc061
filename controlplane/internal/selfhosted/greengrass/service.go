package greengrass

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// Components is what a deployment asks of the component store.
type Components interface {
	// Deployable returns nil if the version exists and can be deployed, else an
	// error of kind fault.NotFound or fault.Invalid that names it.
	Deployable(ctx context.Context, name, version string) error
}

// Config is what New needs. Log and Now are optional.
type Config struct {
	Store      state.Store
	Registry   *iot.Registry
	Jobs       *jobs.Service
	Components Components
	Log        *slog.Logger
	Now        func() time.Time
}

// Service is the Greengrass V2 service. Safe for concurrent use.
type Service struct {
	store      state.Store
	registry   *iot.Registry
	jobs       *jobs.Service
	components Components
	log        *slog.Logger
	now        func() time.Time

	cores *state.Mirror[CoreDevice]

	mu     sync.Mutex // guards all below
	chunks map[string]*chunked
	seen   map[string]time.Time // last status of a core that changed nothing
	// read holds the cores whose record was read from the store since they
	// connected here: until they go, nobody else takes their reports, and the
	// mirror is all there is to know.
	read map[string]struct{}
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Registry == nil || cfg.Jobs == nil || cfg.Components == nil {
		return nil, errors.New("greengrass: Store, Registry, Jobs and Components are required")
	}
	s := &Service{
		store: cfg.Store, registry: cfg.Registry, jobs: cfg.Jobs, components: cfg.Components, log: cfg.Log, now: cfg.Now,
		chunks: map[string]*chunked{}, seen: map[string]time.Time{}, read: map[string]struct{}{},
		cores: state.NewMirror[CoreDevice](cfg.Store, corePrefix, nil),
	}
	if s.log == nil {
		s.log = logx.Discard()
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Run follows the records of core devices until ctx is done. Without it all
// works, but a report that changes nothing costs a read of the store.
func (s *Service) Run(ctx context.Context) error { return s.cores.Run(ctx) }

// Loaded is closed once Run has every record in memory.
func (s *Service) Loaded() <-chan struct{} { return s.cores.Ready() }

// Moved says that the thing opened or closed a session here: its reports may
// have gone, or go from now on, to another replica.
func (s *Service) Moved(thing string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.read, thing)
}
