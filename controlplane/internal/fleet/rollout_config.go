package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/rollout"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// JobConfig is how a deployment task paces its joins, when it stops, and how long
// a core may take (cdf-services §2.1; greengrassv2-api §11).
type JobConfig = rollout.Config

// ExponentialRate is how the rate of a JobConfig grows.
type ExponentialRate = rollout.Exponential

// AbortCriterion is when a JobConfig stops its task.
type AbortCriterion = rollout.Criterion

// jobConfigInput has the members as templates spell them and, beside them, as the
// deployment tasks of the original do (cdf-services §2.5 E19).
type jobConfigInput struct {
	Rollout  *rolloutInput `json:"jobExecutionsRolloutConfig"`
	Rollout2 *rolloutInput `json:"jobExecutionRolloutConfig"`
	Abort    *struct {
		Criteria []struct {
			FailureType string   `json:"failureType"`
			Action      string   `json:"action"`
			Threshold   *float64 `json:"thresholdPercentage"`
			Min         *int     `json:"minNumberOfExecutedThings"` // encoding/json takes any letter case
		} `json:"criteriaList"`
	} `json:"abortConfig"`
	Timeout *struct {
		Minutes *int `json:"inProgressTimeoutInMinutes"`
	} `json:"timeoutConfig"`
}

type rolloutInput struct {
	Maximum     *int `json:"maximumPerMinute"`
	Exponential *struct {
		Base     *int     `json:"baseRatePerMinute"`
		Factor   *float64 `json:"incrementFactor"`
		Criteria *struct {
			NotifiedThings   *int `json:"numberOfNotifiedThings"`
			NotifiedTargets  *int `json:"numberOfNotifiedTargets"`
			SucceededThings  *int `json:"numberOfSucceededThings"`
			SucceededTargets *int `json:"numberOfSucceededTargets"`
		} `json:"rateIncreaseCriteria"`
	} `json:"exponentialRate"`
}

// ParseJobConfig reads a jobConfig or an iotJobConfig. Errors name the member,
// from the configuration on. Nothing given: nothing set.
func ParseJobConfig(raw json.RawMessage) (JobConfig, error) {
	if len(raw) == 0 {
		return JobConfig{}, nil
	}
	c, _, err := parseJobConfig(raw)
	return c, err
}

// maxJobConfig is how many bytes one configuration may have.
const maxJobConfig = 64 << 10

// given tells which top-level members a configuration has.
type given struct{ rollout, abort, timeout bool }

func parseJobConfig(raw json.RawMessage) (JobConfig, given, error) {
	if len(raw) > maxJobConfig {
		return JobConfig{}, given{}, fault.New(fault.Invalid, "has %d bytes, over the limit of %d", len(raw), maxJobConfig)
	}
	var in jobConfigInput
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return JobConfig{}, given{}, decodeFault(err)
	}
	has := given{rollout: in.Rollout != nil || in.Rollout2 != nil, abort: in.Abort != nil, timeout: in.Timeout != nil}
	var c JobConfig
	pace, at := in.Rollout, "jobExecutionsRolloutConfig"
	if pace == nil {
		pace, at = in.Rollout2, "jobExecutionRolloutConfig"
	}
	if err := setRate(&c, pace); err != nil {
		return c, has, fault.Under(at, err)
	}
	if in.Abort != nil {
		if len(in.Abort.Criteria) == 0 {
			return c, has, fault.Field("abortConfig.criteriaList", "is empty, want at least one criterion")
		}
		for i, x := range in.Abort.Criteria {
			if x.Action != "" && x.Action != "CANCEL" {
				return c, has, fault.Field(fmt.Sprintf("abortConfig.criteriaList[%d].action", i), "is %q, want CANCEL", x.Action)
			}
			a, err := abortCriterion(x.FailureType, x.Threshold, x.Min)
			if err != nil {
				return c, has, fault.Under(fmt.Sprintf("abortConfig.criteriaList[%d]", i), err)
			}
			c.Abort = append(c.Abort, a)
		}
	}
	if in.Timeout != nil {
		if err := within("timeoutConfig.inProgressTimeoutInMinutes", in.Timeout.Minutes, 10080); err != nil {
			return c, has, err
		}
		c.TimeoutMinutes = *in.Timeout.Minutes
	}
	return c, has, nil
}

