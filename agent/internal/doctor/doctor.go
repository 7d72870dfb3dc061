package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// Status is how a check ended.
type Status string

// The ways for a check to end.
const (
	OK      Status = "ok"
	Warning Status = "warning" // it works, and will not for ever
	Failed  Status = "failed"
	Skipped Status = "skipped" // it does not apply here, or stands on a check that failed
)

// Result is what one check found.
type Result struct {
	Code    string `json:"code"`
	Name    string `json:"name"`
	Status  Status `json:"status"`
	Detail  string `json:"detail"`            // what was seen, with the value
	Meaning string `json:"meaning,omitempty"` // of a check that did not pass, as is Fix
	Fix     string `json:"fix,omitempty"`
}

// Check is one thing that is looked at.
type Check struct {
	Code    string
	Name    string
	Meaning string // what it means when it does not pass
	Fix     string // what to do then
	Needs   []string
	run     func(ctx context.Context, e *examination) finding
}

// finding is the result of one check without what is known beforehand.
type finding struct {
	status Status
	detail string
}

func passed(format string, args ...any) finding { return finding{OK, fmt.Sprintf(format, args...)} }
func warned(format string, args ...any) finding {
	return finding{Warning, fmt.Sprintf(format, args...)}
}

func failed(format string, args ...any) finding { return finding{Failed, fmt.Sprintf(format, args...)} }

func skipped(format string, args ...any) finding {
	return finding{Skipped, fmt.Sprintf(format, args...)}
}

// checkTime bounds one check; the network of a device can swallow packets.
const checkTime = 10 * time.Second

// examination is one run over all checks.
type examination struct {
	Host
	Device
	server *x509.Certificate // of the HTTPS port, once that is trusted
	answer *answer           // of the control plane, once it was asked
}

// Run carries out all checks, in order, and returns one result for each. It
// takes some seconds; checks that ctx cuts short have failed.
func Run(ctx context.Context, h Host, d Device) []Result {
	e := &examination{Host: h, Device: d}
	var out []Result
	stands := map[string]bool{} // codes that passed or warned
	for _, c := range checks() {
		f := e.do(ctx, c, stands)
		stands[c.Code] = f.status == OK || f.status == Warning
		r := Result{Code: c.Code, Name: c.Name, Status: f.status, Detail: f.detail}
		if f.status == Failed || f.status == Warning {
			r.Meaning, r.Fix = c.Meaning, c.Fix
		}
		out = append(out, r)
	}
	return out
}

func (e *examination) do(ctx context.Context, c Check, stands map[string]bool) finding {
	if i := slices.IndexFunc(c.Needs, func(code string) bool { return !stands[code] }); i >= 0 {
		return skipped("needs %s", c.Needs[i])
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	return c.run(ctx, e)
}

// Worst returns the worst status among the results: Failed, Warning or OK.
func Worst(results []Result) Status {
	worst := OK
	for _, r := range results {
		if r.Status == Failed {
			return Failed
		}
		if r.Status == Warning {
			worst = Warning
		}
	}
	return worst
}
