package fleet_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// provisioned makes cores that have reported.
func (k *kit) provisioned(names ...string) {
	k.t.Helper()
	var list []fleet.NewCore
	for _, n := range names {
		list = append(list, newCore(n))
	}
	require.Equal(k.t, fleet.TaskSuccess, k.create("2.18.0", list...).Status)
	k.appear(names...)
}

func TestW58ADeploymentFromTaskToReport(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.provisioned("a", "b")
		k.template("t", "1.0.0")
		k.template("t", "2.0.0")
		d := k.deploy("t", 0, to("a", "b", "a"))
		assert.Equal(t, fleet.TaskSuccess, d.Status)
		assert.Equal(t, fleet.TemplateRef{Name: "t", Version: 2}, d.Template, "the latest at this moment")
		require.Len(t, d.Deployments, 2, "a name twice counts once")
		assert.Equal(t, fleet.DeploymentInProgress, d.Deployments[0].DeploymentStatus)
		a := k.core("a")
		assert.Equal(t, d.Template, a.Desired)
		assert.Zero(t, a.Reported)

		k.finish("a", "SUCCEEDED")
		_, err := k.cloud.Jobs.Apply(k.ctx, jobs.Update{Thing: "b", JobID: k.next("b"), Status: protocol.JobFailed, Details: map[string]string{
			protocol.DetailStatus: "FAILED_ROLLBACK_COMPLETE", protocol.DetailFailureCause: "it broke",
		}})
		require.NoError(t, err)
		synctest.Wait()
		a, b := k.core("a"), k.core("b")
		assert.Equal(t, fleet.DeploymentSuccess, a.DeploymentStatus)
		assert.Equal(t, a.Desired, a.Reported)
		assert.Equal(t, fleet.DeploymentFailure, b.DeploymentStatus)
		assert.Equal(t, "FAILED_ROLLBACK_COMPLETE: it broke", b.DeploymentMessage)
		assert.Zero(t, b.Reported)
		one, err := k.DeploymentTaskCore(k.ctx, d.ID, "b")
		require.NoError(t, err)
		assert.Equal(t, fleet.TaskSuccess, one.Status, "started, whatever became of it")
		assert.Equal(t, fleet.DeploymentFailure, one.DeploymentStatus)
		_, err = k.DeploymentTaskCore(k.ctx, d.ID, "c")
		require.ErrorIs(t, err, fault.NotFound)

		v, err := k.TemplateVersion(k.ctx, "t", 2)
		require.NoError(t, err)
		require.NotNil(t, v.Deployed)
		assert.Equal(t, "cdf_ggv2_deploymentForTemplate_t_2", v.Deployed.ThingGroup)
		view, err := k.Core(k.ctx, "a")
		require.NoError(t, err)
		assert.Equal(t, v.Deployed.ID, view.Device.EffectiveDeployments[0].DeploymentID)
	})
}

func TestW56ADeploymentThatCannotBeStarted(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.provisioned("on")
		k.create("2.18.0", newCore("off"))
		k.template("t", "1.0.0")
		d := k.deploy("t", 1, to("on", "off", "nobody"))
		assert.Equal(t, fleet.TaskFailure, d.Status)
		assert.Equal(t, fleet.TaskSuccess, d.Deployments[0].Status)
		for _, i := range []int{1, 2} {
			assert.Equal(t, fleet.TaskFailure, d.Deployments[i].Status)
			assert.Equal(t, "Core device not registered with Greengrass V2", d.Deployments[i].StatusMessage)
		}
		off := k.core("off")
		assert.Equal(t, fleet.DeploymentFailure, off.DeploymentStatus)
		assert.Equal(t, "Core device not registered with Greengrass V2", off.DeploymentMessage)
		assert.Equal(t, d.Template, off.Desired)
		_, err := k.Core(k.ctx, "nobody")
		require.ErrorIs(t, err, fault.NotFound, "no record of who is no core")
		failed, _, err := k.Cores(k.ctx, fleet.CoreFilter{FailedOnly: true}, fleet.Page{})
		require.NoError(t, err)
		require.Len(t, failed, 1)
		assert.Equal(t, "off", failed[0].Name)

		_, err = k.CreateTemplate(k.ctx, fleet.NewTemplate{Name: "bad", Components: []fleet.TemplateComponent{{Key: "com.example.NoSuch", Version: "3.0.0"}}})
		require.NoError(t, err, "a template may name what is not there yet")
		d = k.deploy("bad", 1, to("on"))
		assert.Equal(t, fleet.TaskFailure, d.Status)
		assert.Contains(t, d.Deployments[0].StatusMessage, "Failed to create deployment")
		assert.Contains(t, d.Deployments[0].StatusMessage, "com.example.NoSuch")
		thing, err := k.cloud.Thing(k.ctx, "on")
		require.NoError(t, err)
		assert.Equal(t, []string{"cdf_ggv2_deploymentForTemplate_t_1"}, thing.Groups, "a failure leaves the core where it was")
	})
}

