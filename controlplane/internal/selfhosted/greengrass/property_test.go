package greengrass_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Whatever is deployed, joined, left and reported in whatever order, and wherever
// the process dies in between: after a restart every member of a group has the
// group's current deployment, waiting, running or ended, and nobody waits for
// anything else.
func TestMembersHaveTheCurrentDeploymentOfTheirGroup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		things, groups := []string{"a", "b", "c"}, []string{"g", "h"}
		k := newKit(t, t.Context(), things...)
		k.groups(groups...)
		current := map[string]greengrass.Deployment{}
		thing := func() string { return rapid.SampledFrom(things).Draw(t, "thing") }
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				n++
				g := rapid.SampledFrom(groups).Draw(t, "group")
				want := group(g, fmt.Sprint(n, ".0.0"))
				want.Token = fmt.Sprint(n)
				k.kill.Store(int64(rapid.IntRange(-1, 6).Draw(t, "kill")))
				if _, err := k.Create(k.ctx, want); err != nil {
					require.ErrorIs(t, err, killedError{})
					k.restart()
				}
				k.kill.Store(-1)
				current[g] = k.create(want)
			},
			"move": func(t *rapid.T) {
				k.move(thing(), rapid.SampledFrom(groups).Draw(t, "group"), rapid.Bool().Draw(t, "again"))
			},
			"leave": func(*rapid.T) {
				k.leave(thing())
			},
			"report": func(t *rapid.T) {
				name := thing()
				if list := k.pending(name); len(list) > 0 {
					e := rapid.SampledFrom(list).Draw(t, "job")
					k.report(name, e.JobID, rapid.SampledFrom([]protocol.JobStatus{protocol.JobInProgress, protocol.JobSucceeded, protocol.JobFailed}).Draw(t, "status"))
				}
			},
			"time": func(*rapid.T) { k.pass(time.Second) },
			"": func(t *rapid.T) {
				for _, name := range things {
					in, err := k.GroupsOf(k.ctx, name)
					require.NoError(t, err)
					for _, g := range in {
						if d, ok := current[g]; ok {
							require.NotEmpty(t, k.last(name, d), "%s lacks the deployment of %s", name, g)
						}
					}
					for _, e := range k.pending(name) {
						if e.Status == protocol.JobQueued {
							require.Contains(t, in, e.Target, "%s waits for a group that it is not in", name)
							require.Equal(t, current[e.Target].JobID, e.JobID)
						}
					}
				}
			},
		})
	})
}

func (k *kit) leave(thing string) {
	k.t.Helper()
	require.NoError(k.t, k.Move(k.ctx, thing, func(string) bool { return true }, "", jobs.Start{}, func(b *state.Batch, _ jobs.Execution) error {
		_, err := k.store.Commit(k.ctx, b)
		return err
	}))
	require.False(k.t, slices.ContainsFunc(k.pending(thing), func(e jobs.Execution) bool {
		return e.Kind == names.TargetThingGroup && e.Status == protocol.JobQueued
	}))
}
