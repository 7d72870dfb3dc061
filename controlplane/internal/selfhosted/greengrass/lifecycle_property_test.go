package greengrass_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// life is what should be true of deployments: the model beside the service.
type life struct {
	*kit
	there    map[string]greengrass.Deployment // by id, with the status that each should have
	order    []string                         // ids as they were made
	revision map[string]int                   // by target: the newest ever
	seen     map[string]bool                  // executions, by thing, job and number
}

func aim(d greengrass.Deployment) string { return string(d.Kind) + "/" + d.Target }

// latest is the target's newest deployment that remains.
func (l *life) newest(target string) (out greengrass.Deployment) {
	for _, d := range l.there {
		if aim(d) == target && d.Revision > out.Revision {
			out = d
		}
	}
	return out
}

func (l *life) end(id string, to greengrass.Status) {
	if d, there := l.there[id]; there && d.Status == greengrass.StatusActive {
		d.Status = to
		l.there[id] = d
	}
}

func (l *life) draw(t *rapid.T) string {
	if len(l.order) == 0 {
		t.Skip("no deployments yet")
	}
	return rapid.SampledFrom(l.order).Draw(t, "deployment")
}

// made is what a creation should have done.
func (l *life) made(t *rapid.T, d greengrass.Deployment) {
	at := aim(d)
	l.revision[at]++
	require.Equal(t, l.revision[at], d.Revision, "revisions only grow, by one")
	for id, x := range l.there {
		if aim(x) == at || d.Parent == "" && d.Kind == names.TargetThingGroup && x.Parent == d.Target {
			l.end(id, greengrass.StatusInactive)
		}
	}
	l.there[d.ID] = d
	l.order = append(l.order, d.ID)
}

func (l *life) create(t *rapid.T, n greengrass.NewDeployment, want error) {
	if rapid.IntRange(0, 4).Draw(t, "killed") == 0 {
		before := l.dump()
		l.kill.Store(0)
		_, err := l.Service.Create(l.ctx, n)
		require.Error(t, err)
		l.kill.Store(-1)
		require.Equal(t, before, l.dump(), "a creation is one commit")
		l.again(t)
	}
	d, err := l.Service.Create(l.ctx, n)
	if want != nil {
		require.ErrorIs(t, err, want)
		return
	}
	require.NoError(t, err)
	l.made(t, d)
}

// again is a process that knows nothing but the store.
func (l *life) again(t *rapid.T) {
	var err error
	l.Service, err = greengrass.New(greengrass.Config{Store: l.store, Registry: l.registry, Jobs: l.jobs, Components: components{}, Now: l.clock})
	require.NoError(t, err)
}

