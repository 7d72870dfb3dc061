package greengrass

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/clienttoken"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// NewDeployment is the input of Create.
type NewDeployment struct {
	Name       string // "": none
	Kind       names.TargetKind
	Target     string
	Components map[string]Component
	Policies   Policies // see DefaultPolicies
	JobConfig  JobConfig
	Tags       map[string]string
	// Parent makes a sub-deployment on behalf of that thing group (greengrassv2-api §8).
	Parent string
	// Token, if set, makes Create answer the target's current deployment as long
	// as that was made with the same token and is active. It is not the API's
	// clientToken, see CreateOnce.
	Token string
}

// remember puts the answer for a clientToken into the batch that makes d.
type remember func(ctx context.Context, b *state.Batch, d Deployment) error

// maxCreates is how often Create tries while others make revisions of the target.
const maxCreates = 32

// Create makes the next revision of the target's deployment, which everybody in
// the target gets: a thing in the same commit, the members of a group one after
// the other. The revision before, if active, becomes INACTIVE, and so do the
// sub-deployments of the group: what is queued of them ends CANCELED, what runs
// goes on. Nothing is stored when a member of n is invalid or something that n
// names does not exist; see ResourceError.
func (s *Service) Create(ctx context.Context, n NewDeployment) (Deployment, error) {
	return s.createWith(ctx, n, func(context.Context, *state.Batch, Deployment) error { return nil })
}

// Created is the answer to a creation, also to a repeated one.
type Created struct {
	ID    string           `json:"id"`
	JobID string           `json:"jobId"`
	Kind  names.TargetKind `json:"kind"`
}

// CreateOnce is Create for a clientToken: within eight hours the same token gives
// the same answer (greengrassv2-api §6). See clienttoken.Once.
func (s *Service) CreateOnce(ctx context.Context, n NewDeployment, clientToken string) (Created, error) {
	r := clienttoken.Request{Operation: "CreateDeployment", Token: clientToken, Body: n}
	return clienttoken.Once(ctx, s.tokens, r, func(ctx context.Context, keep clienttoken.Remember[Created]) (Created, error) {
		d, err := s.createWith(ctx, n, func(ctx context.Context, b *state.Batch, d Deployment) error {
			return keep(ctx, b, Created{d.ID, d.JobID, d.Kind})
		})
		return Created{d.ID, d.JobID, d.Kind}, err
	})
}

func (s *Service) createWith(ctx context.Context, n NewDeployment, keep remember) (Deployment, error) {
	if err := n.validate(); err != nil {
		return Deployment{}, err
	}
	if err := s.exists(ctx, n); err != nil {
		return Deployment{}, err
	}
	for range maxCreates {
		d, b, err := s.creation(ctx, n)
		if err != nil || b == nil {
			return d, err
		}
		if err := keep(ctx, b, d); err != nil {
			return Deployment{}, err
		}
		if _, err := s.store.Commit(ctx, b); errors.Is(err, fault.Conflict) {
			continue // another revision of the target was made in this moment
		} else if err != nil {
			return Deployment{}, fmt.Errorf("create deployment for %s %s: %w", n.Kind, n.Target, err)
		}
		s.log.InfoContext(ctx, "deployment created", logx.Deployment, d.ID, "target", n.Target, "revision", d.Revision)
		return d, nil
	}
	return Deployment{}, about(string(n.Kind), n.Target,
		fault.New(fault.Conflict, "%d revisions for %s %s were made in this moment; try again", maxCreates, n.Kind, n.Target))
}

