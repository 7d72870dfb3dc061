package fleet_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
)

// TestTheIndexOfCoresFindsWhatAFilterSelects compares it with a look at each core.
func TestTheIndexOfCoresFindsWhatAFilterSelects(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ref := rapid.SampledFrom([]fleet.TemplateRef{{}, {"a", 1}, {"a", 2}, {"b", 1}})
		status := rapid.SampledFrom([]fleet.DeploymentStatus{fleet.DeploymentNone, fleet.DeploymentSuccess, fleet.DeploymentFailure})
		var index fleet.CoreIndex
		cores := map[string]*fleet.Core{}
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				c := &fleet.Core{Name: fmt.Sprint(rapid.IntRange(0, 20).Draw(rt, "core")), Desired: ref.Draw(rt, "desired"), DeploymentStatus: status.Draw(rt, "status")}
				index.Change(cores[c.Name], c)
				cores[c.Name] = c
			},
			"remove": func(rt *rapid.T) {
				name := fmt.Sprint(rapid.IntRange(0, 20).Draw(rt, "core"))
				if c := cores[name]; c != nil {
					index.Change(c, nil)
					delete(cores, name)
				}
			},
			"": func(rt *rapid.T) {
				f := fleet.CoreFilter{
					TemplateName:    rapid.SampledFrom([]string{"", fleet.NoTemplate, "a", "b", "c"}).Draw(rt, "template"),
					TemplateVersion: rapid.IntRange(0, 2).Draw(rt, "version"), FailedOnly: rapid.Bool().Draw(rt, "failed"),
				}
				after, limit := rapid.SampledFrom([]string{"", "1", "15", "9"}).Draw(rt, "after"), rapid.IntRange(1, 5).Draw(rt, "limit")
				var want []string
				for name, c := range cores {
					if name > after && fleet.Selects(f, c) {
						want = append(want, name)
					}
				}
				slices.Sort(want)
				got, more := index.Names(f, after, limit)
				require.Equal(rt, len(want) > limit, more)
				require.Equal(rt, want[:min(limit, len(want))], got)
			},
		})
		for _, c := range cores {
			index.Change(c, nil)
		}
		require.Zero(rt, index.Buckets())
	})
}
