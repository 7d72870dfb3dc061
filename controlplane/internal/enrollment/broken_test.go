package enrollment_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// dying is a store whose process ends at one commit: before it, or after it and
// before anybody hears of it.
type dying struct {
	state.Store
	at    int // the commit; -1: none
	after bool
	n     int
	steps []state.Step // of the commits that were tried
}

var errKilled = errors.New("the process ended")

func (d *dying) Commit(ctx context.Context, b *state.Batch) (state.Rev, error) {
	n := d.n
	d.n++
	d.steps = append(d.steps, b.Step)
	if n == d.at && !d.after {
		return 0, errKilled
	}
	rev, err := d.Store.Commit(ctx, b)
	if n == d.at {
		return 0, errKilled
	}
	return rev, err
}

// again repeats a call that may meet the end of the process: everybody asks again.
func again(t *testing.T, call func() error) {
	t.Helper()
	for range 5 {
		err := call()
		if err == nil {
			return
		}
		require.ErrorIs(t, err, errKilled)
	}
	t.Fatal("it goes on failing")
}

// story lets a new core and its device in, puts another one in its place, keeps that
// out, and lets one more in by a rule with a list of serials.
func story(t *testing.T, k *kit) (left string) {
	t.Helper()
	ctx := t.Context()
	asks := func(d *device) (out enrollment.Answer, refused bool) {
		again(t, func() (err error) {
			out, err = d.ask()
			if refused = errors.Is(err, fault.Denied); refused {
				return nil
			}
			return err
		})
		return out, refused
	}
	first, second, third := k.device("new"), k.device("new"), k.device("")
	approve := func(d *device) string {
		out, _ := asks(d)
		require.NotNil(t, out.Pending)
		again(t, func() error {
			_, err := k.Approve(ctx, out.Pending.RequestID, enrollment.Approval{By: "ada"})
			return err
		})
		k.work()
		return out.Pending.RequestID
	}
	approve(first)
	one, _ := asks(first)
	require.NotEmpty(t, one.CertificatePEM)
	id := approve(second)
	two, _ := asks(second)
	require.NotEmpty(t, two.CertificatePEM)
	again(t, func() error {
		_, err := k.Deny(ctx, id, "ada", "")
		return err
	})
	again(t, func() error { return k.Sweep(ctx) })
	_, refused := asks(second)
	assert.True(t, refused)
	again(t, func() error {
		_, err := k.PutRule(ctx, "rule", enrollment.NewRule{Action: enrollment.ActionApprove, Serials: true}, "ada", 0)
		return err
	})
	for _, list := range []string{"GW-1,other\n", "GW-1,third\nGW-2\n"} {
		again(t, func() error {
			_, err := k.PutSerials(ctx, "rule", []byte(list), "ada", 0)
			return err
		})
	}
	third.Serial = "GW-1"
	out, _ := asks(third)
	require.NotNil(t, out.Pending)
	out, _ = asks(third)
	require.NotNil(t, out.Pending, "it is being created")
	k.work()
	out, _ = asks(third)
	assert.Equal(t, "third", out.Core)

	page, _, err := k.Requests(ctx, enrollment.RequestFilter{}, "", 10)
	require.NoError(t, err)
	counts := map[string]int{}
	for _, q := range page {
		counts[fmt.Sprintf("%s %s attempt %d revoke %t", q.Name, q.Status, q.Attempt, q.Revoke)]++
	}
	agent, err := k.cloud.Describe(ctx, protocol.AgentThing("new"))
	require.NoError(t, err)
	for _, c := range agent.Certificates {
		assert.Equal(t, cloud.Revoked, c.Status)
	}
	rule, err := k.Rule(ctx, "rule")
	require.NoError(t, err)
	// A day later nothing is left of what was interrupted.
	k.now.Add(24 * 3600)
	require.NoError(t, k.Sweep(ctx))
	buckets, waiting := 0, 0
	require.NoError(t, state.All(ctx, k.store, state.Root+"enrollment/serials/", func(string, state.Record[struct{}]) error { buckets++; return nil }))
	require.NoError(t, state.All(ctx, k.store, state.Root+"enrollment/waiting", func(string, state.Record[struct{}]) error { waiting++; return nil }))
	return fmt.Sprint(counts, " certificates ", len(agent.Certificates), " tasks ", len(k.tasks), " serials ", rule.SerialCount, " buckets ", buckets, " waiting ", waiting)
}

func TestAProcessThatEndsAtAnyCommitLeavesNothingOpen(t *testing.T) {
	tell := func(t *testing.T, at int, after bool) (string, []state.Step) {
		var d *dying
		k := newKit(t, func(c *enrollment.Config) {
			d = &dying{Store: c.Store, at: at, after: after}
			c.Store = d
		})
		return story(t, k), d.steps
	}
	want, steps := tell(t, -1, false)
	assert.Equal(t, "map[new denied attempt 1 revoke false:1 new replaced attempt 1 revoke false:1 third enrolled attempt 1 revoke false:1] "+
		"certificates 2 tasks 2 serials 2 buckets 2 waiting 0", want)
	for _, s := range []state.Step{state.StepEnroll, state.StepEnrollRequest, state.StepEnrollRule} {
		assert.Contains(t, steps, s)
	}
	for at, step := range steps {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d %s after %t", at, step, after), func(t *testing.T) {
				got, _ := tell(t, at, after)
				assert.Equal(t, want, got)
			})
		}
	}
}

func TestTwoReplicasLetInTogether(t *testing.T) {
	k := newKit(t, func(c *enrollment.Config) { c.MaxWaiting, c.MaxFromOne = 10, 10 })
	cfg := k.cfg
	other, err := enrollment.New(cfg)
	require.NoError(t, err)
	replicas := []*enrollment.Service{k.Service, other}
	var ids sync.Map
	var full atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		d := k.device(fmt.Sprintf("gw-%02d", i))
		d.CSR = d.csr
		wg.Go(func() {
			for j := range 2 { // at both, one after the other
				out, err := replicas[(i+j)%2].Enroll(t.Context(), d.Caller, d.EnrollRequest)
				if errors.Is(err, fault.Exhausted) {
					full.Add(1)
					return
				}
				if assert.NoError(t, err) && assert.NotNil(t, out.Pending) {
					ids.Store(out.Pending.RequestID, d)
				}
			}
		})
	}
	wg.Wait()
	n := 0
	ids.Range(func(any, any) bool { n++; return true })
	assert.Equal(t, 10, n, "as many wait as may")
	assert.GreaterOrEqual(t, full.Load(), int64(6))
	ids.Range(func(id, _ any) bool {
		for _, s := range replicas {
			wg.Go(func() {
				_, err := s.Approve(t.Context(), id.(string), enrollment.Approval{By: "ada"})
				assert.NoError(t, err)
			})
		}
		return true
	})
	wg.Wait()
	assert.Len(t, k.tasks, 10, "approved twice is created once")
	k.work()
	ids.Range(func(_, d any) bool {
		for _, s := range replicas {
			wg.Go(func() {
				d := d.(*device)
				out, err := s.Enroll(t.Context(), d.Caller, d.EnrollRequest)
				if assert.NoError(t, err) {
					assert.Equal(t, d.Name, out.Core)
				}
			})
		}
		return true
	})
	wg.Wait()
	for name := range k.cores {
		thing, err := k.cloud.Thing(t.Context(), protocol.AgentThing(name))
		if name == "gw" {
			require.ErrorIs(t, err, fault.NotFound)
			continue
		}
		require.NoError(t, err)
		assert.Len(t, thing.Certificates, 1, "%s asked at two replicas and is one agent", name)
	}
}
