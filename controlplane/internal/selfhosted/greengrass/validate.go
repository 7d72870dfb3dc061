package greengrass

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/tag"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/recipe/semver"
)

// Bounds of what a deployment may say (greengrassv2-api §4, §7, §10, §11). What
// AWS leaves open is bounded by the size of the document; the number of criteria,
// which are not in it, by maxCriteria.
const (
	maxName           = 256
	maxVersion        = 64
	maxMerge          = 10 << 20
	maxPointer        = 256
	maxMemory         = 9223372036854771712 // KB
	maxPolicyTimeout  = math.MaxInt32       // seconds
	maxTimeoutMinutes = 10080
	maxPerMinute      = 1000
	maxFactor         = 5
	maxCriteria       = 100
)

// faults gathers what is wrong with the members of an input.
type faults []error

func (f *faults) add(err error) {
	if err != nil {
		*f = append(*f, err)
	}
}

func (f *faults) field(bad bool, path, format string, args ...any) {
	if bad {
		f.add(fault.Field(path, format, args...))
	}
}

func (f *faults) under(path string, inner faults) {
	for _, err := range inner {
		f.add(fault.Under(path, err))
	}
}

// validate returns what is wrong with n whatever is stored: nil, or the joined
// errors of all its members, each of which names the member's path.
func (n NewDeployment) validate() error {
	var f faults
	f.field(utf8.RuneCountInString(n.Name) > maxName, "deploymentName", "is %d characters long, over the limit of %d", utf8.RuneCountInString(n.Name), maxName)
	for _, name := range sortedKeys(n.Components) {
		if err := names.CheckComponent(name); err != nil {
			f.add(fault.Field("components."+name, "%s", fault.Message(err)))
			continue
		}
		f.under("components."+name, n.Components[name].validate())
	}
	f.under("deploymentPolicies", n.Policies.validate())
	f.under("iotJobConfiguration", n.JobConfig.validate())
	f.add(tag.Check(n.Tags))
	if n.Parent != "" {
		f.field(n.Kind != names.TargetThingGroup, "targetArn", "must be a thing group, since parentTargetArn is given")
		f.field(n.Kind == names.TargetThingGroup && n.Parent == n.Target, "parentTargetArn", "must be another thing group than targetArn")
	}
	return errors.Join(f...)
}

func (c Component) validate() (f faults) {
	switch _, err := semver.Parse(c.Version); {
	case c.Version == "":
		f.field(true, "componentVersion", "is required")
	case len(c.Version) > maxVersion:
		f.field(true, "componentVersion", "is %d characters long, over the limit of %d", len(c.Version), maxVersion)
	case err != nil:
		f.field(true, "componentVersion", "%q is not an exact version such as 1.0.0", c.Version)
	}
	if u := c.Update; u != nil {
		f.under("configurationUpdate", u.validate())
	}
	if r := c.RunWith; r != nil {
		f.under("runWith", r.validate())
	}
	return f
}

func (u ConfigurationUpdate) validate() (f faults) {
	if u.Merge != nil {
		if _, err := object(u.Merge); err != nil {
			f.field(true, "merge", "%s", err)
		} else {
			f.field(len(*u.Merge) > maxMerge, "merge", "is %d bytes long, over the limit of %d", len(*u.Merge), maxMerge)
		}
	}
	for i, p := range u.Reset {
		path := fmt.Sprintf("reset[%d]", i)
		f.field(utf8.RuneCountInString(p) > maxPointer, path, "is %d characters long, over the limit of %d", utf8.RuneCountInString(p), maxPointer)
		f.field(p != "" && p[0] != '/', path, "%.40q is no JSON pointer: want \"\" for the whole configuration, or / and the keys", p)
	}
	return f
}

func (r RunWith) validate() (f faults) {
	f.field(r.PosixUser != nil && *r.PosixUser == "", "posixUser", "must not be empty; leave it out for the core's own user")
	f.field(r.WindowsUser != nil && *r.WindowsUser == "", "windowsUser", "must not be empty; leave it out for the core's own user")
	if l := r.Limits; l != nil {
		f.field(l.Memory != nil && (*l.Memory < 0 || *l.Memory > maxMemory), "systemResourceLimits.memory", "must be between 0 and %d kilobytes", int64(maxMemory))
		f.field(l.CPUs != nil && (!(*l.CPUs >= 0) || math.IsInf(*l.CPUs, 0)), "systemResourceLimits.cpus", "must be a number of at least 0")
	}
	return f
}

