package provisioning

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// kindBulk is stored with each task.
const kindBulk = "bulk-things"

// Words for how far a bulk registration is (cdf-services §4.2).
const (
	BulkInProgress = "InProgress"
	BulkCompleted  = "Completed" // every thing was tried; Failure counts those that could not be
	BulkFailed     = "Failed"    // the task as a whole was not carried out
)

// NewBulk is the input of CreateBulk.
type NewBulk struct {
	TemplateID string
	Things     []map[string]string // parameters of each
}

// Bulk is how far a bulk registration is.
type Bulk struct {
	TaskID     string
	Status     string
	CreatedAt  time.Time
	UpdatedAt  time.Time
	Success    int
	Failure    int
	Percentage int // of the things that were tried
}

type bulkSpec struct {
	Template string `json:"template"`
}

// Kinds returns the kinds of task that the engine must know.
func (s *Service) Kinds() []task.Kind {
	return []task.Kind{{Name: kindBulk, Do: s.registerOne}}
}

// CreateBulk stores a task that registers each thing by itself and returns its
// id. Templates with a CDF section are refused, as in the original.
func (s *Service) CreateBulk(ctx context.Context, n NewBulk, idempotencyKey string) (string, error) {
	if err := names.CheckProvisioningTemplate(n.TemplateID); err != nil {
		return "", fault.Field("provisioningTemplateId", "%s", fault.Message(err))
	}
	if len(n.Things) == 0 {
		return "", fault.Field("parameters", "is empty, want the parameters of at least one thing")
	}
	tpl, err := s.p.cfg.Templates.Get(ctx, n.TemplateID)
	if err != nil {
		return "", unknownTemplate(n.TemplateID, err)
	}
	if tpl.extended {
		return "", fault.New(fault.Invalid, "REGISTRATION_FAILED: the provisioning template %s has a CDF section, which cannot be used in bulk", n.TemplateID)
	}
	items := make([]task.NewItem, len(n.Things))
	for i, parameters := range n.Things {
		for name, v := range parameters {
			if utf8.RuneCountInString(v) > MaxParameter {
				return "", fault.Field(fmt.Sprintf("parameters[%d].%s", i, name), "has more than %d characters", MaxParameter)
			}
		}
		items[i] = task.NewItem{Name: fmt.Sprintf("%d %.128s", i, tpl.thingName(parameters)), Spec: parameters}
	}
	t, err := s.tasks.Create(ctx, task.NewTask{
		Kind: kindBulk, Spec: bulkSpec{n.TemplateID}, Items: items, BatchSize: task.MaxBatchSize, IdempotencyKey: idempotencyKey,
	})
	return t.ID, err
}

// thingName is the thing's name as far as the parameters give it.
func (t *Template) thingName(parameters map[string]string) string {
	name, _ := binder{t: t, given: parameters}.value(t.thing.name)
	return name
}

// registerOne registers one thing of a bulk task; registration and result are one
// commit.
func (s *Service) registerOne(ctx context.Context, w *task.Work) error {
	var spec bulkSpec
	var parameters map[string]string
	if err := errors.Join(w.Task.Decode(&spec), w.Item.Decode(&parameters)); err != nil {
		return err
	}
	p, err := s.p.Prepare(ctx, Request{Template: spec.Template, Parameters: parameters})
	if err != nil {
		return err
	}
	if p.Deferred != nil {
		return needsCSR(p.Deferred)
	}
	return refused(s.p.cfg.Cloud.Register(ctx, p.Registration, func(b *state.Batch) error {
		return w.Finish(ctx, b, task.Result{Status: task.Success})
	}))
}

// Bulk returns how far a bulk registration is, or fault.NotFound (W-88).
func (s *Service) Bulk(ctx context.Context, taskID string) (Bulk, error) {
	t, err := s.tasks.Get(ctx, taskID)
	if errors.Is(err, fault.NotFound) || err == nil && t.Kind != kindBulk {
		return Bulk{}, fault.New(fault.NotFound, "bulk registration %.80q does not exist", taskID)
	}
	if err != nil {
		return Bulk{}, err
	}
	out := Bulk{TaskID: t.ID, Status: BulkInProgress, CreatedAt: t.CreatedAt, UpdatedAt: t.CreatedAt, Success: t.Succeeded, Failure: t.Failed}
	if t.UpdatedAt != nil {
		out.UpdatedAt = *t.UpdatedAt
	}
	out.Percentage = (out.Success + out.Failure) * 100 / max(t.Items, 1)
	switch {
	case t.Ended() && t.StatusMessage != "":
		out.Status = BulkFailed
	case t.Ended():
		out.Status = BulkCompleted
	}
	return out, nil
}
