package greengrass

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/clienttoken"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Components is what a deployment asks of the component store.
type Components interface {
	// Deployable returns nil if the version exists and can be deployed, else an
	// error of kind fault.NotFound or fault.Invalid that names it.
	Deployable(ctx context.Context, name, version string) error
}

// Config is what New needs: Store to Components.
type Config struct {
	Store      state.Store
	Registry   *iot.Registry
	Jobs       *jobs.Service // its OnEnd becomes the service's
	Components Components
	// DeployOnLeave sends a core that leaves a group with a deployment, and joins
	// none, a deployment at once: what the group brought goes then, and not only
	// with the next deployment (greengrassv2-api §7).
	DeployOnLeave bool
	// RolloutRate is the notifications a minute of a group's deployment that names no
	// rate; 0: no limit.
	RolloutRate int
	Log         *slog.Logger
	Now         func() time.Time
}

// Service is the Greengrass V2 service. Safe for concurrent use.
type Service struct {
	store      state.Store
	registry   *iot.Registry
	jobs       *jobs.Service
	components Components
	onLeave    bool // Config.DeployOnLeave
	rate       int  // Config.RolloutRate
	tokens     *clienttoken.Tokens
	log        *slog.Logger
	now        func() time.Time

	cores    *state.Mirror[CoreDevice]
	byName   *coreIndex              // follows cores
	deployed *state.Mirror[struct{}] // see deployedKey
	headers  *state.Mirror[Header]   // of deployments
	listing  *listing                // follows headers

	results results       // of rollouts, in the process that drives them
	busy    chan struct{} // see much

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
		onLeave: cfg.DeployOnLeave, rate: cfg.RolloutRate, busy: make(chan struct{}, atOnce), listing: newListing(),
		chunks: map[string]*chunked{}, seen: map[string]seen{}, read: map[string]struct{}{},
		byName: &coreIndex{m: map[string]*CoreDevice{}}, deployed: state.NewMirror[struct{}](cfg.Store, deployedPrefix, nil),
	}
	if s.log == nil {
		s.log = logx.Discard()
	}
	if s.now == nil {
		s.now = time.Now
	}
	var err error
	if s.tokens, err = clienttoken.New(clienttoken.Config{Store: cfg.Store, Log: s.log, Now: s.now}); err != nil {
		return nil, err
	}
	s.cores = state.NewMirror[CoreDevice](cfg.Store, corePrefix, s.byName.change)
	s.headers = state.NewMirror[Header](cfg.Store, deploymentPrefix, s.listing.change)
	cfg.Jobs.OnEnd(s.ended)
	return s, nil
}

// Run follows the records that lists are answered from, and removes old client
// tokens and the jobs of deleted deployments, until ctx is done. Without it a report
// that changes nothing costs a read of the store, and lists wait.
func (s *Service) Run(ctx context.Context) error {
	return run.All(ctx,
		run.Loop{Name: "core device mirror", Run: s.cores.Run},
		run.Loop{Name: "mirror of what groups brought", Run: s.deployed.Run},
		run.Loop{Name: "deployment mirror", Run: s.headers.Run},
		run.Loop{Name: "old client tokens", Run: s.tokens.Run},
		run.Loop{Name: "jobs of deleted deployments", Run: s.pruneJobs},
	)
}

// pruneEvery is how often one looks for jobs of deleted deployments.
const pruneEvery = time.Hour

func (s *Service) pruneJobs(ctx context.Context) error {
	return run.Every(ctx, pruneEvery, s.jobs.Prune, func(err error) {
		s.log.WarnContext(ctx, "jobs of deleted deployments are left", logx.Err, err)
	})
}

// Loaded waits until Run has every record in memory, or ctx is done.
func (s *Service) Loaded(ctx context.Context) error {
	for _, ready := range []<-chan struct{}{s.cores.Ready(), s.deployed.Ready(), s.headers.Ready()} {
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
