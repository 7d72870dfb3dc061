package greengrass

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/ggfleet/ggfleet/controlplane/internal/rollout"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// results counts, in the process that drives, what cores report, ahead of the
// records: those take it over with the next thing that they record. After a
// restart counting goes on where the records are.
type results struct {
	mu     sync.Mutex // guards all below
	tally  map[string]*tally
	follow bool // somebody follows the results here
}

// tally is the count of one deployment; nil in the map: it does not count.
type tally struct {
	rollout.Results
	config rollout.Config
	at     state.Rev // counted up to here
	met    bool      // a criterion: nothing counts any more
}

// maxTallies is how many deployments are remembered that do not count.
const maxTallies = 10_000

// of returns what is counted of the deployment, and up to which revision.
func (c *results) of(id string) (rollout.Results, state.Rev, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tally[id]
	if t == nil {
		return rollout.Results{}, 0, false
	}
	return t.Results, t.at, true
}

// met reports whether a criterion of the deployment is met.
func (c *results) met(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tally[id]
	return t != nil && t.met
}

func newTally(r state.Record[spread]) *tally {
	if r.Rev == 0 || !r.Value.counts() {
		return nil
	}
	t := &tally{Results: r.Value.Results, config: r.Value.Config, at: r.Value.Counted}
	if t.at == 0 {
		t.at = r.Rev // as it was made: nothing was reported before
	}
	return t
}

// begin takes the counters of the records and returns the revision to follow
// results from; 0 when nothing has to be counted.
func (c *results) begin(ctx context.Context, s *Service) (from state.Rev, err error) {
	found := map[string]*tally{}
	err = s.rollouts(ctx, func(id string, r state.Record[spread]) error {
		if t := newTally(r); t != nil {
			found[id] = t
			if from == 0 || t.at < from {
				from = t.at
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("list rollouts: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tally, c.follow = found, true
	return from, nil
}

func (c *results) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tally, c.follow = nil, false
}

// errIdle ends run when there is nothing to count any more.
var errIdle = errors.New("nothing to count")

// run counts until ctx is done, or idle says at a result that nothing has to be
// counted; counted is called with each deployment of which something was.
func (c *results) run(ctx context.Context, s *Service, idle func() bool, counted func(deployment string)) error {
	defer c.end()
	from, err := c.begin(ctx, s)
	for err == nil && from != 0 {
		err = s.jobs.Results(ctx, from, func(list []jobs.Execution, at state.Rev) error {
			if idle() {
				return errIdle
			}
			return c.count(ctx, s, list, at, counted)
		})
		switch {
		case errors.Is(err, errIdle):
			return nil
		case errors.Is(err, state.ErrCompacted):
			from, err = c.again(ctx, s)
			for _, id := range c.counting() {
				counted(id)
			}
		default:
			return err
		}
	}
	return err
}

// count enters what one commit, of revision at, says of executions.
func (c *results) count(ctx context.Context, s *Service, list []jobs.Execution, at state.Rev, counted func(string)) error {
	old := map[*tally]bool{} // those that have this commit already
	for _, e := range list {
		status, first := outcome(e)
		if status == "" && !first || e.Kind == names.TargetThing { // which has no rollout
			continue
		}
		t, err := c.tallyOf(ctx, s, e.DeploymentID)
		if err != nil {
			return err
		}
		if t == nil {
			continue
		}
		c.mu.Lock()
		if _, seen := old[t]; !seen {
			old[t] = at <= t.at
		}
		counts := !old[t] && !t.met
		if counts {
			t.Count(status, first)
			t.at, t.met = at, t.config.Met(t.Results) != ""
		}
		c.mu.Unlock()
		if counts {
			counted(e.DeploymentID)
		}
	}
	return nil
}

// tallyOf returns the deployment's tally, nil if it does not count.
func (c *results) tallyOf(ctx context.Context, s *Service, deployment string) (*tally, error) {
	c.mu.Lock()
	t, known := c.tally[deployment]
	c.mu.Unlock()
	if known {
		return t, nil
	}
	// The record was made in the commit of the job, before any result of it: if it
	// does not count now it never will.
	r, err := state.ReadOr[spread](ctx, s.store, rolloutKey(deployment))
	if err != nil {
		return nil, err
	}
	t = newTally(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tally) > maxTallies {
		maps.DeleteFunc(c.tally, func(_ string, t *tally) bool { return t == nil })
	}
	c.tally[deployment] = t
	return t, nil
}

// counting returns the deployments that count.
func (c *results) counting() (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, t := range c.tally {
		if t != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// outcome says how a change of an execution counts: as what it ended with, and
// whether it was taken up with that. A core counts once, however often it gets the
// deployment: it joins again, or it is delivered anew.
func outcome(e jobs.Execution) (status string, first bool) {
	if e.Before != "" && e.Before != protocol.JobInProgress {
		return "", false
	}
	status, first = result(e)
	return status, first && e.Before == ""
}

// result is outcome for who has the deployment for the first time.
func result(e jobs.Execution) (status string, first bool) {
	switch e.Status {
	case protocol.JobInProgress:
		return "", e.Version == 2 // the device's first report
	case protocol.JobSucceeded, protocol.JobFailed, protocol.JobRejected, protocol.JobTimedOut:
		return string(e.Status), e.StartedAt == 0 // ended without having begun
	case protocol.JobQueued, protocol.JobRemoved, protocol.JobCanceled: // nobody took it up, or that was counted
	}
	return "", false
}

// sofar is what counts of e and of those before it: whether the core took one up, and
// what came of that.
func sofar(e jobs.Execution) (status string, taken bool) {
	if e.Before != "" && e.Before != protocol.JobInProgress {
		return string(e.Before), true
	}
	status, _ = result(e)
	return status, status != "" || e.StartedAt != 0 || e.Before != ""
}

// recount counts anew when nobody follows the results in this process.
func (c *results) recount(ctx context.Context, s *Service) error {
	c.mu.Lock()
	follow := c.follow
	c.mu.Unlock()
	if follow {
		return nil
	}
	if from, err := c.begin(ctx, s); err != nil || from == 0 {
		c.end()
		return err
	}
	_, err := c.again(ctx, s)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follow = false
	return err
}

// again counts what all things have now, and returns the revision to follow
// results from. What was counted before and is not there any more still counts.
func (c *results) again(ctx context.Context, s *Service) (state.Rev, error) {
	type core struct{ deployment, thing string }
	took := map[core]string{} // it up, and what came of it; of two executions the later one tells of both
	for _, id := range c.counting() {
		took[core{deployment: id}] = ""
	}
	at, err := s.jobs.Snapshot(ctx, func(e jobs.Execution) {
		if _, counts := took[core{deployment: e.DeploymentID}]; !counts {
			return
		}
		if status, taken := sofar(e); taken {
			took[core{e.DeploymentID, e.Thing}] = status
		}
	})
	if err != nil {
		return 0, err
	}
	now := map[string]*rollout.Results{}
	for x, status := range took {
		if now[x.deployment] == nil {
			now[x.deployment] = &rollout.Results{}
		}
		if x.thing != "" {
			now[x.deployment].Count(status, true)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, t := range c.tally {
		if r := now[id]; t != nil && r != nil && !t.met {
			t.TakenUp, t.Succeeded = max(t.TakenUp, r.TakenUp), max(t.Succeeded, r.Succeeded)
			t.Failed, t.Rejected, t.TimedOut = max(t.Failed, r.Failed), max(t.Rejected, r.Rejected), max(t.TimedOut, r.TimedOut)
			t.at, t.met = at, t.config.Met(t.Results) != ""
		}
	}
	return at, nil
}