func (p Policies) validate() (f faults) {
	f.field(!slices.Contains([]string{"ROLLBACK", "DO_NOTHING"}, p.FailureHandling), "failureHandlingPolicy",
		"is %.40q, want ROLLBACK or DO_NOTHING", p.FailureHandling)
	f.field(!slices.Contains([]string{"NOTIFY_COMPONENTS", "SKIP_NOTIFY_COMPONENTS"}, p.UpdateAction), "componentUpdatePolicy.action",
		"is %.40q, want NOTIFY_COMPONENTS or SKIP_NOTIFY_COMPONENTS", p.UpdateAction)
	f.field(p.UpdateTimeout < 0 || p.UpdateTimeout > maxPolicyTimeout, "componentUpdatePolicy.timeoutInSeconds", "is %d, must be between 0 and %d", p.UpdateTimeout, maxPolicyTimeout)
	f.field(p.ValidationTimeout < 0 || p.ValidationTimeout > maxPolicyTimeout, "configurationValidationPolicy.timeoutInSeconds", "is %d, must be between 0 and %d", p.ValidationTimeout, maxPolicyTimeout)
	return f
}

func (c JobConfig) validate() (f faults) {
	if r := c.Rollout; r != nil {
		f.under("jobExecutionsRolloutConfig", r.validate())
	}
	if a := c.Abort; a != nil {
		f.field(len(a.Criteria) == 0, "abortConfig.criteriaList", "must have at least one entry")
		f.field(len(a.Criteria) > maxCriteria, "abortConfig.criteriaList", "has %d entries, over the limit of %d", len(a.Criteria), maxCriteria)
		for i, x := range a.Criteria[:min(len(a.Criteria), maxCriteria)] {
			f.under(fmt.Sprintf("abortConfig.criteriaList[%d]", i), x.validate())
		}
	}
	if t := c.Timeout; t != nil && t.Minutes != nil {
		f.field(*t.Minutes < 1 || *t.Minutes > maxTimeoutMinutes, "timeoutConfig.inProgressTimeoutInMinutes", "is %d, must be between 1 and %d", *t.Minutes, maxTimeoutMinutes)
	}
	return f
}

func (r RolloutConfig) validate() (f faults) {
	f.field(r.Maximum != nil && (*r.Maximum < 1 || *r.Maximum > maxPerMinute), "maximumPerMinute", "must be between 1 and %d", maxPerMinute)
	x := r.Exponential
	if x == nil {
		return f
	}
	f.field(x.Base < 1 || x.Base > maxPerMinute, "exponentialRate.baseRatePerMinute", "is %d, must be between 1 and %d", x.Base, maxPerMinute)
	f.field(!(x.Factor >= 1 && x.Factor <= maxFactor), "exponentialRate.incrementFactor", "is %v, must be between 1 and %d", x.Factor, maxFactor)
	f.field(decimals(x.Factor) > 1, "exponentialRate.incrementFactor", "is %v, must have at most one decimal", x.Factor)
	if w := x.Increase; w == nil || w.Notified == nil && w.Succeeded == nil {
		f.field(true, "exponentialRate.rateIncreaseCriteria", "must have numberOfNotifiedThings, numberOfSucceededThings or both")
	} else {
		f.field(w.Notified != nil && *w.Notified < 1, "exponentialRate.rateIncreaseCriteria.numberOfNotifiedThings", "must be at least 1")
		f.field(w.Succeeded != nil && *w.Succeeded < 1, "exponentialRate.rateIncreaseCriteria.numberOfSucceededThings", "must be at least 1")
	}
	return f
}

func (a AbortCriterion) validate() (f faults) {
	f.field(!slices.Contains([]string{"FAILED", "REJECTED", "TIMED_OUT", "ALL"}, a.FailureType), "failureType", "is %.40q, want FAILED, REJECTED, TIMED_OUT or ALL", a.FailureType)
	f.field(a.Action != "CANCEL", "action", "is %.40q, want CANCEL", a.Action)
	if a.Threshold == nil {
		f.field(true, "thresholdPercentage", "is required")
	} else {
		f.field(!(*a.Threshold >= 0 && *a.Threshold <= 100), "thresholdPercentage", "is %v, must be between 0 and 100", *a.Threshold)
		f.field(decimals(*a.Threshold) > 2, "thresholdPercentage", "is %v, must have at most two decimals", *a.Threshold)
	}
	f.field(a.MinExecuted < 1, "minNumberOfExecutedThings", "must be at least 1")
	return f
}

// decimals counts the digits after the point that it takes to write v.
func decimals(v float64) int {
	_, after, _ := strings.Cut(strconv.FormatFloat(v, 'f', -1, 64), ".")
	return len(after)
}
