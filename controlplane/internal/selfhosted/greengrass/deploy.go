package greengrass

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Largest deployment documents by target, in bytes (greengrassv2-api §7).
const (
	maxThingDocument = 7 << 10
	maxGroupDocument = 31 << 10

	maxTimeoutMinutes = 10080
)

// NewDeployment is the input of Create.
type NewDeployment struct {
	Name       string
	Kind       names.TargetKind
	Target     string
	Components map[string]Component
	Policies   Policies // see DefaultPolicies
	JobConfig  JobConfig
	Tags       map[string]string
	// Token, if set, makes Create answer the target's current deployment as long
	// as that was made with the same token and is active.
	Token string
}

// Create makes the next revision of the target's deployment and hands it to
// everybody in the target. Nothing is stored when a component does not exist.
// The revision before, if active, becomes INACTIVE: its queued executions end
// CANCELED, what runs goes on.
func (s *Service) Create(ctx context.Context, n NewDeployment) (Deployment, error) {
	if err := s.check(ctx, n); err != nil {
		return Deployment{}, err
	}
	for range 16 {
		d, err := s.create(ctx, n)
		if errors.Is(err, fault.Conflict) {
			continue // another revision of the target was made in this moment
		}
		if err != nil {
			return Deployment{}, fmt.Errorf("create deployment for %s %s: %w", n.Kind, n.Target, err)
		}
		return d, s.kick(ctx, d)
	}
	return Deployment{}, fmt.Errorf("create deployment for %s %s: %w", n.Kind, n.Target, fault.Conflict)
}

