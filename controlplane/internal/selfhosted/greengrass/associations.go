package greengrass

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Association is a client device that may find a core (greengrassv2-api §12).
// A device may belong to several cores.
type Association struct {
	Device string    `json:"device"`
	At     time.Time `json:"at"` // of the first time, milliseconds
}

func assocKey(core, device string) string   { return assocPrefix + core + "/" + device }
func coresOfKey(device, core string) string { return coresOfPrefix + device + "/" + core }

// AssociateBatch makes device one of core's in b. Both must be things (else
// fault.NotFound). Again changes nothing: the time stays that of the first.
func (s *Service) AssociateBatch(ctx context.Context, b *state.Batch, core, device string) error {
	if err := names.CheckThing(device); err != nil {
		return err
	}
	if _, err := s.registry.ThingBatch(ctx, b, device); err != nil {
		return err
	}
	return s.AssociateNewBatch(ctx, b, core, device)
}

// AssociateNewBatch is AssociateBatch for a device that becomes a thing in b.
func (s *Service) AssociateNewBatch(ctx context.Context, b *state.Batch, core, device string) error {
	if core == device {
		return fault.New(fault.Invalid, "%s cannot be its own client device", core)
	}
	if err := names.CheckThing(core); err != nil {
		return err
	}
	if _, err := s.registry.ThingBatch(ctx, b, core); err != nil {
		return err
	}
	key := assocKey(core, device)
	a, err := state.ReadOr[Association](ctx, s.store, key)
	if err != nil {
		return fmt.Errorf("read association of %s with %s: %w", device, core, err)
	}
	b.If(key, a.Rev)
	if a.Rev == 0 {
		b.Put(key, Association{Device: device, At: s.now().UTC().Truncate(time.Millisecond)})
		b.Put(coresOfKey(device, core), struct{}{})
	}
	return nil
}

// DisassociateBatch ends an association in b; one that is not there is no error.
func (s *Service) DisassociateBatch(b *state.Batch, core, device string) {
	b.Delete(assocKey(core, device)).Delete(coresOfKey(device, core))
}

// Associations returns up to limit associations of the core with devices whose
// name is greater than after, in name order, and whether there are more.
func (s *Service) Associations(ctx context.Context, core, after string, limit int) ([]Association, bool, error) {
	p := assocKey(core, "")
	page, err := s.store.List(ctx, p, p+after, limit)
	if err != nil {
		return nil, false, fmt.Errorf("list client devices of %s: %w", core, err)
	}
	out := make([]Association, len(page.Entries))
	for i, e := range page.Entries {
		a, err := state.Decode[Association](e)
		if err != nil {
			return nil, false, err
		}
		out[i] = a.Value
	}
	return out, page.More, nil
}

// CoresOf calls each for every core that the device is associated with, in name
// order.
func (s *Service) CoresOf(ctx context.Context, device string, each func(core string) error) error {
	p := coresOfKey(device, "")
	return state.All(ctx, s.store, p, func(key string, _ state.Record[struct{}]) error { return each(key[len(p):]) })
}

// Failure is one device of a batch that the call did nothing for.
type Failure struct {
	Device string
	Err    error // with its kind
}

// perCommit is how many devices of a batch share a commit: each takes up to four
// operations and conditions.
const perCommit = 24

// Associate makes each of devices one of core's, names that come twice once. The
// core must be a thing, else fault.NotFound and nothing is done; it need not have
// reported. Devices that cannot be are returned in order, the others are associated.
func (s *Service) Associate(ctx context.Context, core string, devices []string) ([]Failure, error) {
	return s.each(ctx, core, devices, func(b *state.Batch, device string) error {
		return s.AssociateBatch(ctx, b, core, device)
	})
}

// Disassociate ends the association of each of devices with core as Associate
// makes them. A thing that is not associated is fine.
func (s *Service) Disassociate(ctx context.Context, core string, devices []string) ([]Failure, error) {
	return s.each(ctx, core, devices, func(b *state.Batch, device string) error {
		if err := names.CheckThing(device); err != nil {
			return err
		}
		if _, err := s.registry.Thing(ctx, device); err != nil {
			return err
		}
		s.DisassociateBatch(b, core, device)
		return nil
	})
}

// each adds the change of every device to a few commits.
func (s *Service) each(ctx context.Context, core string, devices []string, add func(b *state.Batch, device string) error) ([]Failure, error) {
	if _, err := s.registry.Thing(ctx, core); err != nil {
		return nil, err
	}
	told := map[string]bool{}
	devices = slices.DeleteFunc(slices.Clone(devices), func(d string) bool {
		twice := told[d]
		told[d] = true
		return twice
	})
	var out []Failure
	for some := range slices.Chunk(devices, perCommit) {
		failed, err := s.together(ctx, some, add)
		if err != nil {
			return nil, fmt.Errorf("change client devices of %s: %w", core, err)
		}
		out = append(out, failed...)
	}
	return out, nil
}

func (s *Service) together(ctx context.Context, devices []string, add func(b *state.Batch, device string) error) ([]Failure, error) {
	for range 16 {
		var failed []Failure
		all := state.NewBatch(state.StepAssociate)
		for _, d := range devices {
			b := state.NewBatch(state.StepAssociate)
			switch err := add(b, d); {
			case err == nil:
				all.Add(b)
			case fault.Permanent(err), errors.Is(err, fault.Conflict):
				failed = append(failed, Failure{Device: d, Err: err})
			default:
				return nil, err
			}
		}
		if all.Len() == 0 {
			return failed, nil
		}
		if _, err := s.store.Commit(ctx, all); !errors.Is(err, fault.Conflict) {
			return failed, err
		}
	}
	return nil, fault.New(fault.Conflict, "others change the same things all the time; try again")
}
