package fleet_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func aTemplate(name string) fleet.NewTemplate {
	return fleet.NewTemplate{Name: name, Components: []fleet.TemplateComponent{{Key: "com.example.App", Version: "1.0.0"}}}
}

func TestATemplateThatCannotBeDeployedIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		config := func(c fleet.TemplateConfiguration) func(*fleet.NewTemplate) {
			return func(n *fleet.NewTemplate) { n.Components[0].Config = &c }
		}
		job := func(s string) func(*fleet.NewTemplate) {
			return func(n *fleet.NewTemplate) { n.JobConfig = json.RawMessage(s) }
		}
		policies := func(s string) func(*fleet.NewTemplate) {
			return func(n *fleet.NewTemplate) { n.Policies = json.RawMessage(s) }
		}
		for _, c := range []struct {
			edit func(*fleet.NewTemplate)
			at   string
		}{
			{func(n *fleet.NewTemplate) { n.Name = strings.Repeat("x", 87) }, "name"},
			{func(n *fleet.NewTemplate) { n.Name = "größe" }, "name"},
			{func(n *fleet.NewTemplate) { n.Name = "a:b" }, "name"},
			{func(n *fleet.NewTemplate) { n.Name = fleet.NoTemplate }, "name"},
			{func(n *fleet.NewTemplate) { n.Components = nil }, "components"},
			{func(n *fleet.NewTemplate) { n.Components = append(n.Components, n.Components[0]) }, "components[1].key"},
			{func(n *fleet.NewTemplate) { n.Components[0].Key = "" }, "components[0].key"},
			{func(n *fleet.NewTemplate) { n.Components[0].Version = "1 .0" }, "components[0].version"},
			{func(n *fleet.NewTemplate) { n.Components[0].Version = "" }, "components[0].version"},
			{func(n *fleet.NewTemplate) { n.Components[0].Version = "../1.0.0" }, "components[0].version"},
			{func(n *fleet.NewTemplate) { n.Components[0].Version = "1.0" }, "components[0].version"},
			{func(n *fleet.NewTemplate) { n.Components[0].RunWith = &fleet.TemplateRunWith{PosixUser: "a:b:c"} }, "components[0].runWith.posixUser"},
			{func(n *fleet.NewTemplate) { n.Components[0].RunWith = &fleet.TemplateRunWith{PosixUser: ":group"} }, "components[0].runWith.posixUser"},
			{config(fleet.TemplateConfiguration{Merge: "[1]"}), "components[0].configurationUpdate.merge"},
			{config(fleet.TemplateConfiguration{Merge: "null"}), "components[0].configurationUpdate.merge"},
			{config(fleet.TemplateConfiguration{Merge: "{"}), "components[0].configurationUpdate.merge"},
			{config(fleet.TemplateConfiguration{Reset: []string{"", "/a", "b"}}), "components[0].configurationUpdate.reset[2]"},
			{config(fleet.TemplateConfiguration{Reset: []string{"/a~2"}}), "components[0].configurationUpdate.reset[0]"},
			{config(fleet.TemplateConfiguration{Reset: make([]string, 101)}), "components[0].configurationUpdate.reset"},
			{job(`[]`), "jobConfig"},
			{job(`{"rate":1}`), "jobConfig"},
			{job(`{"jobExecutionsRolloutConfig":{"maximumPerMinute":0}}`), "jobConfig.jobExecutionsRolloutConfig.maximumPerMinute"},
			{job(`{"jobExecutionsRolloutConfig":{"maximumPerMinute":1001}}`), "jobConfig.jobExecutionsRolloutConfig.maximumPerMinute"},
			{job(`{"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":1,"incrementFactor":1.25,"rateIncreaseCriteria":{"numberOfNotifiedThings":1}}}}`), "jobConfig.jobExecutionsRolloutConfig.exponentialRate.incrementFactor"},
			{job(`{"abortConfig":{"criteriaList":[{"failureType":"SOME","action":"CANCEL","thresholdPercentage":1,"minNumberOfExecutedThings":1}]}}`), "jobConfig.abortConfig.criteriaList[0].failureType"},
			{job(`{"timeoutConfig":{"inProgressTimeoutInMinutes":10081}}`), "jobConfig.timeoutConfig.inProgressTimeoutInMinutes"},
			{policies(`"ROLLBACK"`), "deploymentPolicies"},
			{policies(`{"unknown":1}`), "deploymentPolicies"},
			{policies(`{"failureHandlingPolicy":"rollback"}`), "deploymentPolicies.failureHandlingPolicy"},
			{policies(`{"componentUpdatePolicy":{"action":"ASK"}}`), "deploymentPolicies.componentUpdatePolicy.action"},
			{policies(`{"componentUpdatePolicy":{"timeoutInSeconds":-1}}`), "deploymentPolicies.componentUpdatePolicy.timeoutInSeconds"},
			{policies(`{"configurationValidationPolicy":{"timeoutInSeconds":"30"}}`), "deploymentPolicies.configurationValidationPolicy.timeoutInSeconds"},
		} {
			n := aTemplate("t")
			c.edit(&n)
			_, err := k.CreateTemplate(k.ctx, n)
			require.ErrorIs(t, err, fault.Invalid, c.at)
			assert.Equal(t, c.at, fault.FieldOf(err), err)
		}
		big := aTemplate("t")
		merge := `{"x":"` + strings.Repeat("y", 60<<10) + `"}`
		for i := range 9 {
			big.Components = append(big.Components, fleet.TemplateComponent{Key: fmt.Sprintf("c%d", i), Version: "1.0.0", Config: &fleet.TemplateConfiguration{Merge: merge}})
		}
		_, err := k.CreateTemplate(k.ctx, big)
		require.ErrorIs(t, err, fault.TooLarge)
		list, _, err := k.Templates(k.ctx, fleet.Page{})
		require.NoError(t, err)
		assert.Empty(t, list)

		good := aTemplate(strings.Repeat("n", 86))
		good.JobConfig, good.Policies = json.RawMessage(`null`), json.RawMessage(`{"componentUpdatePolicy":{"timeoutInSeconds":0,"action":"SKIP_NOTIFY_COMPONENTS"}}`)
		good.Components[0].RunWith = &fleet.TemplateRunWith{PosixUser: "ggc_user:ggc_group"}
		good.Components[0].Config = &fleet.TemplateConfiguration{Merge: `{"a":1}`, Reset: []string{"", "/a~1b/~0"}}
		_, err = k.CreateTemplate(k.ctx, good)
		require.NoError(t, err)
	})
}