func (s *Service) check(ctx context.Context, n NewDeployment) error {
	if len(n.Name) > 256 {
		return fault.Field("deploymentName", "is %d characters long, over the limit of 256", len(n.Name))
	}
	var err error
	if n.Kind == names.TargetThing {
		_, err = s.registry.Thing(ctx, n.Target)
	} else {
		_, err = s.registry.Group(ctx, n.Target)
	}
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(n.Components) {
		if err := s.components.Deployable(ctx, name, n.Components[name].Version); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) create(ctx context.Context, n NewDeployment) (Deployment, error) {
	t, err := state.ReadOr[target](ctx, s.store, targetKey(n.Kind, n.Target))
	if err != nil {
		return Deployment{}, err
	}
	if n.Token != "" && t.Rev != 0 && t.Value.Status == StatusActive {
		if d, err := s.Deployment(ctx, t.Value.DeploymentID); err != nil || d.Token == n.Token {
			return d, err
		}
	}
	id := names.NewUUID()
	d := Deployment{
		ID: id, Name: n.Name, Kind: n.Kind, Target: n.Target, Revision: t.Value.Revision + 1, JobID: names.NewUUID(), Status: StatusActive,
		Components: n.Components, Policies: n.Policies, JobConfig: n.JobConfig, Tags: n.Tags, Token: n.Token, CreatedAt: s.now().UTC(),
	}
	doc, err := s.document(d)
	if err != nil {
		return Deployment{}, err
	}
	b := state.NewBatch(state.StepDeployment)
	if n.Kind == names.TargetThing {
		if _, err := s.registry.ThingBatch(ctx, b, n.Target); err != nil {
			return Deployment{}, err
		}
	}
	if err := s.endBatch(ctx, b, t.Value, StatusInactive); err != nil {
		return Deployment{}, err
	}
	s.jobs.PutBatch(b, jobs.Job{
		ID: d.JobID, Kind: d.Kind, Target: d.Target, DeploymentID: d.ID, Document: doc, TimeoutMinutes: n.JobConfig.timeoutMinutes(), CreatedAt: d.CreatedAt,
	})
	b.If(targetKey(n.Kind, n.Target), t.Rev)
	b.Put(targetKey(n.Kind, n.Target), target{Revision: d.Revision, DeploymentID: d.ID, JobID: d.JobID, Status: StatusActive})
	b.If(deploymentKey(id), 0)
	b.Put(deploymentKey(id), d)
	s.beginRolloutBatch(b, d)
	if _, err = s.store.Commit(ctx, b); err == nil {
		s.log.InfoContext(ctx, "deployment created", logx.Deployment, d.ID, "target", n.Target, "revision", d.Revision)
	}
	return d, err
}

// endBatch ends an active revision in b.
func (s *Service) endBatch(ctx context.Context, b *state.Batch, t target, to Status) error {
	if t.DeploymentID == "" {
		return nil
	}
	old, err := state.ReadOr[Deployment](ctx, s.store, deploymentKey(t.DeploymentID))
	if err != nil || old.Rev == 0 || old.Value.Status != StatusActive {
		return err
	}
	old.Value.Status = to
	b.If(deploymentKey(old.Value.ID), old.Rev)
	b.Put(deploymentKey(old.Value.ID), old.Value)
	return s.jobs.CancelBatch(ctx, b, old.Value.JobID)
}

// document is what devices get, without the timestamp that each execution adds.
func (s *Service) document(d Deployment) (json.RawMessage, error) {
	doc := protocol.DeploymentDocument{
		SchemaDate: protocol.SchemaDate, DeploymentID: d.ID, DeploymentName: d.Name,
		ConfigurationARN: s.registry.Realm().Configuration(d.Kind, d.Target, d.Revision),
		Components:       map[string]protocol.DocumentComponent{},
		FailureHandling:  d.Policies.FailureHandling,
		ComponentUpdate:  &protocol.DocumentUpdatePolicy{Timeout: d.Policies.UpdateTimeout, Action: d.Policies.UpdateAction},
		ConfigValidation: &protocol.DocumentValidationPolicy{Timeout: d.Policies.ValidationTimeout},
	}
	for name, c := range d.Components {
		dc := protocol.DocumentComponent{Version: c.Version}
		if u := c.Update; u != nil && (u.Merge != nil || len(u.Reset) > 0) {
			merge, err := object(u.Merge)
			if err != nil {
				return nil, fault.Field("components."+name+".configurationUpdate.merge", "%s", err)
			}
			dc.ConfigurationUpdate = &protocol.DocumentConfiguration{Merge: merge, Reset: u.Reset}
		}
		if c.RunWith != nil {
			dc.RunWith = &protocol.DocumentRunWith{PosixUser: c.RunWith.PosixUser, WindowsUser: c.RunWith.WindowsUser, SystemResourceLimits: c.RunWith.Limits}
		}
		doc.Components[name] = dc
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode deployment document: %w", err)
	}
	limit := maxGroupDocument
	if d.Kind == names.TargetThing {
		limit = maxThingDocument
	}
	if len(b) > limit {
		return nil, fault.New(fault.Invalid, "the deployment document of %d bytes is over the limit of %d for a %s; deploy fewer components or less configuration", len(b), limit, d.Kind)
	}
	return b, nil
}

// object checks that text holds one JSON object and returns it compacted.
func object(text *string) (json.RawMessage, error) {
	if text == nil {
		return nil, nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(*text), &m); err != nil || m == nil {
		return nil, errors.New("must be text that holds a JSON object")
	}
	var out bytes.Buffer
	if err := json.Compact(&out, []byte(*text)); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// rollOut gives every member of d's target its execution and takes the queued
// ones of the revision before away. Run again it goes on where it stopped.
func (s *Service) rollOut(ctx context.Context, d Deployment) error {
	rolling, err := state.ReadOr[struct{}](ctx, s.store, rollingKey(d.ID))
	if err != nil || rolling.Rev == 0 {
		return err
	}
	give := func(thing string) error { return s.hand(ctx, d, thing) }
	if d.Kind == names.TargetThing {
		err = give(d.Target)
	} else {
		err = s.registry.Members(ctx, d.Target, give)
	}
	if err != nil {
		return fmt.Errorf("roll out deployment %s: %w", d.ID, err)
	}
	_, err = state.Update(ctx, s.store, state.StepExecutions, deploymentKey(d.ID), func(v *Deployment, exists bool, b *state.Batch) error {
		b.Delete(rollingKey(d.ID))
		v.RolledOut = true
		if !exists {
			b.Delete(deploymentKey(d.ID))
		}
		return nil
	})
	return err
}

// hand gives a member of d's target its execution, in place of the queued ones of
// every revision before: one of those may itself not have been rolled out whole.
func (s *Service) hand(ctx context.Context, d Deployment, thing string) error {
	for range 16 {
		job, err := s.jobs.Job(ctx, d.JobID)
		if err != nil || job.Value.Canceled {
			return err // superseded meanwhile: the newer roll-out does the rest
		}
		b := state.NewBatch(state.StepExecutions)
		if d.Kind == names.TargetThing {
			if _, err := s.registry.ThingBatch(ctx, b, thing); errors.Is(err, fault.NotFound) || errors.Is(err, fault.Conflict) {
				return nil // deleted, or about to be
			} else if err != nil {
				return err
			}
		} else {
			if member, err := s.registry.MemberBatch(ctx, b, d.Target, thing); err != nil || !member {
				return err // left in this moment: the move took its executions along
			}
		}
		if err := s.jobs.ClearBatch(ctx, b, thing, d.Kind, d.Target, d.JobID, protocol.JobCanceled); err != nil {
			return err
		}
		last, ok, err := s.jobs.LastBatch(ctx, b, thing, d.JobID, d.Kind, d.Target)
		if err != nil {
			return err
		}
		if !ok || last.JobID != d.JobID {
			if _, err := s.jobs.StartBatch(ctx, b, job, thing, jobs.Start{}); err != nil {
				return err
			}
		}
		if _, err = s.store.Commit(ctx, b); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("give deployment %s to %s: %w", d.ID, thing, fault.Conflict)
}

// Resume goes on with the roll-outs that a restart interrupted.
func (s *Service) Resume(ctx context.Context) error {
	p := rollingKey("")
	return state.All(ctx, s.store, p, func(key string, _ state.Record[json.RawMessage]) error {
		d, err := s.Deployment(ctx, strings.TrimPrefix(key, p))
		if err != nil {
			return err
		}
		return s.rollOut(ctx, d)
	})
}

// Deployment returns a deployment, or fault.NotFound.
func (s *Service) Deployment(ctx context.Context, id string) (Deployment, error) {
	d, err := state.Read[Deployment](ctx, s.store, deploymentKey(id))
	if errors.Is(err, fault.NotFound) {
		return Deployment{}, fault.New(fault.NotFound, "deployment %s does not exist", id)
	}
	return d.Value, err
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
