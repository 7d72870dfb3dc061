package fleet_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestAJobConfigurationIsReadInBothSpellings(t *testing.T) {
	want := fleet.JobConfig{
		MaximumPerMinute: 50, Exponential: &fleet.ExponentialRate{BasePerMinute: 5, Factor: 1.5, Notified: 10, Succeeded: 20},
		Abort: []fleet.AbortCriterion{{FailureType: "ALL", Threshold: 5.25, MinExecuted: 100}}, TimeoutMinutes: 10080,
	}
	for name, text := range map[string]string{
		"as templates do": `{"jobExecutionsRolloutConfig":{"maximumPerMinute":50,"exponentialRate":{"baseRatePerMinute":5,"incrementFactor":1.5,
			"rateIncreaseCriteria":{"numberOfNotifiedThings":10,"numberOfSucceededThings":20}}},
			"abortConfig":{"criteriaList":[{"failureType":"ALL","action":"CANCEL","thresholdPercentage":5.25,"minNumberOfExecutedThings":100}]},
			"timeoutConfig":{"inProgressTimeoutInMinutes":10080}}`,
		"W-32: as the tasks of the original do": `{"jobExecutionRolloutConfig":{"maximumPerMinute":50,"exponentialRate":{"baseRatePerMinute":5,"incrementFactor":1.5,
			"rateIncreaseCriteria":{"numberOfNotifiedTargets":10,"numberOfSucceededTargets":20}}},
			"abortConfig":{"criteriaList":[{"failureType":"ALL","action":"CANCEL","thresholdPercentage":5.25,"minnumberOfExecutedThings":100}]},
			"timeoutConfig":{"inProgressTimeoutInMinutes":10080}}`,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fleet.ParseJobConfig(json.RawMessage(text))
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
}

func TestAJobConfigurationThatCannotBeIsRefusedWithItsMember(t *testing.T) {
	for text, field := range map[string]string{
		`{"jobExecutionsRolloutConfig":{"maximumPerMinute":0}}`:    "jobExecutionsRolloutConfig.maximumPerMinute",
		`{"jobExecutionsRolloutConfig":{"maximumPerMinute":1001}}`: "jobExecutionsRolloutConfig.maximumPerMinute",
		`{"jobExecutionRolloutConfig":{"maximumPerMinute":-1}}`:    "jobExecutionRolloutConfig.maximumPerMinute",
		`{"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":5,"incrementFactor":1.55,"rateIncreaseCriteria":{"numberOfNotifiedThings":1}}}}`: "jobExecutionsRolloutConfig.exponentialRate.incrementFactor",
		`{"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":5,"incrementFactor":2,"rateIncreaseCriteria":{}}}}`:                              "jobExecutionsRolloutConfig.exponentialRate.rateIncreaseCriteria",
		`{"jobExecutionsRolloutConfig":{"exponentialRate":{"incrementFactor":2,"rateIncreaseCriteria":{"numberOfNotifiedThings":1}}}}`:                          "jobExecutionsRolloutConfig.exponentialRate.baseRatePerMinute",
		`{"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":5,"incrementFactor":2,"rateIncreaseCriteria":{"numberOfSucceededThings":0}}}}`:   "jobExecutionsRolloutConfig.exponentialRate.rateIncreaseCriteria.numberOfSucceededThings",
		`{"abortConfig":{"criteriaList":[]}}`: "abortConfig.criteriaList",
		`{"abortConfig":{}}`:                  "abortConfig.criteriaList",
		`{"abortConfig":{"criteriaList":[{"failureType":"BROKEN","action":"CANCEL","thresholdPercentage":1,"minNumberOfExecutedThings":1}]}}`:  "abortConfig.criteriaList[0].failureType",
		`{"abortConfig":{"criteriaList":[{"failureType":"ALL","action":"PAUSE","thresholdPercentage":1,"minNumberOfExecutedThings":1}]}}`:      "abortConfig.criteriaList[0].action",
		`{"abortConfig":{"criteriaList":[{"failureType":"ALL","action":"CANCEL","thresholdPercentage":1.234,"minNumberOfExecutedThings":1}]}}`: "abortConfig.criteriaList[0].thresholdPercentage",
		`{"abortConfig":{"criteriaList":[{"failureType":"ALL","action":"CANCEL","thresholdPercentage":101,"minNumberOfExecutedThings":1}]}}`:   "abortConfig.criteriaList[0].thresholdPercentage",
		`{"abortConfig":{"criteriaList":[{"failureType":"ALL","action":"CANCEL","thresholdPercentage":1}]}}`:                                   "abortConfig.criteriaList[0].minNumberOfExecutedThings",
		`{"timeoutConfig":{"inProgressTimeoutInMinutes":10081}}`:                                                                               "timeoutConfig.inProgressTimeoutInMinutes",
		`{"timeoutConfig":{}}`: "timeoutConfig.inProgressTimeoutInMinutes",
		`{"jobExecutionsRolloutConfig":{"maximumPerMinute":"many"}}`: "jobExecutionsRolloutConfig.maximumPerMinute",
		`{"timeoutConfig":{"inProgressTimeoutInMinutes":1.5}}`:       "timeoutConfig.inProgressTimeoutInMinutes",
		`{"rollout":"` + strings.Repeat("x", 64<<10) + `"}`:          "",
		`{"rollout":{}}`: "",
		`[]`:             "",
		`{"jobExecutionsRolloutConfig":{"maximumPerMinutes":1}}`: "",
		`{"jobExecutionsRolloutConfig":[]}`:                      "jobExecutionsRolloutConfig",
	} {
		_, err := fleet.ParseJobConfig(json.RawMessage(text))
		require.ErrorIs(t, err, fault.Invalid, text)
		assert.Equal(t, field, fault.FieldOf(err), "%s: %s", text, fault.Message(err))
	}
}

// What a request names replaces the template's, member by member.
func TestTheRequestsConfigurationGoesOverTheTemplates(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		n := fleet.NewTemplate{
			Name: "paced", Components: []fleet.TemplateComponent{{Key: "com.example.App", Version: "1.0.0"}},
			JobConfig: json.RawMessage(`{"jobExecutionsRolloutConfig":{"maximumPerMinute":7},"timeoutConfig":{"inProgressTimeoutInMinutes":3},
				"abortConfig":{"criteriaList":[{"failureType":"FAILED","action":"CANCEL","thresholdPercentage":10,"minNumberOfExecutedThings":2}]}}`),
		}
		_, err := k.CreateTemplate(k.ctx, n)
		require.NoError(t, err)
		k.provisioned("a")
		for config, want := range map[string]float64{"": 7, `{"jobExecutionRolloutConfig":{"maximumPerMinute":9}}`: 9, `{"abortConfig":{"criteriaList":[
			{"failureType":"ALL","action":"CANCEL","thresholdPercentage":1,"minNumberOfExecutedThings":1}]}}`: 7} {
			id, err := k.CreateDeploymentTask(k.ctx, fleet.NewDeploymentTask{TemplateName: "paced", Targets: to("a"), IoTJobConfig: json.RawMessage(config)}, "")
			require.NoError(t, err)
			k.await(id)
			assert.InDelta(t, want, k.rollout(id).RatePerMinute, 0, config)
		}
		_, err = k.CreateDeploymentTask(k.ctx, fleet.NewDeploymentTask{TemplateName: "paced", Targets: to("a"), IoTJobConfig: json.RawMessage(`{"timeoutConfig":{"inProgressTimeoutInMinutes":0}}`)}, "")
		require.ErrorIs(t, err, fault.Invalid)
		assert.Equal(t, "iotJobConfig.timeoutConfig.inProgressTimeoutInMinutes", fault.FieldOf(err))
	})
}

func FuzzParseJobConfig(f *testing.F) {
	f.Add([]byte(`{"jobExecutionsRolloutConfig":{"maximumPerMinute":50}}`))
	f.Add([]byte(`{"abortConfig":{"criteriaList":[{"failureType":"ALL","action":"CANCEL","thresholdPercentage":5,"minNumberOfExecutedThings":1}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := fleet.ParseJobConfig(b)
		if err != nil {
			require.NotEmpty(t, fault.Message(err))
			return
		}
		assert.LessOrEqual(t, c.MaximumPerMinute, 1000)
		assert.LessOrEqual(t, c.TimeoutMinutes, 10080)
	})
}

func FuzzParseTargets(f *testing.F) {
	f.Add([]byte(`{"thingNames":["a"],"thingGroups":["g"],"assetLibraryQuery":{"types":["t"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := fleet.ParseTargets(b); err != nil {
			require.NotEmpty(t, fault.Message(err))
		}
	})
}
