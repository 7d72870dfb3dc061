package fleet

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Cloud is everything the fleet service asks of a cloud.
type Cloud interface {
	cloud.Things
	cloud.Components
	cloud.Deployments
	cloud.CoreDevices
	cloud.Associations
}

// Config is what New needs. All but Agents, Log and Now are required.
type Config struct {
	Store       state.Store
	Objects     object.Store
	Cloud       Cloud
	Provisioner *provisioning.Provisioner
	Generators  config.Registry
	// ArtifactPrefix begins the keys of cores' artifacts and ends with a slash.
	ArtifactPrefix string
	Realm          names.Realm

	Agents Agents // nil: no core has one
	// Reprovisioned is told that a core has other certificates or another
	// configuration to fetch; nil: nobody asks. It must not block.
	Reprovisioned func(core string)
	Activations   Activations // nil: there are none
	// Assets finds what the assetLibrary members of targets name; nil: none is
	// connected, and such a member is fault.Invalid.
	Assets AssetLibrary
	// Deprovision says what goes with a thing that is deleted.
	Deprovision cloud.Deprovision
	// PreStage is the default of NewDeploymentTask.PreStage.
	PreStage bool

	Log *slog.Logger     // nil: nothing is logged
	Now func() time.Time // nil: time.Now
}

// Service is the fleet service. Safe for concurrent use.
type Service struct {
	cfg   Config
	log   *slog.Logger
	now   func() time.Time
	tasks *task.Engine
	cores *state.Mirror[Core]
	count counters
	index coreIndex

	devices  *devices
	rollouts *state.Mirror[taskRollout]
	pace     *pace
	stops    run.Bell // a rollout was stopped

	ready    chan struct{}
	cursorAt time.Time // of the loop in follow alone

	mu       sync.Mutex           // guards deployed
	deployed map[TemplateRef]bool // has a deployment, as far as this replica knows
}

// New checks cfg; it starts nothing. The task engine is made by the caller with
// the service's Kinds and handed back by Use.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Objects == nil || cfg.Cloud == nil || cfg.Provisioner == nil {
		return nil, errors.New("fleet: Store, Objects, Cloud and Provisioner are required")
	}
	s := &Service{cfg: cfg, log: cfg.Log, now: cfg.Now, deployed: map[TemplateRef]bool{}}
	if s.log == nil {
		s.log = logx.Discard()
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.cores = state.NewMirror(cfg.Store, corePrefix, s.coreChanged)
	s.devices = newDevices(cfg.Store)
	s.pace, s.stops, s.ready = newPace(), run.NewBell(), make(chan struct{})
	s.rollouts = state.NewMirror(cfg.Store, rolloutPrefix, s.rolloutChanged)
	return s, nil
}

// Use hands over the engine that runs the service's Kinds.
func (s *Service) Use(e *task.Engine) { s.tasks = e }

// Kinds returns the kinds of task that the engine must know.
func (s *Service) Kinds() []task.Kind { return []task.Kind{s.core(), s.device(), s.deployment()} }

// stamp is a time as the API shows it.
func (s *Service) stamp() time.Time { return s.now().UTC().Truncate(time.Millisecond) }