func TestVersionsOfATemplateAreImmutable(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		first := aTemplate("t")
		first.Components = append(first.Components, fleet.TemplateComponent{Key: "com.example.Gone", Version: "1.0.0"})
		one, err := k.CreateTemplate(k.ctx, first)
		require.NoError(t, err)
		n := aTemplate("t")
		for v := 2; v <= 12; v++ {
			n.IfVersion = v - 1
			made, err := k.UpdateTemplate(k.ctx, "t", n)
			require.NoError(t, err)
			assert.Equal(t, v, made.Version)
		}
		_, err = k.UpdateTemplate(k.ctx, "t", n)
		require.ErrorIs(t, err, fault.Stale, "W-22: an update of a version that is not the latest")
		latest, err := k.Template(k.ctx, "t")
		require.NoError(t, err)
		assert.Len(t, latest.Components, 1, "W-53: no component of an older version")
		kept, err := k.TemplateVersion(k.ctx, "t", 1)
		require.NoError(t, err)
		assert.Equal(t, one.Components, kept.Components)
		list, _, err := k.TemplateVersions(k.ctx, "t", fleet.Page{})
		require.NoError(t, err)
		for i, x := range list {
			assert.Equal(t, i+1, x.Version, "W-24: in the order of numbers")
		}
		page, next, err := k.TemplateVersions(k.ctx, "t", fleet.Page{After: "9", Count: 1})
		require.NoError(t, err)
		assert.Equal(t, 10, page[0].Version)
		assert.Equal(t, "10", next)
	})
}

func TestW20ADeployedVersionSaysWhere(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cores("gw")
		k.template("t", "1.0.0")
		k.template("t", "2.0.0")
		k.deploy("t", 1, to("gw"))
		one, err := k.TemplateVersion(k.ctx, "t", 1)
		require.NoError(t, err)
		require.NotNil(t, one.Deployed)
		assert.Equal(t, "cdf_ggv2_deploymentForTemplate_t_1", one.Deployed.ThingGroup)
		assert.NotEmpty(t, one.Deployed.ID)
		assert.NotEmpty(t, one.Deployed.JobID)
		latest, err := k.Template(k.ctx, "t")
		require.NoError(t, err)
		assert.Nil(t, latest.Deployed)
		list, _, err := k.TemplateVersions(k.ctx, "t", fleet.Page{})
		require.NoError(t, err)
		assert.Equal(t, one.Deployed, list[0].Deployed)
		assert.Nil(t, list[1].Deployed)
	})
}

