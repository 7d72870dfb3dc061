package rollout

// Config is how a rollout is paced, when it stops, and how long a core may take
// (cdf-services §2.1; greengrassv2-api §11).
type Config struct {
	MaximumPerMinute int          `json:"maximumPerMinute,omitempty"` // notifications; 0: no limit
	Exponential      *Exponential `json:"exponential,omitempty"`
	Abort            []Criterion  `json:"abort,omitempty"`
	TimeoutMinutes   int          `json:"timeoutMinutes,omitempty"` // from IN_PROGRESS on; 0: none
}

// Exponential begins with BasePerMinute notifications a minute. Each time one of
// the counters passes another multiple of its criterion, the rate is multiplied.
type Exponential struct {
	BasePerMinute int     `json:"basePerMinute"` // 1 to 1000
	Factor        float64 `json:"factor"`        // 1 to 5, one decimal
	Notified      int     `json:"notified,omitempty"`
	Succeeded     int     `json:"succeeded,omitempty"` // one of the two at least is set
}

// Criterion stops a rollout when both hold: MinExecuted cores took the
// deployment up, and of those Threshold per cent or more failed in the way of
// FailureType.
type Criterion struct {
	FailureType string  `json:"failureType"`         // FAILED, REJECTED, TIMED_OUT, ALL
	Threshold   float64 `json:"thresholdPercentage"` // 0 to 100, two decimals
	MinExecuted int     `json:"minNumberOfExecutedThings"`
}

// MaxRate is the largest rate, in notifications a minute, that a configuration may name.
const MaxRate = 1000

// Paced reports whether notifications must be counted.
func (c Config) Paced() bool {
	return c.MaximumPerMinute > 0 || c.Exponential != nil || len(c.Abort) > 0
}
