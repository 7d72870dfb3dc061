package greengrass_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// fields are the paths that a refusal names.
func fields(err error) []string {
	var out []string
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range all.Unwrap() {
			out = append(out, fault.FieldOf(e))
		}
	}
	return out
}

func TestEveryMemberOfADeploymentIsChecked(t *testing.T) {
	k := newKit(t, t.Context())
	k.groups("g")
	before := k.dump()
	component := func(change func(c *greengrass.Component)) func(*greengrass.NewDeployment) {
		return func(n *greengrass.NewDeployment) {
			c := greengrass.Component{Version: "1.0.0"}
			change(&c)
			n.Components = map[string]greengrass.Component{"com.x": c}
		}
	}
	reset := func(p ...string) func(*greengrass.NewDeployment) {
		return component(func(c *greengrass.Component) { c.Update = &greengrass.ConfigurationUpdate{Reset: p} })
	}
	runWith := func(r greengrass.RunWith) func(*greengrass.NewDeployment) {
		return component(func(c *greengrass.Component) { c.RunWith = &r })
	}
	limits := func(memory int64, cpus float64) func(*greengrass.NewDeployment) {
		return runWith(greengrass.RunWith{Limits: &protocol.DocumentLimits{Memory: &memory, CPUs: &cpus}})
	}
	policy := func(change func(p *greengrass.Policies)) func(*greengrass.NewDeployment) {
		return func(n *greengrass.NewDeployment) { change(&n.Policies) }
	}
	job := func(text string) func(*greengrass.NewDeployment) {
		return func(n *greengrass.NewDeployment) { require.NoError(t, json.Unmarshal([]byte(text), &n.JobConfig)) }
	}
	rate := func(base, factor, criteria string) func(*greengrass.NewDeployment) {
		return job(fmt.Sprintf(`{"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":%s,"incrementFactor":%s,"rateIncreaseCriteria":%s}}}`, base, factor, criteria))
	}
	abort := func(kind, action, threshold, minimum string) func(*greengrass.NewDeployment) {
		return job(fmt.Sprintf(`{"abortConfig":{"criteriaList":[{"failureType":%q,"action":%q,"thresholdPercentage":%s,"minNumberOfExecutedThings":%s}]}}`, kind, action, threshold, minimum))
	}
	const update, run, rollout, criterion = "components.com.x.configurationUpdate.", "components.com.x.runWith.",
		"iotJobConfiguration.jobExecutionsRolloutConfig.", "iotJobConfiguration.abortConfig.criteriaList[0]."
	for _, c := range []struct {
		name   string
		change func(*greengrass.NewDeployment)
		fields []string
	}{
		{"a name of 256 characters", func(n *greengrass.NewDeployment) { n.Name = strings.Repeat("ü", 256) }, nil},
		{"a name of 257 characters", func(n *greengrass.NewDeployment) { n.Name = strings.Repeat("ü", 257) }, []string{"deploymentName"}},
		{"a component name with a colon", func(n *greengrass.NewDeployment) {
			n.Components = map[string]greengrass.Component{"a:b": {Version: "1.0.0"}}
		}, []string{"components.a:b"}},
		{"no version", component(func(c *greengrass.Component) { c.Version = "" }), []string{"components.com.x.componentVersion"}},
		{"a range for a version", component(func(c *greengrass.Component) { c.Version = ">=1.0.0" }), []string{"components.com.x.componentVersion"}},
		{"a version of 65 characters", component(func(c *greengrass.Component) { c.Version = "1.0.0-" + strings.Repeat("a", 59) }), []string{"components.com.x.componentVersion"}},
		{"an exact version", component(func(c *greengrass.Component) { c.Version = "1.0.0-rc.1+b" }), nil},
		{"a merge of a list", component(func(c *greengrass.Component) { c.Update = merge("[1]") }), []string{update + "merge"}},
		{"an empty merge", component(func(c *greengrass.Component) { c.Update = merge("") }), []string{update + "merge"}},
		{"something after the object of a merge", component(func(c *greengrass.Component) { c.Update = merge("{}{}") }), []string{update + "merge"}},
		{"an empty object to merge", component(func(c *greengrass.Component) { c.Update = merge(" {} ") }), nil},
		{"a reset of all, and of one key", reset("", "/a/b"), nil},
		{"a reset without slash", reset("/a", "b"), []string{update + "reset[1]"}},
		{"a reset of 257 characters", reset("/" + strings.Repeat("a", 256)), []string{update + "reset[0]"}},
		{"an empty posixUser", runWith(greengrass.RunWith{PosixUser: new("")}), []string{run + "posixUser"}},
		{"an empty windowsUser", runWith(greengrass.RunWith{WindowsUser: new("")}), []string{run + "windowsUser"}},
		{"the largest memory", limits(9223372036854771712, 0), nil},
		{"a memory over the largest", limits(9223372036854771713, 0), []string{run + "systemResourceLimits.memory"}},
		{"a negative memory", limits(-1, 0), []string{run + "systemResourceLimits.memory"}},
		{"negative cpus", limits(0, -0.1), []string{run + "systemResourceLimits.cpus"}},
		{"cpus that are no number", limits(0, math.NaN()), []string{run + "systemResourceLimits.cpus"}},
		{"an unknown failure handling", policy(func(p *greengrass.Policies) { p.FailureHandling = "RETRY" }), []string{"deploymentPolicies.failureHandlingPolicy"}},
		{"an unknown update action", policy(func(p *greengrass.Policies) { p.UpdateAction = "notify_components" }), []string{"deploymentPolicies.componentUpdatePolicy.action"}},
		{"a negative update timeout", policy(func(p *greengrass.Policies) { p.UpdateTimeout = -1 }), []string{"deploymentPolicies.componentUpdatePolicy.timeoutInSeconds"}},
		{"a negative validation timeout", policy(func(p *greengrass.Policies) { p.ValidationTimeout = -1 }), []string{"deploymentPolicies.configurationValidationPolicy.timeoutInSeconds"}},
		{"timeouts of 0", policy(func(p *greengrass.Policies) { p.UpdateTimeout, p.ValidationTimeout = 0, 0 }), nil},
		{"a rate of 0", job(`{"jobExecutionsRolloutConfig":{"maximumPerMinute":0}}`), []string{rollout + "maximumPerMinute"}},
		{"a rate of 1001", job(`{"jobExecutionsRolloutConfig":{"maximumPerMinute":1001}}`), []string{rollout + "maximumPerMinute"}},
		{"a whole exponential rate", rate("1000", "1.5", `{"numberOfNotifiedThings":1,"numberOfSucceededThings":1}`), nil},
		{"a base of 1001", rate("1001", "5", `{"numberOfNotifiedThings":1}`), []string{rollout + "exponentialRate.baseRatePerMinute"}},
		{"a factor with two decimals", rate("1", "1.55", `{"numberOfNotifiedThings":1}`), []string{rollout + "exponentialRate.incrementFactor"}},
		{"a factor below 1", rate("1", "0.9", `{"numberOfNotifiedThings":1}`), []string{rollout + "exponentialRate.incrementFactor"}},
		{"a factor over 5", rate("1", "5.1", `{"numberOfNotifiedThings":1}`), []string{rollout + "exponentialRate.incrementFactor"}},
		{"no criterion to increase the rate", rate("1", "1", `{}`), []string{rollout + "exponentialRate.rateIncreaseCriteria"}},
		{"a criterion of no things", rate("1", "1", `{"numberOfSucceededThings":0}`), []string{rollout + "exponentialRate.rateIncreaseCriteria.numberOfSucceededThings"}},
		{"no abort criteria", job(`{"abortConfig":{"criteriaList":[]}}`), []string{"iotJobConfiguration.abortConfig.criteriaList"}},
		{"an abort criterion", abort("ALL", "CANCEL", "10.99", "1"), nil},
		{"a threshold of 0", abort("FAILED", "CANCEL", "0", "1"), nil},
		{"no threshold", abort("FAILED", "CANCEL", "null", "1"), []string{criterion + "thresholdPercentage"}},
		{"a threshold with three decimals", abort("FAILED", "CANCEL", "10.999", "1"), []string{criterion + "thresholdPercentage"}},
		{"a threshold over 100", abort("FAILED", "CANCEL", "100.01", "1"), []string{criterion + "thresholdPercentage"}},
		{"an unknown failure type", abort("BROKEN", "CANCEL", "1", "1"), []string{criterion + "failureType"}},
		{"an unknown action", abort("FAILED", "STOP", "1", "1"), []string{criterion + "action"}},
		{"a minimum of no things", abort("FAILED", "CANCEL", "1", "0"), []string{criterion + "minNumberOfExecutedThings"}},
		{"the longest timeout", job(`{"timeoutConfig":{"inProgressTimeoutInMinutes":10080}}`), nil},
		{"a timeout of 0", job(`{"timeoutConfig":{"inProgressTimeoutInMinutes":0}}`), []string{"iotJobConfiguration.timeoutConfig.inProgressTimeoutInMinutes"}},
		{"a timeout over a week", job(`{"timeoutConfig":{"inProgressTimeoutInMinutes":10081}}`), []string{"iotJobConfiguration.timeoutConfig.inProgressTimeoutInMinutes"}},
		{"a reserved tag", func(n *greengrass.NewDeployment) { n.Tags = map[string]string{"aws:x": "y"} }, []string{"tags"}},
		{"a sub-deployment to a thing", func(n *greengrass.NewDeployment) { n.Kind, n.Parent = names.TargetThing, "p" }, []string{"targetArn"}},
		{"a sub-deployment on behalf of itself", func(n *greengrass.NewDeployment) { n.Parent = "g" }, []string{"parentTargetArn"}},
		{"two at once", func(n *greengrass.NewDeployment) {
			n.Policies.FailureHandling = ""
			n.Components["com.x"] = greengrass.Component{}
		}, []string{"components.com.x.componentVersion", "deploymentPolicies.failureHandlingPolicy"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := group("g", "1.0.0")
			c.change(&n)
			_, err := k.Create(t.Context(), n)
			if c.fields == nil {
				require.NoError(t, err)
				before = k.dump()
				return
			}
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, c.fields, fields(err))
			assert.Equal(t, before, k.dump(), "nothing is stored")
		})
	}
}
