package patching

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// The calls of a device's agent. Each is bound to the device: a patch of another
// one does not exist for it.

const (
	maxOffers  = 100 // patches that a device is told of at once
	maxMessage = protocol.MaxPatchOutput + 1024
	maxRunID   = 64
)

// Waiting returns what waits for the device, the oldest first.
func (s *Service) Waiting(ctx context.Context, device string) (protocol.PatchList, error) {
	page, err := s.store.List(ctx, queueOf(device), "", maxOffers)
	if err != nil {
		return protocol.PatchList{}, fmt.Errorf("list queue of %s: %w", device, err)
	}
	out := protocol.PatchList{Patches: []protocol.PatchOffer{}}
	now := s.cfg.Now()
	for _, e := range page.Entries {
		q, err := state.Decode[queued](e)
		if err != nil {
			return protocol.PatchList{}, err
		}
		if now.Before(q.Value.ExpiresAt) {
			out.Patches = append(out.Patches, protocol.PatchOffer{ID: q.Value.PatchID, Attempt: q.Value.Attempt})
		}
	}
	return out, nil
}

// Take gives the device what to run and makes the patch Pending. fault.Conflict
// says that there is nothing to run any more; in particular, when another run of
// the attempt was taken and never reported, the patch ends as Interrupted.
func (s *Service) Take(ctx context.Context, device, id string, take protocol.PatchTake) (protocol.PatchOrder, error) {
	if take.Run == "" || len(take.Run) > maxRunID {
		return protocol.PatchOrder{}, fault.Field("run", "has %d bytes, want 1 to %d", len(take.Run), maxRunID)
	}
	r, err := s.own(ctx, device, id)
	if err != nil {
		return protocol.PatchOrder{}, err
	}
	p := r.Value
	switch {
	case p.Ended() || p.Attempt != take.Attempt || !s.cfg.Now().Before(p.ExpiresAt):
		return protocol.PatchOrder{}, over(id)
	case p.Status == Pending && p.AssociationID != take.Run:
		return protocol.PatchOrder{}, s.refuse(ctx, r, Interrupted+": the device has no record any more of the run that it took")
	}
	t, bad, err := s.bound(ctx, p.Patch)
	if err != nil {
		return protocol.PatchOrder{}, err
	}
	if bad != "" {
		return protocol.PatchOrder{}, s.refuse(ctx, r, bad)
	}
	vars, err := s.evaluate(ctx, device, merge(t.ExtraVars, p.ExtraVars))
	if fault.Permanent(err) {
		return protocol.PatchOrder{}, s.refuse(ctx, r, InvalidVariables+": "+fault.Message(err))
	}
	if err != nil {
		return protocol.PatchOrder{}, err
	}
	order := protocol.PatchOrder{ID: id, PlaybookDigest: t.Playbook.Digest, ExtraVars: vars, TimeoutSeconds: int(s.cfg.Timeout.Seconds())}
	if p.Status == Pending {
		return order, nil // the answer was lost
	}
	p.Status, p.StatusMessage, p.AssociationID, p.UpdatedAt = Pending, "", take.Run, s.stamp()
	_, err = s.store.Commit(ctx, state.NewBatch(state.StepPatch).If(patchKey(id), r.Rev).Put(patchKey(id), p))
	if errors.Is(err, fault.Conflict) {
		return s.Take(ctx, device, id, take) // changed in this moment: look again
	}
	if err != nil {
		return protocol.PatchOrder{}, fmt.Errorf("store that %s took patch %s: %w", device, id, err)
	}
	s.log.InfoContext(ctx, "patch taken", logx.Core, device, "patch", id, "attempt", p.Attempt)
	return order, nil
}

func over(id string) error {
	return fault.New(fault.Conflict, "this attempt of patch %s is over", fault.Brief(id))
}

