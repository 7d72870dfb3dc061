package greengrass

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// namedTarget is a target that applies to a thing and has a deployment.
type namedTarget struct {
	target
	kind names.TargetKind
	name string
}

// targetsOf returns the thing's own target and those of its groups, as far as
// they have a deployment.
func (s *Service) targetsOf(ctx context.Context, thing string) ([]namedTarget, error) {
	t, err := s.registry.Thing(ctx, thing)
	if err != nil {
		return nil, err
	}
	all := []namedTarget{{kind: names.TargetThing, name: thing}}
	for _, g := range t.Value.Groups {
		all = append(all, namedTarget{kind: names.TargetThingGroup, name: g})
	}
	var out []namedTarget
	for _, n := range all {
		tg, err := state.ReadOr[target](ctx, s.store, targetKey(n.kind, n.name))
		if err != nil {
			return nil, err
		}
		if tg.Rev != 0 {
			n.target = tg.Value
			out = append(out, n)
		}
	}
	return out, nil
}

// GroupsOf returns the names of the thing's groups, in the order joined: what a
// core asks for before it takes up a deployment.
func (s *Service) GroupsOf(ctx context.Context, thing string) ([]string, error) {
	t, err := s.registry.Thing(ctx, thing)
	if err != nil {
		return nil, err
	}
	return slices.Clone(t.Value.Groups), nil
}

// IsLite reports whether the core's last fleet status came from nucleus lite.
// ok is false when it never reported.
func (s *Service) IsLite(ctx context.Context, thing string) (lite, ok bool, err error) {
	c, err := state.ReadOr[CoreDevice](ctx, s.store, coreKey(thing))
	return c.Value.Runtime == protocol.RuntimeLite, c.Rev != 0, err
}

func (s *Service) effective(d Deployment, e jobs.Execution, core CoreDevice) Effective {
	realm := s.registry.Realm()
	out := Effective{
		Deployment: d, JobARN: realm.Job(d.JobID), TargetARN: realm.ThingGroup(d.Target), Status: string(e.Status),
		Detailed: e.Details[protocol.DetailStatus], Reason: e.Details[protocol.DetailFailureCause],
		CreatedAt: time.Unix(e.QueuedAt, 0).UTC(), UpdatedAt: time.Unix(e.UpdatedAt, 0).UTC(),
	}
	if d.Kind == names.TargetThing {
		out.TargetARN = realm.Thing(d.Target)
		if e.Status == protocol.JobSucceeded {
			out.Status = "COMPLETED"
		}
	}
	for _, r := range core.Results {
		if r.DeploymentID == d.ID && e.Status.Terminal() {
			if out.Detailed == "" {
				out.Detailed = r.Detailed
			}
			if out.Reason == "" {
				out.Reason = r.Cause
			}
		}
	}
	if out.Reason == "" {
		out.Reason = out.Detailed
	}
	return out
}

// Effective is a deployment as it stands on one core (greengrassv2-api §15).
type Effective struct {
	Deployment Deployment
	JobARN     string
	TargetARN  string
	Status     string // QUEUED, IN_PROGRESS, SUCCEEDED (group), COMPLETED (thing), FAILED, …
	Reason     string
	Detailed   string
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

// EffectiveDeployments returns one entry for each target that applies to the
// thing: its own and those of its groups.
func (s *Service) EffectiveDeployments(ctx context.Context, thing string) ([]Effective, error) {
	targets, err := s.targetsOf(ctx, thing)
	if err != nil {
		return nil, err
	}
	core, err := s.Core(ctx, thing)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return nil, err
	}
	var out []Effective
	for _, t := range targets {
		e, ok, err := s.jobs.Last(ctx, thing, t.JobID, t.kind, t.name)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		d, err := s.Deployment(ctx, e.DeploymentID)
		if errors.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, s.effective(d, e, core))
	}
	return out, nil
}
