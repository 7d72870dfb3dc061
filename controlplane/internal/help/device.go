package help

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// The calls of a device's agent. Each is bound to the device: a request for
// another one does not exist for it.

var runID = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)

// Open returns what waits for the device or is under way there, the oldest
// first.
func (s *Service) Open(ctx context.Context, device string) (protocol.HelpList, error) {
	o, err := state.ReadOr[open](ctx, s.store, waitingKey(device))
	out := protocol.HelpList{Requests: []protocol.HelpOffer{}}
	for _, id := range o.Value.Requests {
		out.Requests = append(out.Requests, protocol.HelpOffer{ID: id})
	}
	return out, err
}

// Take gives the device what to do. fault.Conflict says that there is nothing to
// do any more; in particular, a restart that another run had taken ends as
// interrupted.
func (s *Service) Take(ctx context.Context, device, id string, take protocol.HelpTake) (protocol.HelpOrder, error) {
	if !runID.MatchString(take.Run) {
		return protocol.HelpOrder{}, fault.Field("run", "%q is no id of a run", fault.Brief(take.Run))
	}
	for {
		r, err := s.own(ctx, device, id)
		if err != nil {
			return protocol.HelpOrder{}, err
		}
		v := r.Value
		switch {
		case v.Ended() || !s.cfg.Now().Before(v.ExpiresAt):
			return protocol.HelpOrder{}, over(id)
		case v.Status == Taken && v.Run == take.Run:
			return protocol.HelpOrder{ID: id, HelpAsk: v.HelpAsk}, nil // the answer was lost
		case v.Status == Taken && v.Kind == protocol.HelpRestart:
			v.Status, v.Message = Failed, Interrupted+": the agent stopped after it had taken the request; whether the restart happened is not known"
			err = s.end(ctx, r, v)
			if err == nil {
				return protocol.HelpOrder{}, over(id)
			}
		default:
			b, before := state.NewBatch(state.StepHelp).If(requestKey(id), r.Rev), v.Run
			v.Status, v.Run, v.UpdatedAt = Taken, take.Run, s.stamp()
			v.due(b, v.UpdatedAt.Add(protocol.HelpPatience))
			_, err = s.store.Commit(ctx, b.Put(requestKey(id), v))
			if err == nil {
				if before != "" { // what it sent counts no more, and each run may send as much
					s.dropUnder(ctx, id, s.runFolder(id, before))
				}
				s.log.InfoContext(ctx, "help request taken", "request", id, "device", device)
				return protocol.HelpOrder{ID: id, HelpAsk: v.HelpAsk}, nil
			}
		}
		if !errors.Is(err, fault.Conflict) {
			return protocol.HelpOrder{}, fmt.Errorf("store that %s took help request %s: %w", device, id, err)
		}
	}
}

func over(id string) error {
	return fault.New(fault.Conflict, "help request %s is over", fault.Brief(id))
}

// own reads a request for this device.
func (s *Service) own(ctx context.Context, device, id string) (state.Record[record], error) {
	r, err := s.read(ctx, id)
	if err == nil && r.Value.Device != device {
		err = missing(id)
	}
	return r, err
}

// limit is the most bytes that an answer to r may have.
func limit(r Request) int64 {
	switch r.Kind {
	case protocol.HelpBundle:
		return protocol.MaxHelpContent
	case protocol.HelpLogsTail, protocol.HelpLogsRange:
		return protocol.MaxHelpLog
	case protocol.HelpDiagnose:
		return 1 << 20
	case protocol.HelpRestart:
	}
	return 0
}

// Part stores part n, from 0, of what a run sends: size bytes of content,
// protocol.HelpPart of them in each part but the last. It may be repeated.
func (s *Service) Part(ctx context.Context, device, id, run string, n int, size int64, content io.Reader) error {
	r, err := s.own(ctx, device, id)
	if err != nil {
		return err
	}
	v := r.Value
	switch {
	case v.Status != Taken || v.Run != run:
		return over(id)
	case size < 1 || size > protocol.HelpPart:
		return fault.New(fault.TooLarge, "a part has %d bytes, want 1 to %d", size, protocol.HelpPart)
	case n < 0 || int64(n)*protocol.HelpPart+size > limit(v.Request):
		return fault.New(fault.TooLarge, "part %d with %d bytes is beyond the %d bytes that an answer to %s may have", n, size, limit(v.Request), v.Kind)
	}
	return s.cfg.Objects.Put(ctx, state.PutHelp, s.partKey(id, run, n), content, size, "application/octet-stream")
}