func setRate(c *JobConfig, in *rolloutInput) error {
	if in == nil {
		return nil
	}
	if in.Maximum != nil {
		if err := within("maximumPerMinute", in.Maximum, rollout.MaxRate); err != nil {
			return err
		}
		c.MaximumPerMinute = *in.Maximum
	}
	e := in.Exponential
	if e == nil {
		return nil
	}
	const at = "exponentialRate"
	if err := within(at+".baseRatePerMinute", e.Base, rollout.MaxRate); err != nil {
		return err
	}
	if e.Factor == nil || *e.Factor < 1 || *e.Factor > 5 || !decimals(*e.Factor, 1) {
		return fault.Field(at+".incrementFactor", "must be a number from 1 to 5 with at most one decimal")
	}
	c.Exponential = &ExponentialRate{BasePerMinute: *e.Base, Factor: *e.Factor}
	if e.Criteria != nil {
		for _, x := range []struct {
			name string
			from *int
			to   *int
		}{
			{"numberOfNotifiedThings", e.Criteria.NotifiedThings, &c.Exponential.Notified},
			{"numberOfNotifiedTargets", e.Criteria.NotifiedTargets, &c.Exponential.Notified},
			{"numberOfSucceededThings", e.Criteria.SucceededThings, &c.Exponential.Succeeded},
			{"numberOfSucceededTargets", e.Criteria.SucceededTargets, &c.Exponential.Succeeded},
		} {
			if x.from == nil {
				continue
			}
			if err := within(at+".rateIncreaseCriteria."+x.name, x.from, math.MaxInt32); err != nil {
				return err
			}
			*x.to = *x.from
		}
	}
	if c.Exponential.Notified == 0 && c.Exponential.Succeeded == 0 {
		return fault.Field(at+".rateIncreaseCriteria", "names neither numberOfNotifiedThings nor numberOfSucceededThings; want one of them or both")
	}
	return nil
}

func abortCriterion(failureType string, threshold *float64, least *int) (AbortCriterion, error) {
	switch failureType {
	case "FAILED", "REJECTED", "TIMED_OUT", "ALL":
	default:
		return AbortCriterion{}, fault.Field("failureType", "is %q, want FAILED, REJECTED, TIMED_OUT or ALL", failureType)
	}
	if threshold == nil || *threshold < 0 || *threshold > 100 || !decimals(*threshold, 2) {
		return AbortCriterion{}, fault.Field("thresholdPercentage", "must be a number from 0 to 100 with at most two decimals")
	}
	if err := within("minNumberOfExecutedThings", least, math.MaxInt32); err != nil {
		return AbortCriterion{}, err
	}
	return AbortCriterion{FailureType: failureType, Threshold: *threshold, MinExecuted: *least}, nil
}

func within(path string, v *int, most int) error {
	if v == nil {
		return fault.Field(path, "is missing, want a number from 1 to %d", most)
	}
	if *v < 1 || *v > most {
		return fault.Field(path, "is %d, want 1 to %d", *v, most)
	}
	return nil
}

// decimals reports whether v has at most n digits after the point.
func decimals(v float64, n int) bool {
	x := v * math.Pow10(n)
	return math.Abs(x-math.Round(x)) < 1e-6
}

// decodeFault names the member that does not have the form of a job configuration.
func decodeFault(err error) error {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && t.Field != "" {
		return fault.Field(t.Field, "is a JSON %s, want %s", t.Value, jsonKind(t))
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fault.New(fault.Invalid, "%s is not a member", name)
	}
	return fault.New(fault.Invalid, "does not have the right form: %s", err)
}

func jsonKind(t *json.UnmarshalTypeError) string {
	switch k := t.Type.Kind().String(); k {
	case "struct":
		return "an object"
	case "slice":
		return "an array"
	case "string":
		return "text"
	case "int", "float64":
		return "a number"
	default:
		return k
	}
}

// over returns the configuration of a task: what the request names replaces, top
// member by top member, what the template says.
func over(template, request json.RawMessage) (JobConfig, error) {
	c, err := ParseJobConfig(template)
	if err != nil || len(request) == 0 {
		return c, fault.Under("template.jobConfig", err)
	}
	r, has, err := parseJobConfig(request)
	if err != nil {
		return c, fault.Under("iotJobConfig", err)
	}
	if has.rollout {
		c.MaximumPerMinute, c.Exponential = r.MaximumPerMinute, r.Exponential
	}
	if has.abort {
		c.Abort = r.Abort
	}
	if has.timeout {
		c.TimeoutMinutes = r.TimeoutMinutes
	}
	return c, nil
}