// bound returns the version of the template that the patch is to run, or the code
// that says why there is none any more.
func (s *Service) bound(ctx context.Context, p Patch) (t Template, bad string, err error) {
	v, err := state.Read[Template](ctx, s.store, versionKey(p.TemplateID, p.TemplateVersion))
	if errors.Is(err, fault.NotFound) {
		return t, TemplateNotFound, nil
	}
	if err != nil {
		return t, "", err
	}
	now, err := state.ReadOr[Template](ctx, s.store, templateKey(v.Value.Name))
	switch {
	case err != nil:
		return t, "", err
	case now.Value.ID != v.Value.ID: // deleted; what is left is being removed
		return t, TemplateNotFound, nil
	case !now.Value.Enabled:
		return t, TemplateDisabled, nil
	}
	return v.Value, "", nil
}

// refuse ends an attempt that the device cannot run, and says so to the device.
func (s *Service) refuse(ctx context.Context, r state.Record[record], message string) error {
	if err := s.end(ctx, r, Failed, message); err != nil {
		return err
	}
	return over(r.Value.ID)
}

// end stores how an attempt ended and takes it out of the queue. A patch that
// has changed since r was read is fault.Conflict.
func (s *Service) end(ctx context.Context, r state.Record[record], status Status, message string) error {
	p := r.Value
	b := state.NewBatch(state.StepPatch).If(patchKey(p.ID), r.Rev)
	if p.Queue != "" {
		b.Delete(p.Queue)
	}
	p.Status, p.StatusMessage, p.UpdatedAt, p.ExpiresAt = status, message, s.stamp(), time.Time{}
	p.Queue = ""
	if _, err := s.store.Commit(ctx, b.Put(patchKey(p.ID), p)); err != nil {
		return fmt.Errorf("end patch %s: %w", p.ID, err)
	}
	s.log.InfoContext(ctx, "patch ended", logx.Core, p.DeviceID, "patch", p.ID, "attempt", p.Attempt, "status", string(status))
	return nil
}

// Playbook opens the playbook of a patch that the device has taken. The caller
// closes the reader.
func (s *Service) Playbook(ctx context.Context, device, id string) (object.Reader, object.Info, error) {
	r, err := s.own(ctx, device, id)
	if err != nil {
		return nil, object.Info{}, err
	}
	if r.Value.Status != Pending {
		return nil, object.Info{}, over(id)
	}
	t, err := state.Read[Template](ctx, s.store, versionKey(r.Value.TemplateID, r.Value.TemplateVersion))
	if err != nil {
		return nil, object.Info{}, err
	}
	return s.cfg.Objects.Open(ctx, t.Value.Playbook.Key)
}

// Report takes how a run ended. One of a patch that is gone or of a run that is
// not the current one changes nothing: it can never be used, and the device need
// not send it again.
func (s *Service) Report(ctx context.Context, device, id string, result protocol.PatchResult) error {
	for {
		r, err := s.own(ctx, device, id)
		if errors.Is(err, fault.NotFound) {
			s.log.InfoContext(ctx, "report on an unknown patch", logx.Core, device, "patch", fault.Brief(id))
			return nil
		}
		if err != nil {
			return err
		}
		p := r.Value
		if p.Status != Pending || p.Attempt != result.Attempt || p.AssociationID != result.Run {
			s.log.InfoContext(ctx, "report on a run that is over", logx.Core, device, "patch", id, "attempt", result.Attempt)
			return nil
		}
		status := Failed
		if result.Success {
			status = Success
		}
		if err := s.end(ctx, r, status, tail(result.Message)); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
}

// tail keeps the end of a message.
func tail(s string) string {
	if len(s) > maxMessage {
		s = s[len(s)-maxMessage:]
	}
	return strings.ToValidUTF8(s, "�")
}

// own reads a patch of this device.
func (s *Service) own(ctx context.Context, device, id string) (state.Record[record], error) {
	r, err := s.patch(ctx, id)
	if err == nil && r.Value.DeviceID != device {
		err = fault.New(fault.NotFound, "patch %q does not exist", fault.Brief(id))
	}
	return r, err
}
