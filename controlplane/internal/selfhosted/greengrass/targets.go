package greengrass

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

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

// Effective is a deployment as it stands on one core (greengrassv2-api §15).
type Effective struct {
	Deployment Deployment
	JobID      string // "" for a thing target, as JobARN
	JobARN     string
	TargetARN  string
	Status     string // QUEUED, IN_PROGRESS, SUCCEEDED (group), COMPLETED (thing), FAILED, …
	Reason     string
	Detailed   string
	// ErrorStack goes from the general to the specific, ErrorTypes classes it. Both
	// are nil unless the deployment failed, and then not.
	ErrorStack []string
	ErrorTypes []string
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

// EffectiveDeployments returns one entry for each target that applies to the
// thing, the newest change first: its own, those of its groups, and those of
// groups that it left as long as it still carries out or runs what came from them.
func (s *Service) EffectiveDeployments(ctx context.Context, thing string) ([]Effective, error) {
	t, err := s.registry.Thing(ctx, thing)
	if err != nil {
		return nil, err
	}
	core, err := s.Core(ctx, thing)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return nil, err
	}
	pending, ended, err := s.jobs.Of(ctx, thing)
	if err != nil {
		return nil, err
	}
	last, applies := map[aimed]jobs.Execution{}, applying(thing, t.Value.Groups, core)
	for _, e := range ended {
		last[aimed{e.Kind, e.Target}] = e
	}
	for _, e := range pending {
		a := aimed{e.Kind, e.Target}
		if e.Stamp >= last[a].Stamp {
			last[a] = e
		}
		applies[a] = true
	}
	var out []Effective
	for a, e := range last {
		if !applies[a] || e.Status == protocol.JobRemoved {
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
	slices.SortFunc(out, func(a, b Effective) int {
		return cmp.Or(b.UpdatedAt.Compare(a.UpdatedAt), b.CreatedAt.Compare(a.CreatedAt), strings.Compare(a.Deployment.ID, b.Deployment.ID))
	})
	return out, nil
}

// applying are the targets that the thing is, is in, or runs components of.
func applying(thing string, groups []string, core CoreDevice) map[aimed]bool {
	out := map[aimed]bool{{names.TargetThing, thing}: true}
	for _, g := range groups {
		out[aimed{names.TargetThingGroup, g}] = true
	}
	for _, x := range core.Components {
		for _, arn := range x.ARNs {
			if kind, name, _, ok := names.ParseConfigurationARN(arn); ok {
				out[aimed{kind, name}] = true
			}
		}
	}
	return out
}

func (s *Service) effective(d Deployment, e jobs.Execution, core CoreDevice) Effective {
	realm := s.registry.Realm()
	out := Effective{
		Deployment: d, JobID: e.JobID, JobARN: realm.Job(e.JobID), TargetARN: realm.ThingGroup(d.Target), Status: string(e.Status),
		Detailed: e.Details[protocol.DetailStatus], Reason: e.Details[protocol.DetailFailureCause],
		ErrorStack: codes(e.Details[protocol.DetailErrorStack]), ErrorTypes: codes(e.Details[protocol.DetailErrorTypes]),
		CreatedAt: time.UnixMilli(e.Stamp).UTC(),
	}
	out.UpdatedAt = later(out.CreatedAt, time.Unix(e.UpdatedAt, 0).UTC()) // of which only the second is known
	if d.Kind == names.TargetThing {
		out.JobID, out.JobARN, out.TargetARN = "", "", realm.Thing(d.Target)
		if e.Status == protocol.JobSucceeded {
			out.Status = "COMPLETED"
		}
	}
	for _, r := range core.Results {
		if r.DeploymentID == d.ID && e.Status.Terminal() {
			out.Detailed, out.Reason = cmp.Or(out.Detailed, r.Detailed), cmp.Or(out.Reason, r.Cause)
			if len(out.ErrorStack)+len(out.ErrorTypes) == 0 {
				out.ErrorStack, out.ErrorTypes = r.ErrorStack, r.ErrorTypes
			}
		}
	}
	out.Reason = cmp.Or(out.Reason, out.Detailed)
	switch e.Status {
	case protocol.JobFailed, protocol.JobRejected, protocol.JobTimedOut:
		out.ErrorStack, out.ErrorTypes = append([]string{}, out.ErrorStack...), append([]string{}, out.ErrorTypes...)
	case protocol.JobQueued, protocol.JobInProgress, protocol.JobSucceeded, protocol.JobRemoved, protocol.JobCanceled:
		out.ErrorStack, out.ErrorTypes = nil, nil
	}
	return out
}

// codes reads the JSON text of a list that a job's details hold. What is no such
// text says nothing.
func codes(text string) []string {
	var list []string
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil
	}
	return bounded(list, maxCode)
}