func TestTargetsByGroup(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.provisioned("a", "b")
		k.template("t", "1.0.0")
		k.template("t", "2.0.0")
		k.deploy("t", 1, to("a", "b"))
		k.cloud.Client(t, "no-core", nil)
		d := k.deploy("t", 2, targets(map[string][]string{"thingGroupNames": {"cdf_ggv2_deploymentForTemplate_t_1"}, "thingNames": {"b"}}))
		assert.Equal(t, fleet.TaskSuccess, d.Status)
		assert.Len(t, d.Deployments, 2)
		assert.Equal(t, 2, k.core("a").Desired.Version)

		d = k.deploy("t", 1, targets(map[string][]string{"thingGroupNames": {"none"}}))
		assert.Equal(t, fleet.TaskFailure, d.Status)
		assert.Contains(t, d.StatusMessage, "none")
		d = k.deploy("t", 1, targets(map[string][]string{"thingGroupNames": {"cdf_ggv2_deploymentForTemplate_t_1"}}))
		assert.Equal(t, fleet.TaskFailure, d.Status, "it is empty now")
		assert.NotEmpty(t, d.StatusMessage)
	})
}

func TestADeploymentTaskThatCannotBeIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.template("t", "1.0.0")
		for _, c := range []struct {
			name    string
			version int
			to      fleet.Targets
			kind    error
			says    string
		}{
			{"none", 0, to("a"), fault.NotFound, "none"},
			{"t", 2, to("a"), fault.NotFound, "version 2"},
			{"t", 0, fleet.Targets{}, fault.Invalid, "targets"},
			{"t", 0, to("a", "b c"), fault.Invalid, "targets.thingNames[1]"},
			{"t", 0, targets(map[string][]string{"thingGroupNames": {"b c"}}), fault.Invalid, "targets.thingGroupNames[0]"},
		} {
			in(t, c.says, func(t *testing.T) {
				_, err := k.CreateDeploymentTask(k.ctx, fleet.NewDeploymentTask{TemplateName: c.name, TemplateVersion: c.version, Targets: c.to}, "")
				require.ErrorIs(t, err, c.kind)
				assert.ErrorContains(t, err, c.says)
			})
		}
		list, _, err := k.DeploymentTasks(k.ctx, fleet.Page{})
		require.NoError(t, err)
		assert.Empty(t, list)
	})
}

func TestW57DeployingTheSameAgain(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.provisioned("gw")
		k.template("t", "1.0.0")
		k.deploy("t", 1, to("gw"))
		first := k.core("gw").Execution
		k.deploy("t", 1, to("gw"))
		assert.Equal(t, first, k.core("gw").Execution, "it is at it")
		k.finish("gw", "SUCCEEDED")
		again := k.deploy("t", 1, to("gw"))
		assert.Equal(t, first, k.core("gw").Execution, "it has it")
		assert.Equal(t, fleet.DeploymentSuccess, again.Deployments[0].DeploymentStatus)

		k.template("t", "2.0.0")
		k.deploy("t", 2, to("gw"))
		k.finish("gw", "FAILED")
		require.Equal(t, fleet.DeploymentFailure, k.core("gw").DeploymentStatus)
		failed := k.core("gw").Execution
		k.deploy("t", 2, to("gw"))
		assert.Equal(t, failed.JobID, k.core("gw").Execution.JobID, "no new revision for everybody")
		assert.Equal(t, failed.Number+1, k.core("gw").Execution.Number, "it failed, and gets it once more")
		k.finish("gw", "SUCCEEDED")
		assert.Equal(t, 2, k.core("gw").Reported.Version)
	})
}