var (
	digest   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	position = regexp.MustCompile(`^[A-Za-z0-9_-]*$`)
)

// Report takes how a run ended. One of a request that is gone or of a run that
// is not the current one changes nothing, and the device need not send it again.
func (s *Service) Report(ctx context.Context, device, id string, result protocol.HelpResult) error {
	for {
		r, err := s.own(ctx, device, id)
		if errors.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		v := r.Value
		if v.Status != Taken || v.Run != result.Run {
			s.log.InfoContext(ctx, "report on help that is over", "request", id, "device", device)
			return nil
		}
		if err := s.outcome(ctx, &v, result); err != nil {
			return err
		}
		if err := s.end(ctx, r, v); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
}

// outcome writes what a device says into v.
func (s *Service) outcome(ctx context.Context, v *record, result protocol.HelpResult) error {
	v.Message = text(result.Message)
	switch result.Outcome {
	case protocol.HelpRefused:
		v.Status = Refused
		return nil
	case protocol.HelpDone:
	case protocol.HelpFailed:
		v.Status = Failed
		return nil
	default:
		return fault.Field("outcome", "%q is none of done, refused, failed", fault.Brief(string(result.Outcome)))
	}
	if result.Size < 0 || result.Size > limit(v.Request) || result.Size > 0 && !digest.MatchString(result.Digest) ||
		len(result.Next) > protocol.MaxHelpPosition || !position.MatchString(result.Next) {
		return fault.New(fault.Invalid, "the result's size, digest or next is out of bounds")
	}
	whole, err := s.whole(ctx, v.ID, v.Run, result.Size)
	if err != nil {
		return err
	}
	if !whole {
		v.Status, v.Message = Failed, Incomplete+": not all of what the device sent has arrived; ask again"
		return nil
	}
	v.Status, v.Size, v.Digest, v.Next, v.Lost, v.More = Done, result.Size, result.Digest, result.Next, result.Lost, result.More
	return nil
}

// text makes a device's words fit to be shown.
func text(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(fault.Clip(s, protocol.MaxHelpMessage), ""))
}

// end stores v, the final form of r, and takes it from what waits for the
// device. fault.Conflict when either has changed since.
func (s *Service) end(ctx context.Context, r state.Record[record], v record) error {
	b := state.NewBatch(state.StepHelp).If(requestKey(v.ID), r.Rev)
	v.UpdatedAt = s.stamp()
	v.due(b, v.CreatedAt.Add(Keep))
	if err := s.leave(ctx, b, v.Request); err != nil {
		return err
	}
	tell(b, event.HelpEnded, v.Request)
	if _, err := s.store.Commit(ctx, b.Put(requestKey(v.ID), v)); err != nil {
		return fmt.Errorf("end help request %s: %w", v.ID, err)
	}
	s.log.InfoContext(ctx, "help request ended", "request", v.ID, "device", v.Device, "status", string(v.Status), "bytes", v.Size)
	if v.Status != Done {
		s.drop(ctx, v.ID)
	}
	return nil
}

// leave takes r from what waits for its device, in b.
func (s *Service) leave(ctx context.Context, b *state.Batch, r Request) error {
	at := waitingKey(r.Device)
	o, err := state.ReadOr[open](ctx, s.store, at)
	if err != nil || o.Rev == 0 {
		return err
	}
	b.If(at, o.Rev)
	left := slices.DeleteFunc(slices.Clone(o.Value.Requests), func(id string) bool { return id == r.ID })
	if len(left) == 0 {
		b.Delete(at)
		return nil
	}
	o.Value.Requests = left
	b.Put(at, o.Value)
	return nil
}
