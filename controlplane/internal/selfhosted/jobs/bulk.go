package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Work on many things at once: what decides is read by ranges of keys, and as
// many things as fit go into one commit.

// handful is how many things are read together.
const handful = 500

// Known is what the store holds of one thing as far as a job goes there.
type Known struct {
	thing   string
	pending []state.Record[Execution] // of any job
	ended   state.Record[Execution]   // the last one for the job's target
	last    state.Record[latest]
}

// Has reports whether the thing has, or had, an execution of the job.
func (k Known) Has(job string) bool {
	return k.ended.Rev != 0 && k.ended.Value.JobID == job ||
		slices.ContainsFunc(k.pending, func(e state.Record[Execution]) bool { return e.Value.JobID == job })
}

// Known reads what the store holds of the things, for HandBatch.
func (s *Service) Known(ctx context.Context, j Job, things []string) (map[string]Known, error) {
	out := make(map[string]Known, len(things))
	for _, t := range things {
		out[t] = Known{thing: t}
	}
	tail := string(j.Kind) + "/" + j.Target
	err := errors.Join(
		s.rangeOver(ctx, pendingAll(), "/", things, func(thing, _ string, e state.Entry) error {
			r, err := state.Decode[Execution](e)
			k := out[thing]
			k.pending = append(k.pending, r)
			out[thing] = k
			return err
		}),
		s.rangeOver(ctx, endedAll(), "/", things, func(thing, rest string, e state.Entry) (err error) {
			if k := out[thing]; rest == tail {
				k.ended, err = state.Decode[Execution](e)
				out[thing] = k
			}
			return err
		}),
		s.rangeOver(ctx, latestKey(""), "", things, func(thing, _ string, e state.Entry) (err error) {
			k := out[thing]
			k.last, err = state.Decode[latest](e)
			out[thing] = k
			return err
		}))
	if err != nil {
		return nil, fmt.Errorf("read executions of job %s: %w", j.ID, err)
	}
	return out, nil
}

// HandBatch adds the first execution of the job on a thing to b, in place of the
// queued ones of other jobs of its target, which end CANCELED. It reports whether
// it does: a thing that has, or had, one of the job is left as it is. Either way b
// is conditional on it, and on the job as StartBatch is.
func (s *Service) HandBatch(ctx context.Context, b *state.Batch, job state.Record[Job], k Known) (bool, error) {
	j := job.Value
	b.If(jobKey(j.ID), job.Rev)
	if k.Has(j.ID) {
		return false, nil
	}
	b.If(pendingKey(k.thing, j.ID), 0)
	b.If(endedKey(k.thing, j.Kind, j.Target), k.ended.Rev)
	for _, p := range k.pending {
		if e := p.Value; e.Kind == j.Kind && e.Target == j.Target && e.Status == protocol.JobQueued {
			b.If(pendingKey(k.thing, e.JobID), p.Rev)
			if _, err := s.endAfterBatch(ctx, b, e, k.ended, protocol.JobCanceled, nil); err != nil {
				return false, err
			}
		}
	}
	s.queueBatch(b, j, k.thing, k.last, 0)
	return true, nil
}

// withdraw ends what is pending of the job on the things, see Withdraw.
func (s *Service) withdraw(ctx context.Context, things []string, job string, force bool) error {
	j, err := s.Job(ctx, job)
	if errors.Is(err, fault.NotFound) {
		return s.withdrawSingly(ctx, things, job, force)
	}
	if err != nil {
		return err
	}
	known, err := s.Known(ctx, j.Value, things)
	if err != nil {
		return err
	}
	var pack Packer
	pack.Commit = func(b *state.Batch, things []string) error {
		_, err := s.store.Commit(ctx, b)
		if errors.Is(err, fault.Conflict) {
			return s.withdrawSingly(ctx, things, job, force)
		}
		return err
	}
	for _, t := range things {
		b := state.NewBatch(state.StepExecutions)
		for _, p := range known[t].pending {
			if e := p.Value; e.JobID == job && (force || e.Status == protocol.JobQueued) {
				b.If(pendingKey(t, job), p.Rev)
				if _, err := s.endAfterBatch(ctx, b, e, known[t].ended, protocol.JobCanceled, nil); err != nil {
					return err
				}
			}
		}
		if err := pack.Add(t, b); err != nil {
			return err
		}
	}
	return pack.Flush()
}

func (s *Service) withdrawSingly(ctx context.Context, things []string, job string, force bool) error {
	for _, t := range things {
		err := s.Cancel(ctx, t, job, force, 0, nil)
		if _, refused := errors.AsType[*RefusedError](err); err != nil && !refused { // it ended, or runs by now
			return err
		}
	}
	return nil
}

// Packer gathers small batches, each of one thing, into commits as large as they
// may be. Set Commit before use.
type Packer struct {
	// Commit gets each batch that is full, with the things it is of.
	Commit func(b *state.Batch, things []string) error

	b      *state.Batch
	things []string
}

// Add puts one thing's part into the next commit. An empty one is left out.
func (p *Packer) Add(thing string, part *state.Batch) error {
	if part.Len() == 0 {
		return nil
	}
	if p.b != nil && p.b.Len()+part.Len() > state.MaxBatch {
		if err := p.Flush(); err != nil {
			return err
		}
	}
	if p.b == nil {
		p.b = state.NewBatch(part.Step)
	}
	p.b.Add(part)
	p.things = append(p.things, thing)
	return nil
}

// Flush commits what is left.
func (p *Packer) Flush() error {
	b, things := p.b, p.things
	p.b, p.things = nil, nil
	if b == nil {
		return nil
	}
	return p.Commit(b, things)
}

// rangeOver calls each for the entries <prefix><thing><sep>… of the things, rest
// being what follows sep; without sep for the entry of each thing itself. It reads
// pages as large as they are of use: where the things lie close together one page
// has many of them, else little more is read than what is asked for.
func (s *Service) rangeOver(ctx context.Context, prefix, sep string, things []string, each func(thing, rest string, e state.Entry) error) error {
	want := make([]string, len(things))
	for i, t := range things {
		want[i] = t + sep
	}
	slices.Sort(want)
	limit := 2*len(want) + leastRange
	for after := ""; len(want) > 0; {
		page, err := s.store.List(ctx, prefix, max(after, below(prefix+want[0])), limit)
		if err != nil {
			return err
		}
		found := 0
		for _, e := range page.Entries {
			key := e.Key[len(prefix):]
			for len(want) > 0 && want[0] < key && (sep == "" || !strings.HasPrefix(key, want[0])) {
				want = want[1:]
			}
			if len(want) == 0 {
				return nil
			}
			if rest, ok := strings.CutPrefix(key, want[0]); ok && (sep != "" || rest == "") {
				found++
				if err := each(strings.TrimSuffix(want[0], sep), rest, e); err != nil {
					return err
				}
			}
			after = e.Key
		}
		if !page.More {
			return nil
		}
		if limit = 2 * limit; found < len(page.Entries)/8 {
			limit = max(leastRange, limit/8)
		}
		limit = min(limit, 2*handful)
	}
	return nil
}

// leastRange is the smallest page that rangeOver reads.
const leastRange = 16

// below returns a key that is less than key, with hardly any between the two.
func below(key string) string {
	n := len(key) - 1
	return key[:n] + string([]byte{key[n] - 1, 0xff})
}