func TestATemplateInUseStays(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cores("a", "b")
		k.template("t", "1.0.0")
		k.template("u", "2.0.0")
		k.deploy("t", 1, to("a", "b"))
		k.finish("a", "SUCCEEDED")
		err := k.DeleteTemplate(k.ctx, "t", 0)
		require.ErrorIs(t, err, fault.Conflict)
		assert.ErrorContains(t, err, "in use by 2 cores")
		k.deploy("u", 1, to("a", "b"))
		err = k.DeleteTemplate(k.ctx, "t", 0)
		require.ErrorIs(t, err, fault.Conflict, "a core reports it still")
		assert.ErrorContains(t, err, "in use by 1 cores")
		k.finish("a", "SUCCEEDED")
		require.ErrorIs(t, k.DeleteTemplate(k.ctx, "t", 2), fault.Stale)
		require.NoError(t, k.DeleteTemplate(k.ctx, "t", 1))
		require.ErrorIs(t, k.DeleteTemplate(k.ctx, "t", 0), fault.NotFound)

		cfg := json.RawMessage(`{"jobExecutionsRolloutConfig":{"maximumPerMinute":1}}`)
		k.template("slow", "1.0.0")
		id, err := k.CreateDeploymentTask(k.ctx, fleet.NewDeploymentTask{TemplateName: "slow", Targets: to("a", "b"), IoTJobConfig: cfg}, "")
		require.NoError(t, err)
		err = k.DeleteTemplate(k.ctx, "slow", 0)
		require.ErrorIs(t, err, fault.Conflict)
		assert.ErrorContains(t, err, id, "a task at work names it")
	})
}

func TestW23W68ADeletedTemplateTakesItsGroupsAlong(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cores("gw")
		k.template("t", "1.0.0")
		k.template("t", "2.0.0")
		k.template("u", "1.0.0")
		k.deploy("t", 1, to("gw"))
		k.finish("gw", "SUCCEEDED")
		k.deploy("t", 2, to("gw"))
		k.finish("gw", "SUCCEEDED")
		k.deploy("u", 1, to("gw"))
		k.finish("gw", "SUCCEEDED")
		before, err := k.cloud.Registry.Group(k.ctx, "cdf_ggv2_deploymentForTemplate_t_2")
		require.NoError(t, err)
		require.NoError(t, k.DeleteTemplate(k.ctx, "t", 2))
		for _, g := range []string{"cdf_ggv2_deploymentForTemplate_t_1", "cdf_ggv2_deploymentForTemplate_t_2"} {
			_, err := k.cloud.Registry.Group(k.ctx, g)
			require.ErrorIs(t, err, fault.NotFound)
		}
		list, _, err := k.TemplateVersions(k.ctx, "t", fleet.Page{})
		require.NoError(t, err)
		assert.Empty(t, list)
		assert.Empty(t, k.remains("t"), "no row is left")

		in(t, "W-62: the name begins anew", func(t *testing.T) {
			again := k.template("t", "1.0.0")
			assert.Equal(t, 1, again.Version)
			assert.Nil(t, again.Deployed)
			sum, err := k.Summary(k.ctx)
			require.NoError(t, err)
			assert.Equal(t, fleet.TemplateSummary{LatestVersion: 1, Versions: map[int]fleet.Counter{1: {}}}, sum.Templates["t"])
			k.template("t", "2.0.0")
			k.deploy("t", 2, to("gw"))
			assert.Equal(t, fleet.DeploymentInProgress, k.core("gw").DeploymentStatus, "not the success of the old version 2")
			assert.Equal(t, "u", k.core("gw").Reported.Name)
			k.finish("gw", "SUCCEEDED")
			assert.Equal(t, fleet.TemplateRef{Name: "t", Version: 2}, k.core("gw").Reported)
			now, err := k.cloud.Registry.Group(k.ctx, "cdf_ggv2_deploymentForTemplate_t_2")
			require.NoError(t, err)
			assert.NotEqual(t, before.Value.ID, now.Value.ID)
		})
	})
}

func TestW62ACoreThatCouldNotBeSentIsNotCountedForTheNextTemplateOfThatName(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.create("2.18.0", newCore("cold"))
		k.template("t", "1.0.0")
		k.deploy("t", 1, to("cold"))
		require.Equal(t, fleet.DeploymentFailure, k.core("cold").DeploymentStatus)
		require.NoError(t, k.DeleteTemplate(k.ctx, "t", 0))
		assert.Equal(t, fleet.DeploymentNone, k.core("cold").DeploymentStatus)
		k.template("t", "1.0.0")
		sum, err := k.Summary(k.ctx)
		require.NoError(t, err)
		assert.Equal(t, fleet.Counter{}, sum.Templates["t"].Versions[1])
	})
}