// Whatever is created, canceled, deleted, joined, left and reported in whatever
// order, and wherever the process dies in between: one deployment of a target is
// its latest, revisions only grow, what ended stays as it ended, and what a core
// gets was current when it got it.
func TestTheLifeOfDeployments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		things := []string{"a", "b"}
		groups := []string{"g", "h", "sub"}
		l := &life{
			kit: newKit(t, t.Context(), things...), there: map[string]greengrass.Deployment{}, revision: map[string]int{}, seen: map[string]bool{},
		}
		l.groups(groups...)
		thingOf := func(t *rapid.T) string { return rapid.SampledFrom(things).Draw(t, "thing") }
		n := 0
		version := func() string { n++; return fmt.Sprint(n, ".0.0") }
		t.Repeat(map[string]func(*rapid.T){
			"create for a group": func(t *rapid.T) {
				l.create(t, group(rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group"), version()), nil)
			},
			"create for a thing": func(t *rapid.T) { l.create(t, thing(thingOf(t), version()), nil) },
			"create a sub-deployment": func(t *rapid.T) {
				d := group("sub", version())
				d.Parent = "g"
				var want error
				if l.newest("thinggroup/g").ID == "" {
					want = fault.NotFound
				}
				l.create(t, d, want)
			},
			"cancel": func(t *rapid.T) {
				id := l.draw(t)
				err := l.Service.Cancel(l.ctx, id, jobs.Reason{})
				switch d, there := l.there[id]; {
				case !there:
					require.ErrorIs(t, err, fault.NotFound)
				case d.Status != greengrass.StatusActive:
					require.ErrorIs(t, err, fault.Conflict)
				default:
					require.NoError(t, err)
					l.end(id, greengrass.StatusCanceled)
				}
			},
			"delete": func(t *rapid.T) {
				id := l.draw(t)
				err := l.Delete(l.ctx, id)
				switch d, there := l.there[id]; {
				case !there:
					require.ErrorIs(t, err, fault.NotFound)
				case d.Status == greengrass.StatusActive:
					require.ErrorIs(t, err, fault.Conflict)
				default:
					require.NoError(t, err)
					delete(l.there, id)
				}
			},
			"join": func(t *rapid.T) {
				require.NoError(t, l.Regroup(l.ctx, thingOf(t), nil, []string{rapid.SampledFrom(groups).Draw(t, "group")}))
			},
			"leave": func(t *rapid.T) {
				require.NoError(t, l.Regroup(l.ctx, thingOf(t), []string{rapid.SampledFrom(groups).Draw(t, "group")}, nil))
			},
			"report": func(t *rapid.T) {
				name := thingOf(t)
				list := l.pending(name)
				if len(list) == 0 {
					t.Skip("nothing to report on")
				}
				e := rapid.SampledFrom(list).Draw(t, "job")
				s := rapid.SampledFrom([]protocol.JobStatus{protocol.JobInProgress, protocol.JobSucceeded, protocol.JobFailed, protocol.JobRejected}).Draw(t, "status")
				l.report(name, e.JobID, s)
				if e.Kind == names.TargetThing && s == protocol.JobSucceeded {
					l.end(e.DeploymentID, greengrass.StatusCompleted)
				} else if e.Kind == names.TargetThing && s != protocol.JobInProgress {
					l.end(e.DeploymentID, greengrass.StatusFailed)
				}
			},
			"cancel or delete an execution": func(t *rapid.T) {
				name := thingOf(t)
				list := l.pending(name)
				if len(list) == 0 {
					t.Skip("nothing to cancel")
				}
				e := rapid.SampledFrom(list).Draw(t, "job")
				if e.Kind == names.TargetThing && rapid.Bool().Draw(t, "delete") { // a member without one is a gap
					require.NoError(t, l.jobs.Delete(l.ctx, name, e.JobID, e.Number, true))
				} else {
					require.NoError(t, l.jobs.Cancel(l.ctx, name, e.JobID, true, 0, nil))
				}
				if e.Kind == names.TargetThing {
					l.end(e.DeploymentID, greengrass.StatusCanceled)
				}
			},
			"drive": func(t *rapid.T) {
				l.kill.Store(int64(rapid.IntRange(-1, 4).Draw(t, "kill")))
				if _, err := l.Drive(l.ctx); err != nil {
					require.ErrorAs(t, err, new(killedError))
				}
				l.kill.Store(-1)
			},
			"drive to the end": func(t *rapid.T) {
				l.drive()
				l.onlyCurrentWaits(t, things)
			},
			"restart": l.again,
			"time":    func(*rapid.T) { l.pass(time.Second) },
			"":        func(t *rapid.T) { l.check(t, things) },
		})
		l.again(t)
		l.run()
		l.lists(t)
	})
}

// check is true at any time.
func (l *life) check(t *rapid.T, things []string) {
	for _, id := range l.order {
		want, there := l.there[id]
		d, err := l.Deployment(l.ctx, id)
		if !there {
			require.ErrorIs(t, err, fault.NotFound)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, want.Status, d.Status, "revision %d of %s", want.Revision, aim(want))
		latest, err := l.Latest(l.ctx, d)
		require.NoError(t, err)
		require.Equal(t, l.newest(aim(want)).ID == id, latest, "revision %d of %s", want.Revision, aim(want))
	}
	for _, name := range things {
		for _, e := range l.pending(name) {
			key := fmt.Sprint(name, " ", e.JobID, " ", e.Number)
			if !l.seen[key] {
				require.Equal(t, greengrass.StatusActive, l.there[e.DeploymentID].Status, "%s gets what is not current", name)
			}
			l.seen[key] = true
		}
	}
}

// onlyCurrentWaits is true when nothing is left to do for rollouts.
func (l *life) onlyCurrentWaits(t *rapid.T, things []string) {
	for _, name := range things {
		in, err := l.GroupsOf(l.ctx, name)
		require.NoError(t, err)
		for _, e := range l.pending(name) {
			if e.Status == protocol.JobQueued {
				require.Equal(t, greengrass.StatusActive, l.there[e.DeploymentID].Status)
				require.True(t, e.Kind == names.TargetThing || slices.Contains(in, e.Target), "%s waits for a group that it is not in", name)
			}
		}
		for _, g := range in {
			if d := l.newest("thinggroup/" + g); d.Status == greengrass.StatusActive {
				require.NotEmpty(t, l.last(name, d), "%s lacks the deployment of %s", name, g)
			}
		}
	}
}

// lists compares what is listed with the model.
func (l *life) lists(t *rapid.T) {
	want := slices.SortedFunc(maps.Values(l.there), func(a, b greengrass.Deployment) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	for _, latest := range []bool{false, true} {
		var ids, got []string
		for _, d := range want {
			if !latest || l.newest(aim(d)).ID == d.ID {
				ids = append(ids, d.ID)
			}
		}
		for after := ""; ; {
			page, next, err := l.List(l.ctx, greengrass.Filter{LatestOnly: latest}, after, 3)
			require.NoError(t, err)
			for _, h := range page {
				got = append(got, h.ID)
				require.Equal(t, l.there[h.ID].Status, h.Status)
			}
			if after = next; next == "" {
				break
			}
		}
		require.Equal(t, ids, got)
	}
}
