package compat_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func (d deployments) refused(t *testing.T) {
	target := d.group(t, "refused")
	component := func(text string) string { return fmt.Sprintf(`"components":{%q:%s}`, helloApp, text) }
	job := func(text string) string { return `"iotJobConfiguration":` + text }
	const at, rollout, criterion = "components." + helloApp + ".", "iotJobConfiguration.jobExecutionsRolloutConfig.", "iotJobConfiguration.abortConfig.criteriaList[0]."
	tags := make([]string, 51)
	for i := range tags {
		tags[i] = fmt.Sprintf(`"k%d":""`, i)
	}
	for body, field := range map[string]string{
		`"deploymentName":""`: "deploymentName",
		`"deploymentName":"` + strings.Repeat("x", 257) + `"`: "deploymentName",
		`"deploymentName":1`:                                "deploymentName",
		`"clientToken":"a_b"`:                               "clientToken",
		`"clientToken":""`:                                  "clientToken",
		`"tags":{"aws:x":"y"}`:                              "tags",
		`"tags":{"":"y"}`:                                   "tags.",
		`"tags":{"k":null}`:                                 "tags.k",
		`"tags":{` + strings.Join(tags, ",") + `}`:          "tags",
		`"components":[]`:                                   "components",
		`"components":{"a b":{"componentVersion":"1.0.0"}}`: "components.a b",
		component(`{}`):                                     at + "componentVersion",
		component(`{"componentVersion":1}`):                 at + "componentVersion",
		component(`{"componentVersion":"^1.0.0"}`):          at + "componentVersion",
		component(`{"componentVersion":"1.0.0","configurationUpdate":{"merge":{}}}`):                                                                                 at + "configurationUpdate.merge",
		component(`{"componentVersion":"1.0.0","configurationUpdate":{"merge":"null"}}`):                                                                             at + "configurationUpdate.merge",
		component(`{"componentVersion":"1.0.0","configurationUpdate":{"reset":["a"]}}`):                                                                              at + "configurationUpdate.reset[0]",
		component(`{"componentVersion":"1.0.0","configurationUpdate":{"reset":[null]}}`):                                                                             at + "configurationUpdate.reset[0]",
		component(`{"componentVersion":"1.0.0","runWith":{"posixUser":""}}`):                                                                                         at + "runWith.posixUser",
		component(`{"componentVersion":"1.0.0","runWith":{"systemResourceLimits":{"memory":9223372036854771713}}}`):                                                  at + "runWith.systemResourceLimits.memory",
		component(`{"componentVersion":"1.0.0","runWith":{"systemResourceLimits":{"memory":1e30}}}`):                                                                 at + "runWith.systemResourceLimits.memory",
		component(`{"componentVersion":"1.0.0","runWith":{"systemResourceLimits":{"memory":0.5}}}`):                                                                  at + "runWith.systemResourceLimits.memory",
		component(`{"componentVersion":"1.0.0","runWith":{"systemResourceLimits":{"cpus":-1}}}`):                                                                     at + "runWith.systemResourceLimits.cpus",
		`"deploymentPolicies":{"failureHandlingPolicy":"rollback"}`:                                                                                                  "deploymentPolicies.failureHandlingPolicy",
		`"deploymentPolicies":{"componentUpdatePolicy":{"action":""}}`:                                                                                               "deploymentPolicies.componentUpdatePolicy.action",
		`"deploymentPolicies":{"componentUpdatePolicy":{"timeoutInSeconds":-1}}`:                                                                                     "deploymentPolicies.componentUpdatePolicy.timeoutInSeconds",
		`"deploymentPolicies":{"configurationValidationPolicy":{"timeoutInSeconds":2147483648}}`:                                                                     "deploymentPolicies.configurationValidationPolicy.timeoutInSeconds",
		job(`{"timeoutConfig":{"inProgressTimeoutInMinutes":0}}`):                                                                                                    "iotJobConfiguration.timeoutConfig.inProgressTimeoutInMinutes",
		job(`{"jobExecutionsRolloutConfig":{"maximumPerMinute":1001}}`):                                                                                              rollout + "maximumPerMinute",
		job(`{"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":1,"incrementFactor":1.55,"rateIncreaseCriteria":{"numberOfNotifiedThings":1}}}}`): rollout + "exponentialRate.incrementFactor",
		job(`{"jobExecutionsRolloutConfig":{"exponentialRate":{"baseRatePerMinute":1,"incrementFactor":1.5,"rateIncreaseCriteria":{}}}}`):                            rollout + "exponentialRate.rateIncreaseCriteria",
		job(`{"abortConfig":{"criteriaList":[]}}`):                                                                                                                   "iotJobConfiguration.abortConfig.criteriaList",
		job(`{"abortConfig":{"criteriaList":[{"failureType":"ALL","action":"CANCEL","thresholdPercentage":10.999,"minNumberOfExecutedThings":1}]}}`):                 criterion + "thresholdPercentage",
		job(`{"abortConfig":{"criteriaList":[{"failureType":"ALL","action":"CANCEL","minNumberOfExecutedThings":1}]}}`):                                              criterion + "thresholdPercentage",
	} {
		raw := d.Raw(t, http.MethodPost, "/greengrass/v2/deployments", "greengrass", fmt.Appendf(nil, `{"targetArn":%q,%s}`, target, body))
		assert.Equal(t, http.StatusBadRequest, raw.Status, body)
		assert.Equal(t, "ValidationException", raw.Header.Get("X-Amzn-Errortype"), body)
		var said struct {
			Reason string
			Fields []struct{ Name, Message string }
		}
		require.NoError(t, json.Unmarshal(raw.Body, &said))
		assert.Equal(t, "FIELD_VALIDATION_FAILED", said.Reason, body)
		require.NotEmpty(t, said.Fields, body)
		assert.Equal(t, field, said.Fields[0].Name, body)
		assert.NotEmpty(t, said.Fields[0].Message)
	}
	for _, arn := range []string{
		"thinggroup/refused", "arn:aws:iot:" + awsRegion + ":" + awsAccount + ":thinggroup/", "arn:aws:iot:eu-west-1:" + awsAccount + ":thinggroup/refused",
		"arn:aws:iot:" + awsRegion + ":111122223333:thinggroup/refused", "arn:aws-cn:iot:" + awsRegion + ":" + awsAccount + ":thinggroup/refused",
		targetARN + "thinggroup/a/b", targetARN + "thing/a b",
	} {
		_, err := d.gg.CreateDeployment(t.Context(), &greengrassv2.CreateDeploymentInput{TargetArn: &arn})
		assert.Equal(t, "targetArn", fieldOf(t, err), arn)
	}
	large := types.ComponentDeploymentSpecification{
		ComponentVersion: aws.String("1.0.0"), ConfigurationUpdate: &types.ComponentConfigurationUpdate{Merge: aws.String(`{"a":"` + strings.Repeat("x", 31<<10) + `"}`)},
	}
	_, err := d.gg.CreateDeployment(t.Context(), &greengrassv2.CreateDeploymentInput{TargetArn: &target, Components: map[string]types.ComponentDeploymentSpecification{helloApp: large}})
	assert.Contains(t, as[*types.ValidationException](t, err).ErrorMessage(), "over the limit of 31744 for a thinggroup")
	for _, body := range []string{"{", "[]", `"x"`, "{}{}", "\xff"} {
		raw := d.Raw(t, http.MethodPost, "/greengrass/v2/deployments", "greengrass", []byte(body))
		assert.Equal(t, http.StatusBadRequest, raw.Status)
		assert.Contains(t, string(raw.Body), "CANNOT_PARSE")
	}
	list, err := d.gg.ListDeployments(t.Context(), &greengrassv2.ListDeploymentsInput{TargetArn: &target})
	require.NoError(t, err)
	assert.Empty(t, list.Deployments, "nothing was stored")
}

