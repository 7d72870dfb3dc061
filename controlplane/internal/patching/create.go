package patching

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
)

const (
	writers       = 8       // reads or commits of one creation under way at once
	maxBatchBytes = 1 << 19 // of one commit, well below etcd's limit
	opsPerPatch   = 3
	maxIdem       = 256
)

// opened is the intent to create a task: until it is gone, the task's creation
// may have to be finished, or what it left removed.
type opened struct {
	At time.Time `json:"at"`
}

// once is the answer to an idempotency key.
type once struct {
	TaskID string `json:"taskId"`
	Digest string `json:"digest"` // of the request
}

// CreateTask stores a task with its patches and queues them. A patch whose
// template does not exist or whose device was never activated is stored as
// failed; one whose template is disabled refuses the whole request. A repeated
// idempotency key (empty: none) answers the first task; with another request it
// is fault.Conflict.
func (s *Service) CreateTask(ctx context.Context, n NewTask, idem string) (string, error) {
	if err := checkTask(n); err != nil {
		return "", err
	}
	if len(idem) > maxIdem {
		return "", fault.Field("Idempotency-Key", "has %d bytes, the limit is %d", len(idem), maxIdem)
	}
	raw, err := json.Marshal(n)
	if err != nil {
		return "", fmt.Errorf("encode patch task: %w", err)
	}
	sum := sha256.Sum256(raw)
	first := once{TaskID: names.NewUUID(), Digest: hex.EncodeToString(sum[:])}
	if idem != "" {
		if id, err := s.repeated(ctx, idem, first.Digest); err != nil || id != "" {
			return id, err
		}
	}
	now := s.stamp()
	task := Task{ID: first.TaskID, Patches: len(n.Patches), CreatedAt: now, UpdatedAt: now}
	recs, err := s.plan(ctx, task, n.Patches)
	if err != nil {
		return "", err
	}
	intent, err := s.store.Commit(ctx, state.NewBatch(state.StepPatch).If(openKey(task.ID), 0).Put(openKey(task.ID), opened{now}))
	if err != nil {
		return "", fmt.Errorf("begin patch task: %w", err)
	}
	if err := s.putPatches(ctx, recs); err != nil {
		return "", fmt.Errorf("store patches: %w", err)
	}
	b := state.NewBatch(state.StepPatch).If(openKey(task.ID), intent).If(taskKey(task.ID), 0).Put(taskKey(task.ID), task)
	if idem != "" {
		b.If(onceKey(idem), 0).Put(onceKey(idem), first)
	}
	_, err = s.store.Commit(ctx, b)
	if errors.Is(err, fault.Conflict) && idem != "" {
		if id, err := s.repeated(ctx, idem, first.Digest); err != nil || id != "" {
			return id, err // the same request at the same time
		}
	}
	if err != nil {
		return "", fmt.Errorf("store patch task: %w", err)
	}
	// From here on the task exists: Run finishes what fails.
	if err := s.finish(ctx, task.ID, recs); err != nil {
		s.log.WarnContext(ctx, "patches are queued later", logx.Task, task.ID, logx.Err, err)
	}
	return task.ID, nil
}

func checkTask(n NewTask) error {
	if len(n.Patches) == 0 {
		return fault.Field("patches", "is empty; name at least one patch")
	}
	if len(n.Patches) > MaxPatches {
		return fault.Field("patches", "has %d entries, the limit is %d; split them into several tasks", len(n.Patches), MaxPatches)
	}
	for i, p := range n.Patches {
		if err := checkPatch(p); err != nil {
			return fault.Under(fmt.Sprintf("patches[%d]", i), err)
		}
	}
	return nil
}

func checkPatch(p NewPatch) error {
	if p.DeviceID == "" {
		return fault.Field("deviceId", "is required")
	}
	if err := checkName("deviceId", p.DeviceID); err != nil {
		return err
	}
	if err := checkName("patchTemplateName", p.PatchTemplateName); err != nil {
		return err
	}
	if p.PatchType != "" {
		if err := checkType("patchType", p.PatchType); err != nil {
			return err
		}
	}
	return checkVars("extraVars", p.ExtraVars)
}

func (s *Service) repeated(ctx context.Context, idem, digest string) (string, error) {
	o, err := state.ReadOr[once](ctx, s.store, onceKey(idem))
	switch {
	case err != nil || o.Rev == 0:
		return "", err
	case o.Value.Digest != digest:
		return "", fault.New(fault.Conflict, "the idempotency key belongs to another request, which made patch task %s", o.Value.TaskID)
	}
	return o.Value.TaskID, nil
}

