package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// leavingTemplate is the intent to remove a template. It takes the place of the
// head in one commit: from then on nobody sees any version of the template, and
// its name cannot be used anew. Once it is decided, the thing groups are retired
// and the versions removed, the intent last. A restart goes on with all of it.
type leavingTemplate struct {
	templateHead
	// Decided is set once nothing was found to have begun to use the template
	// between the first look and the intent; else the head comes back.
	Decided bool `json:"decided,omitempty"`
}

const leavingPrefix = prefix + "template-leaving/"

func leavingKey(name string) string { return leavingPrefix + name }

// resumeEvery is how often what a deleted template left is tried again.
const resumeEvery = time.Minute

// DeleteTemplate removes all versions with their thing groups and deployments. It
// is refused with fault.Conflict while a core uses one of them or a deployment task
// at work names one, and with fault.Stale unless ifVersion (0: any) is the latest.
func (s *Service) DeleteTemplate(ctx context.Context, name string, ifVersion int) error {
	h, err := s.headRecord(ctx, name)
	if errors.Is(err, fault.NotFound) {
		if _, left := s.cfg.Store.Get(ctx, leavingKey(name)); left == nil {
			return s.settle(ctx, name) // goes on with a delete that was interrupted
		}
		return err
	}
	if err != nil {
		return err
	}
	if err := current(name, h.Value.Latest, ifVersion); err != nil {
		return err
	}
	if err := s.unused(ctx, name); err != nil {
		return err
	}
	b := state.NewBatch(state.StepTemplate).
		If(templateKey(name), h.Rev).Delete(templateKey(name)).
		If(leavingKey(name), 0).Put(leavingKey(name), leavingTemplate{templateHead: h.Value})
	if _, err := s.cfg.Store.Commit(ctx, b); err != nil {
		return fmt.Errorf("delete template %s: %w", name, err)
	}
	return s.settle(ctx, name)
}

// settle decides whether a template leaves, and removes it. What of that fails is
// done later: the template is gone for everybody all the same.
func (s *Service) settle(ctx context.Context, name string) error {
	l, err := state.ReadOr[leavingTemplate](ctx, s.cfg.Store, leavingKey(name))
	if err != nil || l.Rev == 0 {
		return err
	}
	if !l.Value.Decided {
		used := s.unused(ctx, name)
		if used == nil {
			used = s.unjoined(ctx, name, l.Value.Latest)
		}
		b := state.NewBatch(state.StepTemplate).If(leavingKey(name), l.Rev)
		switch {
		case used == nil:
			l.Value.Decided = true
			b.Put(leavingKey(name), l.Value)
		case errors.Is(used, fault.Conflict):
			b.Delete(leavingKey(name)).If(templateKey(name), 0).Put(templateKey(name), l.Value.templateHead)
		default:
			return used
		}
		if _, err := s.cfg.Store.Commit(ctx, b); err != nil || used != nil {
			return errors.Join(used, err)
		}
	}
	if err := s.sweepTemplate(ctx, name, l.Value.Latest); err != nil {
		s.log.WarnContext(ctx, "deleted template leaves something behind; trying again later", "template", name, logx.Err, err)
	}
	return nil
}

// current compares the version that a caller named with the latest one.
func current(name string, latest, ifVersion int) error {
	if ifVersion != 0 && ifVersion != latest {
		return fault.New(fault.Stale, "template %s is at version %d, not %d; read it again", name, latest, ifVersion)
	}
	return nil
}

// unused is fault.Conflict while something refers to the template.
func (s *Service) unused(ctx context.Context, name string) error {
	select {
	case <-s.cores.Ready():
	default:
		return fault.New(fault.Unavailable, "the fleet is still being read; try again in a moment")
	}
	if s.count.users(name) > 0 {
		users, _ := s.cores.Range("", 0, func(_ string, c *Core) bool { return c.uses(name) })
		if len(users) > 0 {
			return fault.New(fault.Conflict, "template %s is in use by %d cores; deploy another template to them first", name, len(users))
		}
	}
	return s.tasks.Open(ctx, kindDeployment, func(t task.Task) error {
		var spec struct {
			Template TemplateRef `json:"template"`
		}
		if err := t.Decode(&spec); err != nil {
			return err
		}
		if spec.Template.Name == name {
			return fault.New(fault.Conflict, "template %s is being deployed by task %s; wait for its end or cancel it", name, t.ID)
		}
		return nil
	})
}