func TestALateResultOfAFormerDeployment(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.provisioned("gw")
		k.template("t", "1.0.0")
		k.template("t", "2.0.0")
		k.deploy("t", 1, to("gw"))
		old := k.next("gw")
		_, err := k.cloud.Jobs.Apply(k.ctx, jobs.Update{Thing: "gw", JobID: old, Status: protocol.JobInProgress})
		require.NoError(t, err)
		k.deploy("t", 2, to("gw"))
		require.NoError(t, k.cloud.Finish(k.ctx, "gw", old, "FAILED"))
		synctest.Wait()
		c := k.core("gw")
		assert.Equal(t, fleet.DeploymentInProgress, c.DeploymentStatus, "of the old version")
		assert.Equal(t, 2, c.Desired.Version)
		k.finish("gw", "SUCCEEDED")
		assert.Equal(t, c.Desired, k.core("gw").Reported)

		k.deploy("t", 1, to("gw"))
		old = k.next("gw")
		_, err = k.cloud.Jobs.Apply(k.ctx, jobs.Update{Thing: "gw", JobID: old, Status: protocol.JobInProgress})
		require.NoError(t, err)
		k.deploy("t", 2, to("gw"))
		require.NoError(t, k.cloud.Finish(k.ctx, "gw", old, "SUCCEEDED"))
		synctest.Wait()
		c = k.core("gw")
		assert.Equal(t, fleet.DeploymentInProgress, c.DeploymentStatus)
		assert.Equal(t, 1, c.Reported.Version, "what the core really has")
	})
}

func TestTasksAreListed(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.provisioned("a", "b", "c")
		k.template("t", "1.0.0")
		var ids []string
		for range 3 {
			ids = append(ids, k.deploy("t", 1, to("a", "b", "c")).ID)
		}
		first, next, err := k.DeploymentTasks(k.ctx, fleet.Page{Count: 2})
		require.NoError(t, err)
		rest, end, err := k.DeploymentTasks(k.ctx, fleet.Page{Count: 2, After: next})
		require.NoError(t, err)
		assert.Empty(t, end)
		var got []string
		for _, d := range append(first, rest...) {
			got = append(got, d.ID)
			assert.Empty(t, d.Deployments)
		}
		assert.ElementsMatch(t, ids, got)
		cores, next, err := k.DeploymentTaskCores(k.ctx, ids[0], fleet.Page{Count: 2})
		require.NoError(t, err)
		assert.Len(t, cores, 2)
		cores, end, err = k.DeploymentTaskCores(k.ctx, ids[0], fleet.Page{Count: 2, After: next})
		require.NoError(t, err)
		require.Len(t, cores, 1)
		assert.Empty(t, end)
		assert.Equal(t, "c", cores[0].Name)
		cores, _, err = k.DeploymentTaskCores(k.ctx, "none", fleet.Page{})
		require.NoError(t, err)
		assert.Empty(t, cores)
		of, _, err := k.CoreDeployments(k.ctx, "a", fleet.Page{})
		require.NoError(t, err)
		assert.Len(t, of, 3)
		of, _, err = k.CoreDeployments(k.ctx, "none", fleet.Page{})
		require.NoError(t, err)
		assert.Empty(t, of)
	})
}