func (d deployments) missing(t *testing.T) {
	for _, arn := range []string{targetARN + "thinggroup/nobody", targetARN + "thing/nobody"} {
		_, err := d.gg.CreateDeployment(t.Context(), &greengrassv2.CreateDeploymentInput{TargetArn: &arn})
		none := as[*types.ResourceNotFoundException](t, err)
		assert.Equal(t, "nobody", *none.ResourceId)
		assert.Contains(t, arn, ":"+*none.ResourceType+"/")
	}
	target := d.group(t, "missing")
	_, err := d.gg.CreateDeployment(t.Context(), &greengrassv2.CreateDeploymentInput{TargetArn: &target, Components: hello("3.0.0")})
	none := as[*types.ResourceNotFoundException](t, err)
	assert.Equal(t, "component", *none.ResourceType)
	assert.Contains(t, *none.ResourceId, ":components:"+helloApp+":versions:3.0.0", "by its ARN, as all operations name it")
	for _, id := range []string{"none", "a/b", strings.Repeat("x", 500)} {
		_, err = d.gg.GetDeployment(t.Context(), &greengrassv2.GetDeploymentInput{DeploymentId: &id})
		none = as[*types.ResourceNotFoundException](t, err)
		assert.Equal(t, "deployment", *none.ResourceType)
		assert.Equal(t, id, *none.ResourceId)
		_, err = d.gg.CancelDeployment(t.Context(), &greengrassv2.CancelDeploymentInput{DeploymentId: &id})
		as[*types.ResourceNotFoundException](t, err)
		_, err = d.gg.DeleteDeployment(t.Context(), &greengrassv2.DeleteDeploymentInput{DeploymentId: &id})
		as[*types.ResourceNotFoundException](t, err)
	}
}

func (d deployments) readOnly(t *testing.T) {
	made := d.create(t, greengrassv2.CreateDeploymentInput{TargetArn: aws.String(d.group(t, "read-only"))})
	reader := *d.kit
	reader.AccessKey, reader.Secret = d.newAccessKey(t, map[string]any{"role": "viewer"})
	gg := reader.Greengrass()
	_, err := gg.GetDeployment(t.Context(), &greengrassv2.GetDeploymentInput{DeploymentId: made.DeploymentId})
	require.NoError(t, err)
	_, err = gg.ListDeployments(t.Context(), &greengrassv2.ListDeploymentsInput{})
	require.NoError(t, err)
	_, err = gg.CreateDeployment(t.Context(), &greengrassv2.CreateDeploymentInput{TargetArn: aws.String(targetARN + "thinggroup/read-only")})
	as[*types.AccessDeniedException](t, err)
	_, err = gg.CancelDeployment(t.Context(), &greengrassv2.CancelDeploymentInput{DeploymentId: made.DeploymentId})
	as[*types.AccessDeniedException](t, err)
	_, err = gg.DeleteDeployment(t.Context(), &greengrassv2.DeleteDeploymentInput{DeploymentId: made.DeploymentId})
	as[*types.AccessDeniedException](t, err)
	assert.Equal(t, types.DeploymentStatusActive, d.get(t, made.DeploymentId).DeploymentStatus)
}