func TestADeletedTemplateIsNeverHalfThere(t *testing.T) {
	lost := fault.New(fault.Unavailable, "cut off here")
	for n := int32(1); ; n++ {
		broke := false
		bubble(t, func(t *testing.T, k *kit) {
			k.cores("gw")
			for range 3 {
				k.template("t", "1.0.0")
			}
			k.template("u", "1.0.0")
			k.deploy("t", 2, to("gw"))
			k.deploy("u", 1, to("gw"))
			did := k.breakAt(n, lost)
			err := k.DeleteTemplate(k.ctx, "t", 0)
			broke = did()
			versions, _, lerr := k.TemplateVersions(k.ctx, "t", fleet.Page{})
			require.NoError(t, lerr)
			if _, here := k.Template(k.ctx, "t"); here == nil {
				require.Error(t, err)
				assert.Len(t, versions, 3, "whole, broken at commit %d", n)
				require.NoError(t, k.DeleteTemplate(k.ctx, "t", 0))
			} else {
				assert.Empty(t, versions, "gone, broken at commit %d", n)
				k.stop() // a restart goes on with it
				k.start()
				time.Sleep(2 * time.Minute)
			}
			assert.Empty(t, k.remains("t"), "broken at commit %d", n)
			_, err = k.cloud.Registry.Group(k.ctx, "cdf_ggv2_deploymentForTemplate_t_2")
			require.ErrorIs(t, err, fault.NotFound)
			_, err = k.CreateTemplate(k.ctx, aTemplate("t"))
			require.NoError(t, err)
		})
		if !broke {
			assert.Greater(t, n, int32(3))
			return
		}
	}
}

func TestATemplateThatIsDeployedInTheMomentOfItsDeletionStays(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cores("gw")
		k.template("t", "1.0.0")
		var id atomic.Pointer[string]
		f := func(b *state.Batch) error {
			if b.Step == state.StepTaskClaim {
				return fault.New(fault.Unavailable, "no worker takes the task up meanwhile")
			}
			leaves := slices.ContainsFunc(b.Ops(), func(o state.Op) bool { return o.Key == state.Root+"fleet/template-leaving/t" && !o.Delete })
			if leaves && id.Load() == nil { // the look has found nothing, the head is about to go
				made, err := k.CreateDeploymentTask(k.ctx, fleet.NewDeploymentTask{TemplateName: "t", Targets: to("gw")}, "")
				assert.NoError(t, err)
				id.Store(&made)
			}
			return nil
		}
		k.fail.Store(&f)
		err := k.DeleteTemplate(k.ctx, "t", 0)
		require.ErrorIs(t, err, fault.Conflict)
		assert.ErrorContains(t, err, *id.Load())
		_, err = k.Template(k.ctx, "t")
		require.NoError(t, err, "the head came back")
		k.fail.Store(nil)
		assert.Equal(t, fleet.TaskSuccess, k.await(*id.Load()).Status)
	})
}

func FuzzTemplate(f *testing.F) {
	f.Add(`{"a":1}`, "/a~1b", "user:group", `{"failureHandlingPolicy":"ROLLBACK"}`)
	f.Add(`null`, "~", ":", `{"componentUpdatePolicy":{"timeoutInSeconds":1e99}}`)
	f.Fuzz(func(t *testing.T, merge, reset, user, policies string) {
		n := aTemplate("t")
		n.Components[0].Config = &fleet.TemplateConfiguration{Merge: merge, Reset: []string{reset}}
		n.Components[0].RunWith = &fleet.TemplateRunWith{PosixUser: user}
		n.Policies = json.RawMessage(policies)
		err := fleet.CheckTemplate(n)
		if err != nil {
			assert.Contains(t, []fault.Kind{fault.Invalid, fault.TooLarge}, fault.KindOf(err))
			return
		}
		if merge != "" {
			assert.True(t, json.Valid([]byte(merge)))
		}
	})
}

func TestASuccessOfATemplateThatWasIsNoSuccessOfItsNamesake(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.provisioned("a")
		k.template("t", "1.0.0")
		k.template("u", "1.0.0")
		k.deploy("t", 1, to("a"))
		job := k.next("a")
		_, err := k.cloud.Jobs.Apply(k.ctx, jobs.Update{Thing: "a", JobID: job, Status: protocol.JobInProgress})
		require.NoError(t, err)
		k.deploy("u", 1, to("a"))
		require.NoError(t, k.DeleteTemplate(k.ctx, "t", 0))
		time.Sleep(time.Minute)
		k.template("t", "2.0.0")
		require.NoError(t, k.cloud.Finish(k.ctx, "a", job, "SUCCEEDED"))
		synctest.Wait()
		assert.Zero(t, k.core("a").Reported, "W-62: a name used again has clean counts")
	})
}