// unjoined is unused by what the store holds: nobody joins a template that leaves, but
// who joined just before, on another replica, may not be in the mirror yet.
func (s *Service) unjoined(ctx context.Context, name string, latest int) error {
	for v := 1; v <= latest; v++ {
		group := groupOf(TemplateRef{Name: name, Version: v})
		err := s.cfg.Cloud.Members(ctx, group, func(thing string) error {
			c, err := state.ReadOr[Core](ctx, s.cfg.Store, coreKey(thing))
			if err == nil && c.Rev != 0 && c.Value.uses(name) {
				err = fault.New(fault.Conflict, "template %s is in use by core %s; deploy another template to it first", name, thing)
			}
			return err
		})
		if err != nil && !errors.Is(err, fault.NotFound) {
			return fmt.Errorf("members of thing group %s: %w", group, err)
		}
	}
	return nil
}

// uses reports whether the core was sent to a version of the template or reports
// one. A core that only was to be sent there, which failed, does not hold the
// template: it may never come.
func (c *Core) uses(name string) bool {
	started := c.Execution != (ExecutionRef{}) || c.DeploymentStatus != DeploymentFailure
	return c.Reported.Name == name || c.Desired.Name == name && started
}

// sweepTemplate removes what is left of a deleted template. It can be repeated.
func (s *Service) sweepTemplate(ctx context.Context, name string, latest int) error {
	for v := 1; v <= latest; v++ {
		ref := TemplateRef{Name: name, Version: v}
		if err := s.retire(ctx, groupOf(ref)); err != nil {
			return fmt.Errorf("retire thing group %s: %w", groupOf(ref), err)
		}
		s.forgetDeployment(ref)
	}
	if err := s.forgetDesire(ctx, name); err != nil {
		return err
	}
	for _, p := range []string{versionPrefix(name), deployedPrefix(name)} {
		if err := s.removeAll(ctx, p); err != nil {
			return fmt.Errorf("remove versions of template %s: %w", name, err)
		}
	}
	_, err := s.cfg.Store.Commit(ctx, state.NewBatch(state.StepTemplate).Delete(leavingKey(name)))
	return err
}

// forgetDesire takes a template that leaves from the cores that could not be sent
// to it, so that a template of the same name begins without them.
func (s *Service) forgetDesire(ctx context.Context, name string) error {
	idle := func(c *Core) bool { return c.Desired.Name == name && !c.uses(name) }
	cores, _ := s.cores.Range("", 0, func(_ string, c *Core) bool { return idle(c) })
	for _, it := range cores {
		_, err := state.Update(ctx, s.cfg.Store, state.StepTemplate, it.Key, func(c *Core, exists bool, _ *state.Batch) error {
			if !exists || !idle(c) {
				return state.ErrKeep
			}
			c.Desired, c.DeploymentStatus, c.DeploymentMessage, c.UpdatedAt = TemplateRef{}, DeploymentNone, "", s.stamp()
			return nil
		})
		if err != nil {
			return fmt.Errorf("take template %s from core %s: %w", name, it.Value.Name, err)
		}
	}
	return nil
}

// retire removes the group of a template version. No core of the fleet belongs
// there any more: a thing that somebody put there by hand leaves first.
func (s *Service) retire(ctx context.Context, group string) error {
	err := s.cfg.Cloud.Retire(ctx, group)
	if !errors.Is(err, fault.Conflict) {
		return err
	}
	var members []string
	err = s.cfg.Cloud.Members(ctx, group, func(thing string) error {
		members = append(members, thing)
		return nil
	})
	if err != nil && !errors.Is(err, fault.NotFound) {
		return err
	}
	for _, m := range members {
		if err := s.cfg.Cloud.Leave(ctx, m, func(g string) bool { return g == group }); err != nil {
			return err
		}
	}
	return s.cfg.Cloud.Retire(ctx, group)
}

// removeAll deletes every record under a prefix.
func (s *Service) removeAll(ctx context.Context, prefix string) error {
	for {
		page, err := s.cfg.Store.List(ctx, prefix, "", state.MaxBatch-2)
		if err != nil || len(page.Entries) == 0 {
			return err
		}
		b := state.NewBatch(state.StepTemplate)
		for _, e := range page.Entries {
			b.Delete(e.Key)
		}
		if _, err := s.cfg.Store.Commit(ctx, b); err != nil {
			return err
		}
	}
}

// sweepTemplates goes on with deletions that were interrupted, until ctx is done.
func (s *Service) sweepTemplates(ctx context.Context) error {
	if s.loaded(ctx) != nil {
		return nil
	}
	return run.Every(ctx, resumeEvery, func(ctx context.Context) error {
		return state.All(ctx, s.cfg.Store, leavingPrefix, func(key string, _ state.Record[leavingTemplate]) error {
			err := s.settle(ctx, strings.TrimPrefix(key, leavingPrefix))
			if errors.Is(err, fault.Conflict) {
				return nil // it is in use and came back, or another replica is at it
			}
			return err
		})
	}, func(err error) {
		s.log.WarnContext(ctx, "deleted templates are not swept; trying again later", logx.Err, err)
	})
}