// plan decides how each patch begins.
func (s *Service) plan(ctx context.Context, t Task, list []NewPatch) ([]state.Record[record], error) {
	templates, devices := map[string]*Template{}, map[string]*device{}
	for _, n := range list {
		templates[n.PatchTemplateName], devices[n.DeviceID] = nil, &device{}
	}
	for name := range templates {
		r, err := s.template(ctx, name)
		if err != nil && !errors.Is(err, fault.NotFound) {
			return nil, err
		}
		if err == nil {
			templates[name] = &r.Value
		}
	}
	var ids []string
	for id := range devices {
		ids = append(ids, id)
	}
	err := parallel(ctx, len(ids), func(ctx context.Context, i int) error {
		known, enrolled, err := s.cfg.Devices.PatchDevice(ctx, ids[i])
		*devices[ids[i]] = device{known: known, enrolled: enrolled}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up devices: %w", err)
	}
	out := make([]state.Record[record], len(list))
	for i, n := range list {
		p := Patch{
			ID: names.NewUUID(), TaskID: t.ID, Seq: i, DeviceID: n.DeviceID, PatchTemplateName: n.PatchTemplateName, PatchType: n.PatchType,
			ExtraVars: n.ExtraVars, CreatedAt: t.CreatedAt,
		}
		out[i].Value, err = s.begin(p, templates[n.PatchTemplateName], *devices[n.DeviceID], t.CreatedAt)
		if err != nil {
			return nil, fault.Under(fmt.Sprintf("patches[%d]", i), err)
		}
	}
	return out, nil
}

// device is what Devices said.
type device struct{ known, enrolled bool }

// begin is the next attempt of p: created and to be queued, or failed at once.
// Errors refuse it.
func (s *Service) begin(p Patch, t *Template, d device, now time.Time) (record, error) {
	p.Attempt++
	p.Status, p.StatusMessage, p.AssociationID, p.UpdatedAt = Created, "", "", now
	p.TemplateID, p.TemplateVersion, p.ExpiresAt = "", 0, time.Time{}
	if t != nil {
		if !t.Enabled {
			return record{}, disabled(p.PatchTemplateName)
		}
		if err := s.checkLinks(p.DeviceID, merge(t.ExtraVars, p.ExtraVars)); err != nil {
			return record{}, err
		}
		p.TemplateID, p.TemplateVersion = t.ID, t.Version
		if p.PatchType == "" {
			p.PatchType = t.PatchType
		}
	}
	if p.PatchType == "" {
		p.PatchType = AgentBased // of a template that does not exist
	}
	switch {
	case t == nil:
		p.Status, p.StatusMessage = Failed, TemplateNotFound
		return record{Patch: p}, nil
	case !d.known:
		p.Status, p.StatusMessage = Failed, ActivationNotFound
		return record{Patch: p}, nil
	}
	p.ExpiresAt = now.Add(s.cfg.Expiry)
	if !d.enrolled {
		p.StatusMessage = fmt.Sprintf("%s: waits until %s for the device to enrol", InstanceNotFound, p.ExpiresAt.Format(time.RFC3339))
	}
	return record{Patch: p, Queue: p.queueKey(now)}, nil
}

func disabled(name string) error {
	return fault.New(fault.Conflict, "patch template %q is disabled; PATCH it with \"enabled\": true, or name another one", fault.Brief(name))
}

// putPatches stores recs and fills in their revisions.
func (s *Service) putPatches(ctx context.Context, recs []state.Record[record]) error {
	groups := chunks(recs, opsPerPatch)
	return parallel(ctx, len(groups), func(ctx context.Context, g int) error {
		b := state.NewBatch(state.StepPatch)
		for _, r := range groups[g] {
			p := r.Value
			b.Put(patchKey(p.ID), p).Put(p.taskIndex(), p.ID).Put(p.deviceIndex(), p.ID)
		}
		rev, err := s.store.Commit(ctx, b)
		for i := range groups[g] {
			groups[g][i].Rev = rev
		}
		return err
	})
}

// chunks splits recs so that each part fits a commit.
func chunks(recs []state.Record[record], ops int) [][]state.Record[record] {
	var out [][]state.Record[record]
	from, bytes := 0, 0
	for i := range recs {
		size := 1024
		for k, v := range recs[i].Value.ExtraVars {
			size += len(k) + len(v)
		}
		if (i-from+1)*ops > state.MaxBatch || bytes+size > maxBatchBytes && i > from {
			out, from, bytes = append(out, recs[from:i]), i, 0
		}
		bytes += size
	}
	return append(out, recs[from:])
}

// finish queues the patches of a task that exists and closes its creation. It
// may be repeated, by anyone: a patch that has moved on is left alone.
func (s *Service) finish(ctx context.Context, task string, recs []state.Record[record]) error {
	var waiting []state.Record[record]
	for _, r := range recs {
		if r.Value.Queue != "" && r.Value.Status == Created && r.Value.Attempt == 1 {
			waiting = append(waiting, r)
		}
	}
	if len(waiting) > 0 {
		groups := chunks(waiting, 2)
		err := parallel(ctx, len(groups), func(ctx context.Context, g int) error { return s.enqueue(ctx, groups[g]) })
		if err != nil {
			return fmt.Errorf("queue patches of task %s: %w", task, err)
		}
	}
	_, err := s.store.Commit(ctx, state.NewBatch(state.StepPatch).Delete(openKey(task)))
	return err
}

func (s *Service) enqueue(ctx context.Context, recs []state.Record[record]) error {
	b := state.NewBatch(state.StepPatch)
	for _, r := range recs {
		p := r.Value
		b.If(patchKey(p.ID), r.Rev).Put(p.Queue, queued{PatchID: p.ID, Attempt: p.Attempt, ExpiresAt: p.ExpiresAt})
	}
	_, err := s.store.Commit(ctx, b)
	if !errors.Is(err, fault.Conflict) {
		return err
	}
	if len(recs) == 1 {
		return nil // it has moved on
	}
	half := len(recs) / 2
	return errors.Join(s.enqueue(ctx, recs[:half]), s.enqueue(ctx, recs[half:]))
}

// parallel calls do for 0 to n-1, some at once, and returns the first error.
func parallel(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, writers) {
		wg.Go(func() {
			for i := range next {
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}
