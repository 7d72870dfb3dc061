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

	cores    *state.Mirror[CoreDevice]
	deployed *state.Mirror[struct{}] // see deployedKey

	mu     sync.Mutex // guards all below
	chunks map[string]*chunked
	seen   map[string]seen // last status of a core, also if it changed nothing
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
		chunks: map[string]*chunked{}, seen: map[string]seen{}, read: map[string]struct{}{},
		cores: state.NewMirror[CoreDevice](cfg.Store, corePrefix, nil), deployed: state.NewMirror[struct{}](cfg.Store, deployedPrefix, nil),
	}
	if s.log == nil {
		s.log = logx.Discard()
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Run follows the records that lists are answered from until ctx is done. Without
// it a report that changes nothing costs a read of the store, and lists wait.
func (s *Service) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	mirrors := []func(context.Context) error{s.cores.Run, s.deployed.Run}
	ended := make(chan error, len(mirrors))
	for _, m := range mirrors {
		go func() { ended <- m(ctx) }()
	}
	var err error
	for range mirrors {
		err = errors.Join(err, <-ended)
		stop() // one that ended early, by an error, ends all
	}
	return err
}

// Loaded waits until Run has every record in memory, or ctx is done.
func (s *Service) Loaded(ctx context.Context) error {
	for _, ready := range []<-chan struct{}{s.cores.Ready(), s.deployed.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Moved says that the thing opened or closed a session here: its reports may
// have gone, or go from now on, to another replica.
func (s *Service) Moved(thing string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.read, thing)
}