// exists checks that what n names is there.
func (s *Service) exists(ctx context.Context, n NewDeployment) error {
	if err := s.aim(ctx, n.Kind, n.Target); err != nil {
		return err
	}
	if n.Parent != "" {
		if err := s.aim(ctx, names.TargetThingGroup, n.Parent); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(n.Components) {
		if err := s.components.Deployable(ctx, name, n.Components[name].Version); err != nil {
			return about("component", name+":"+n.Components[name].Version, err)
		}
	}
	return nil
}

// aim checks that a target is there.
func (s *Service) aim(ctx context.Context, kind names.TargetKind, name string) (err error) {
	if kind == names.TargetThing {
		_, err = s.registry.Thing(ctx, name)
	} else {
		_, err = s.registry.Group(ctx, name)
	}
	return about(string(kind), name, err)
}

// creation returns the next revision and the batch that makes it; no batch if n's
// token gives a deployment that is there.
func (s *Service) creation(ctx context.Context, n NewDeployment) (Deployment, *state.Batch, error) {
	t, err := state.ReadOr[target](ctx, s.store, targetKey(n.Kind, n.Target))
	if err != nil {
		return Deployment{}, nil, err
	}
	old, err := s.latest(ctx, t.Value)
	if err != nil {
		return Deployment{}, nil, err
	}
	if n.Token != "" && old.Value.Status == StatusActive && old.Value.Token == n.Token {
		return old.Value, nil, nil
	}
	if err := fits(n, t.Value, old.Value); err != nil {
		return Deployment{}, nil, err
	}
	b := state.NewBatch(state.StepDeployment)
	b.If(targetKey(n.Kind, n.Target), t.Rev)
	if err := s.supersedeBatch(ctx, b, n, old); err != nil {
		return Deployment{}, nil, err
	}
	d, err := s.createBatch(ctx, b, n, t.Value)
	return d, b, err
}

// createBatch adds the revision after t to b, which is conditional on t.
func (s *Service) createBatch(ctx context.Context, b *state.Batch, n NewDeployment, t target) (Deployment, error) {
	d := Deployment{
		ID: names.NewUUID(), Name: n.Name, Kind: n.Kind, Target: n.Target, Revision: t.Revision + 1, JobID: names.NewUUID(), Status: StatusActive,
		Components: n.Components, Policies: n.Policies, JobConfig: n.JobConfig, Tags: maps.Clone(n.Tags), Parent: n.Parent, Token: n.Token, CreatedAt: s.now().UTC(),
	}
	doc, err := s.document(d)
	if err != nil {
		return Deployment{}, err
	}
	job := jobs.Job{
		ID: d.JobID, Kind: d.Kind, Target: d.Target, DeploymentID: d.ID, Document: doc, TimeoutMinutes: n.JobConfig.timeoutMinutes(), CreatedAt: d.CreatedAt,
	}
	s.jobs.PutBatch(b, job)
	next := target{Revision: d.Revision, DeploymentID: d.ID, JobID: d.JobID, Status: StatusActive, Parent: t.Parent}
	if n.Parent != "" {
		next.Parent = n.Parent
		if err := s.onBehalfBatch(ctx, b, d); err != nil {
			return Deployment{}, err
		}
	}
	b.Put(targetKey(n.Kind, n.Target), next)
	b.Put(revisionKey(d.Kind, d.Target, d.Revision), d.ID)
	b.If(deploymentKey(d.ID), 0)
	b.Put(deploymentKey(d.ID), d)
	if n.Kind == names.TargetThingGroup {
		s.beginRolloutBatch(b, d)
		_, err := s.registry.GroupBatch(ctx, b, n.Target)
		return d, about(string(n.Kind), n.Target, err)
	}
	if _, err := s.registry.ThingBatch(ctx, b, n.Target); err != nil {
		return Deployment{}, about(string(n.Kind), n.Target, err)
	}
	if err := s.jobs.ClearBatch(ctx, b, n.Target, n.Kind, n.Target, d.JobID, protocol.JobCanceled); err != nil {
		return Deployment{}, err
	}
	_, err = s.jobs.StartBatch(ctx, b, state.Record[jobs.Job]{Value: job}, n.Target, jobs.Start{})
	return d, err
}

// Deployment returns a deployment, or fault.NotFound.
func (s *Service) Deployment(ctx context.Context, id string) (Deployment, error) {
	d, err := s.record(ctx, id)
	return d.Value, err
}

func (s *Service) record(ctx context.Context, id string) (state.Record[Deployment], error) {
	d, err := state.Read[Deployment](ctx, s.store, deploymentKey(id))
	if errors.Is(err, fault.NotFound) {
		err = about("deployment", id, fault.New(fault.NotFound, "deployment %.64s does not exist", id))
	}
	return d, err
}

// Latest reports whether d is the latest of its target that remains: true for
// exactly one (greengrassv2-api §7).
func (s *Service) Latest(ctx context.Context, d Deployment) (bool, error) {
	t, err := state.ReadOr[target](ctx, s.store, targetKey(d.Kind, d.Target))
	return t.Value.DeploymentID == d.ID, err
}

// ResourceError says which resource an error of kind fault.NotFound or
// fault.Conflict is about.
type ResourceError struct {
	Type string // component, deployment, thing, thinggroup
	ID   string
	Err  error
}

func (e *ResourceError) Error() string { return e.Err.Error() }
func (e *ResourceError) Unwrap() error { return e.Err }

func about(kind, id string, err error) error {
	if k := fault.KindOf(err); k == fault.NotFound || k == fault.Conflict {
		return &ResourceError{Type: kind, ID: id, Err: err}
	}
	return err
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