func TestCoresAreFilteredAndPaged(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.provisioned("a", "b", "c", "d")
		k.template("t", "1.0.0")
		k.template("t", "2.0.0")
		k.deploy("t", 1, to("a"))
		k.deploy("t", 2, to("b", "c"))
		k.finish("c", "FAILED")
		list := func(f fleet.CoreFilter, p fleet.Page) (names []string, next string) {
			cores, next, err := k.Cores(k.ctx, f, p)
			require.NoError(t, err)
			for _, c := range cores {
				names = append(names, c.Name)
			}
			return names, next
		}
		for _, c := range []struct {
			f    fleet.CoreFilter
			want []string
		}{
			{fleet.CoreFilter{}, []string{"a", "b", "c", "d"}},
			{fleet.CoreFilter{TemplateName: "t"}, []string{"a", "b", "c"}},
			{fleet.CoreFilter{TemplateName: "t", TemplateVersion: 2}, []string{"b", "c"}},
			{fleet.CoreFilter{TemplateName: "t", TemplateVersion: 2, FailedOnly: true}, []string{"c"}},
			{fleet.CoreFilter{TemplateName: fleet.NoTemplate}, []string{"d"}},
			{fleet.CoreFilter{TemplateName: "other"}, nil},
		} {
			got, next := list(c.f, fleet.Page{})
			assert.Equal(t, c.want, got)
			assert.Empty(t, next)
			if len(c.want) > 1 { // page by page
				got, next = list(c.f, fleet.Page{Count: 1})
				for next != "" {
					var more []string
					more, next = list(c.f, fleet.Page{Count: 1, After: next})
					got = append(got, more...)
				}
				assert.Equal(t, c.want, got)
			}
		}
		_, _, err := k.Cores(k.ctx, fleet.CoreFilter{TemplateVersion: 1}, fleet.Page{})
		require.ErrorIs(t, err, fault.Invalid)
		assert.Equal(t, 4, k.Count())
	})
}

func TestW24W25Templates(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		app := []fleet.TemplateComponent{{Key: "com.example.B", Version: "1.0.0"}, {Key: "com.example.A", Version: "1.0.0", Config: &fleet.TemplateConfiguration{Merge: `{"a":1}`, Reset: []string{"", "/b"}}}}
		one, err := k.CreateTemplate(k.ctx, fleet.NewTemplate{Name: "t", Components: app, JobConfig: json.RawMessage(`{}`)})
		require.NoError(t, err)
		assert.True(t, one.UpdatedAt.IsZero())
		_, err = k.CreateTemplate(k.ctx, fleet.NewTemplate{Name: "t", Components: app})
		require.ErrorIs(t, err, fault.Exists)
		for v := 2; v <= 11; v++ {
			next, err := k.UpdateTemplate(k.ctx, "t", fleet.NewTemplate{Components: app[:1]})
			require.NoError(t, err)
			assert.Equal(t, v, next.Version)
			assert.Equal(t, one.CreatedAt, next.CreatedAt)
			assert.Nil(t, next.JobConfig, "nothing is inherited")
		}
		latest, err := k.Template(k.ctx, "t")
		require.NoError(t, err)
		assert.Equal(t, 11, latest.Version)
		first, err := k.TemplateVersion(k.ctx, "t", 1)
		require.NoError(t, err)
		assert.Equal(t, app, first.Components, "in the order submitted")
		versions, next, err := k.TemplateVersions(k.ctx, "t", fleet.Page{Count: 9})
		require.NoError(t, err)
		assert.Equal(t, 9, versions[8].Version, "in the order of numbers")
		versions, end, err := k.TemplateVersions(k.ctx, "t", fleet.Page{After: next})
		require.NoError(t, err)
		assert.Len(t, versions, 2)
		assert.Empty(t, end)
		k.template("a", "1.0.0")
		all, next, err := k.Templates(k.ctx, fleet.Page{Count: 1})
		require.NoError(t, err)
		assert.Equal(t, "a", all[0].Name)
		all, end, err = k.Templates(k.ctx, fleet.Page{After: next})
		require.NoError(t, err)
		assert.Equal(t, 11, all[0].Version)
		assert.Empty(t, end)

		for _, c := range []struct {
			name string
			n    fleet.NewTemplate
			says string
		}{
			{"no name", fleet.NewTemplate{Components: app}, "name"},
			{"a reserved name", fleet.NewTemplate{Name: "None", Components: app}, "name"},
			{"a long name", fleet.NewTemplate{Name: string(make([]byte, 87)), Components: app}, "name"},
			{"no components", fleet.NewTemplate{Name: "x"}, "components"},
			{"too many components", fleet.NewTemplate{Name: "x", Components: make([]fleet.TemplateComponent, 201)}, "components"},
			{"a component twice", fleet.NewTemplate{Name: "x", Components: []fleet.TemplateComponent{app[0], app[0]}}, "components[1].key"},
			{"no version", fleet.NewTemplate{Name: "x", Components: []fleet.TemplateComponent{{Key: "a"}}}, "components[0].version"},
			{"merge of an array", fleet.NewTemplate{Name: "x", Components: []fleet.TemplateComponent{{Key: "a", Version: "1.0.0", Config: &fleet.TemplateConfiguration{Merge: "[]"}}}}, "components[0].configurationUpdate.merge"},
			{"no pointer", fleet.NewTemplate{Name: "x", Components: []fleet.TemplateComponent{{Key: "a", Version: "1.0.0", Config: &fleet.TemplateConfiguration{Reset: []string{"", "b"}}}}}, "components[0].configurationUpdate.reset[1]"},
		} {
			in(t, c.name, func(t *testing.T) {
				_, err := k.CreateTemplate(k.ctx, c.n)
				require.ErrorIs(t, err, fault.Invalid)
				assert.ErrorContains(t, err, c.says)
			})
		}
		_, err = k.UpdateTemplate(k.ctx, "none", fleet.NewTemplate{Components: app})
		require.ErrorIs(t, err, fault.NotFound)
		_, err = k.UpdateTemplate(k.ctx, "t", fleet.NewTemplate{Name: "u", Components: app})
		require.ErrorIs(t, err, fault.Invalid)
		for _, n := range []string{"none", "../t", ""} {
			_, err = k.Template(k.ctx, n)
			require.ErrorIs(t, err, fault.NotFound)
		}
		_, err = k.TemplateVersion(k.ctx, "t", 12)
		require.ErrorIs(t, err, fault.NotFound)
		_, _, err = k.TemplateVersions(k.ctx, "t", fleet.Page{After: "x"})
		require.ErrorIs(t, err, fault.Invalid)
	})
}

