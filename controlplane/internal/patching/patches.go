package patching

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const maxEarlier = 10 // attempts of a patch that are remembered

// Task returns a patch task, or fault.NotFound.
func (s *Service) Task(ctx context.Context, id string) (Task, error) {
	r, err := state.Read[Task](ctx, s.store, taskKey(id))
	if errors.Is(err, fault.NotFound) {
		return Task{}, fault.New(fault.NotFound, "patch task %q does not exist", fault.Brief(id))
	}
	return r.Value, err
}

// TaskPatches returns the patches of a task in the order submitted, and the token
// to continue after ("" at the end); fault.NotFound without the task.
func (s *Service) TaskPatches(ctx context.Context, id string, p Page) ([]Patch, string, error) {
	if _, err := s.Task(ctx, id); err != nil {
		return nil, "", err
	}
	return s.patches(ctx, byTask(id), Filter{}, p)
}

// DevicePatches returns the patches of a device, the newest first, and the token
// to continue after ("" at the end). A device that nobody knows has none.
func (s *Service) DevicePatches(ctx context.Context, device string, f Filter, p Page) ([]Patch, string, error) {
	return s.patches(ctx, byDevice(device), f, p)
}

// patches reads from an index until the page is full.
func (s *Service) patches(ctx context.Context, index string, f Filter, p Page) ([]Patch, string, error) {
	switch f.Status {
	case "", Created, Pending, Success, Failed:
	default:
		return nil, "", fault.Field("patchStatus", "%q is none of %s, %s, %s, %s", fault.Brief(string(f.Status)), Created, Pending, Success, Failed)
	}
	if strings.ContainsAny(p.After, "/%") || len(p.After) > 128 {
		return nil, "", fault.Field("exclusiveStartToken", "%q is no token of a page before", fault.Brief(p.After))
	}
	out, tasks := []Patch{}, map[string]bool{}
	for {
		page, err := s.list(ctx, index, p)
		if err != nil {
			return nil, "", fmt.Errorf("list patches: %w", err)
		}
		for i, e := range page.Entries {
			id, err := state.Decode[string](e)
			if err != nil {
				return nil, "", err
			}
			p.After = strings.TrimPrefix(e.Key, index)
			r, err := state.Read[record](ctx, s.store, patchKey(id.Value))
			if errors.Is(err, fault.NotFound) {
				continue // deleted in this moment
			}
			if err != nil {
				return nil, "", err
			}
			if f.Status != "" && r.Value.Status != f.Status {
				continue
			}
			if exists, err := s.exists(ctx, r.Value.TaskID, tasks); err != nil {
				return nil, "", err
			} else if !exists {
				continue
			}
			out = append(out, r.Value.Patch)
			if len(out) == p.count() && (page.More || i < len(page.Entries)-1) {
				return out, p.After, nil
			}
		}
		if !page.More || len(out) == p.count() {
			return out, "", nil
		}
	}
}

// exists reports whether the task does: its patches are there before it is.
func (s *Service) exists(ctx context.Context, task string, known map[string]bool) (bool, error) {
	if e, ok := known[task]; ok {
		return e, nil
	}
	_, err := s.store.Get(ctx, taskKey(task))
	if err != nil && !errors.Is(err, fault.NotFound) {
		return false, err
	}
	known[task] = err == nil
	return err == nil, nil
}

// Patch returns a patch, or fault.NotFound.
func (s *Service) Patch(ctx context.Context, id string) (Patch, error) {
	r, err := s.patch(ctx, id)
	return r.Value.Patch, err
}

// patch reads a patch whose task exists.
func (s *Service) patch(ctx context.Context, id string) (state.Record[record], error) {
	r, err := state.Read[record](ctx, s.store, patchKey(id))
	if err == nil {
		_, err = s.Task(ctx, r.Value.TaskID) // not before the task exists
	}
	if errors.Is(err, fault.NotFound) {
		return r, fault.New(fault.NotFound, "patch %q does not exist", fault.Brief(id))
	}
	return r, err
}

// RetryPatch runs a patch that has ended once more, with the current version of
// its template. How it ended before is kept in Earlier. One that waits for its
// device stays as it is; one that the device has taken is fault.Conflict.
func (s *Service) RetryPatch(ctx context.Context, id string, n Retry) error {
	if n.PatchTemplateName != "" {
		if err := checkName("patchTemplateName", n.PatchTemplateName); err != nil {
			return err
		}
	}
	if err := checkVars("extraVars", n.ExtraVars); err != nil {
		return err
	}
	old, err := s.patch(ctx, id)
	if err != nil {
		return err
	}
	name := old.Value.PatchTemplateName
	if n.PatchTemplateName != "" {
		name = n.PatchTemplateName
	}
	var t *Template
	if r, err := s.template(ctx, name); err == nil {
		t = &r.Value
	} else if !errors.Is(err, fault.NotFound) {
		return err
	}
	known, enrolled, err := s.cfg.Devices.PatchDevice(ctx, old.Value.DeviceID)
	if err != nil {
		return fmt.Errorf("look up device: %w", err)
	}
	_, err = state.Update(ctx, s.store, state.StepPatch, patchKey(id), func(r *record, exists bool, b *state.Batch) error {
		switch {
		case !exists:
			return fault.New(fault.NotFound, "patch %q does not exist", fault.Brief(id))
		case r.Status == Created && n.PatchTemplateName == "" && n.ExtraVars == nil:
			return state.ErrKeep
		case !r.Ended():
			return fault.New(fault.Conflict, "patch %s is %s; it can be tried again, and changed, once it has ended", r.ID, r.Status)
		}
		p := r.Patch
		p.PatchTemplateName = name
		if n.ExtraVars != nil {
			p.ExtraVars = n.ExtraVars
		}
		p.Earlier = append(p.Earlier[max(0, len(p.Earlier)-maxEarlier+1):len(p.Earlier):len(p.Earlier)],
			Run{Attempt: p.Attempt, Status: p.Status, StatusMessage: p.StatusMessage, EndedAt: p.UpdatedAt})
		next, err := s.begin(p, t, device{known, enrolled}, s.stamp())
		if err != nil {
			return err
		}
		*r = next
		if r.Queue != "" {
			b.If(r.Queue, 0).Put(r.Queue, queued{PatchID: r.ID, Attempt: r.Attempt, ExpiresAt: r.ExpiresAt})
		}
		return nil
	})
	return err
}

// DeletePatch removes a patch. What its device has begun goes on there, and its
// report is taken for nothing.
func (s *Service) DeletePatch(ctx context.Context, id string) error {
	if _, err := s.patch(ctx, id); err != nil {
		return err
	}
	_, err := state.Update(ctx, s.store, state.StepPatch, patchKey(id), func(r *record, exists bool, b *state.Batch) error {
		if !exists {
			return fault.New(fault.NotFound, "patch %q does not exist", fault.Brief(id))
		}
		b.Delete(patchKey(id)).Delete(r.taskIndex()).Delete(r.deviceIndex())
		if r.Queue != "" {
			b.Delete(r.Queue)
		}
		return nil
	})
	return err
}
