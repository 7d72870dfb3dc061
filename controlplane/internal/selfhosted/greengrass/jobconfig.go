package greengrass

// JobConfig steers how a group's deployment reaches its cores: the
// iotJobConfiguration of the API, member by member (greengrassv2-api §11).
type JobConfig struct {
	Rollout *RolloutConfig `json:"jobExecutionsRolloutConfig,omitempty"`
	Abort   *AbortConfig   `json:"abortConfig,omitempty"`
	Timeout *TimeoutConfig `json:"timeoutConfig,omitempty"`
}

// RolloutConfig bounds the notifications a minute.
type RolloutConfig struct {
	Exponential *ExponentialRate `json:"exponentialRate,omitempty"`
	Maximum     *int32           `json:"maximumPerMinute,omitempty"` // 1..1000
}

// ExponentialRate is a rate that grows each time a watched counter passes
// another multiple of its criterion.
type ExponentialRate struct {
	Base     int32            `json:"baseRatePerMinute"`    // 1..1000
	Factor   float64          `json:"incrementFactor"`      // 1..5, one decimal
	Increase *IncreaseWatched `json:"rateIncreaseCriteria"` // at least one counter
}

// IncreaseWatched are the counters that let the rate grow; with both, whichever
// reaches its number first counts.
type IncreaseWatched struct {
	Notified  *int32 `json:"numberOfNotifiedThings,omitempty"`
	Succeeded *int32 `json:"numberOfSucceededThings,omitempty"`
}

// AbortConfig says what cancels a deployment; one criterion that fires is enough.
type AbortConfig struct {
	Criteria []AbortCriterion `json:"criteriaList"`
}

// AbortCriterion fires when both numbers are reached.
type AbortCriterion struct {
	FailureType string   `json:"failureType"`         // FAILED, REJECTED, TIMED_OUT, ALL
	Action      string   `json:"action"`              // CANCEL
	Threshold   *float64 `json:"thresholdPercentage"` // 0..100, two decimals; required
	MinExecuted int32    `json:"minNumberOfExecutedThings"`
}

// TimeoutConfig bounds an execution from its IN_PROGRESS on.
type TimeoutConfig struct {
	Minutes *int64 `json:"inProgressTimeoutInMinutes,omitempty"` // 1..10080
}

// timeoutMinutes is 0 for none.
func (c JobConfig) timeoutMinutes() int {
	if c.Timeout == nil || c.Timeout.Minutes == nil {
		return 0
	}
	return int(*c.Timeout.Minutes)
}
