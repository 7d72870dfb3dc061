package release

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/pace"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Config is what New needs. Store and Objects are required.
type Config struct {
	Store   state.Store
	Objects object.Store
	Prefix  string      // of files in the bucket, with a slash at its end; default agent-releases/
	Keys    signed.Keys // whose signatures are checked when they are uploaded; none: devices check alone
	Log     *slog.Logger
	Now     func() time.Time
}

// Service keeps releases. Safe for concurrent use.
type Service struct {
	cfg Config
	log *slog.Logger

	files    *state.Mirror[File]
	rollouts *state.Mirror[Rollout]
	devices  *state.Mirror[Device]
	heard    *pace.Rate[string]
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Objects == nil {
		return nil, errors.New("release: Store and Objects are required")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = "agent-releases/"
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{
		cfg: cfg, log: cfg.Log,
		files: state.NewMirror[File](cfg.Store, filePrefix, nil), rollouts: state.NewMirror[Rollout](cfg.Store, rolloutPrefix, nil),
		devices: state.NewMirror[Device](cfg.Store, devicePrefix, nil), heard: pace.NewRate[string](hearRate, hearBurst, hearKeep),
	}, nil
}

// Run keeps the views up to date until ctx is done. Before they are read nobody
// is offered anything.
func (s *Service) Run(ctx context.Context) error {
	return run.All(ctx,
		run.Loop{Name: "release files", Run: s.files.Run},
		run.Loop{Name: "release rollouts", Run: s.rollouts.Run},
		run.Loop{Name: "agents' versions", Run: s.devices.Run},
	)
}

// ready waits until the views have all that was committed before.
func (s *Service) ready(ctx context.Context) error {
	return errors.Join(s.fresh(ctx), s.devices.Fresh(ctx))
}

// fresh waits until what is offered is what any replica had offered before.
func (s *Service) fresh(ctx context.Context) error {
	return errors.Join(s.files.Fresh(ctx), s.rollouts.Fresh(ctx))
}

func (s *Service) loaded() bool {
	for _, c := range []<-chan struct{}{s.files.Ready(), s.rollouts.Ready(), s.devices.Ready()} {
		select {
		case <-c:
		default:
			return false
		}
	}
	return true
}

func (s *Service) objectKey(version, name string) string { return s.cfg.Prefix + version + "/" + name }

func notStored(version string) error {
	return fault.New(fault.NotFound, "release %s of the agent is not stored", version)
}