// The running count behind the summary equals a recount of the records after
// every step, whatever is deployed, reported and created in whatever order.
func TestTheSummaryEqualsARecount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) { // rapid asks a *testing.T for what a bubble does not have
			k := newKit(selfhostedtest.TB(t))
			defer k.stop()
			names := []string{"a", "b", "c"}
			k.provisioned(names[:2]...)
			k.template("t", "1.0.0")
			core := func(t *rapid.T) string { return rapid.SampledFrom(names).Draw(t, "core") }
			t.Repeat(map[string]func(*rapid.T){
				"deploy": func(t *rapid.T) {
					top, err := k.Template(k.ctx, "t")
					require.NoError(t, err)
					k.deploy("t", rapid.IntRange(1, top.Version).Draw(t, "version"), to(core(t)))
				},
				"finish": func(t *rapid.T) {
					name := core(t)
					if list, err := k.cloud.Jobs.Pending(k.ctx, name); err == nil && len(list) > 0 {
						k.finish(name, rapid.SampledFrom([]string{"SUCCEEDED", "FAILED"}).Draw(t, "status"))
					}
				},
				"create":   func(t *rapid.T) { k.create("2.18.0", newCore(core(t))) },
				"template": func(*rapid.T) { k.template("t", "2.0.0") },
				"": func(t *rapid.T) {
					synctest.Wait()
					same, err := k.Settled(k.ctx)
					require.NoError(t, err)
					require.True(t, same)
					s, err := k.Summary(k.ctx)
					require.NoError(t, err)
					require.Len(t, s.Templates, 1)
					require.Len(t, s.Templates["t"].Versions, s.Templates["t"].LatestVersion, "each version has a row")
					for v, c := range s.Templates["t"].Versions {
						require.Equal(t, c.DesiredInUse, c.LastDeploymentSuccess+c.LastDeploymentFailed+c.LastDeploymentInProgress, fmt.Sprint("version ", v))
					}
				},
			})
		})
	})
}
