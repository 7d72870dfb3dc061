package jobs

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Job is one unit of work for all members of a target, now and later.
type Job struct {
	ID           string           `json:"id"`
	Kind         names.TargetKind `json:"targetKind"`
	Target       string           `json:"target"` // thing or thing group name
	DeploymentID string           `json:"deploymentId"`
	// Document is the deployment document without creationTimestamp, which is
	// each execution's own (trap 47).
	Document       json.RawMessage `json:"document"`
	TimeoutMinutes int             `json:"timeoutMinutes,omitempty"` // 0: none
	Canceled       bool            `json:"canceled,omitempty"`
	CanceledAt     time.Time       `json:"canceledAt,omitzero"` // also zero if it was canceled before this was kept
	Why            Reason          `json:"why,omitzero"`        // it was canceled
	CreatedAt      time.Time       `json:"createdAt"`
}

// Reason is what whoever cancels a job says of that.
type Reason struct {
	Code    string `json:"code,omitempty"`
	Comment string `json:"comment,omitempty"`
	Force   bool   `json:"force,omitempty"` // what runs was to end as well
}

// Execution is a job on one thing.
type Execution struct {
	JobID        string             `json:"jobId"`
	Thing        string             `json:"thing"`
	Kind         names.TargetKind   `json:"targetKind"`
	Target       string             `json:"target"`
	DeploymentID string             `json:"deploymentId"`
	Status       protocol.JobStatus `json:"status"`
	Details      map[string]string  `json:"details,omitempty"`
	QueuedAt     int64              `json:"queuedAt"`            // seconds
	Stamp        int64              `json:"stamp"`               // milliseconds: creationTimestamp of the document delivered
	StartedAt    int64              `json:"startedAt,omitempty"` // seconds
	UpdatedAt    int64              `json:"updatedAt"`           // seconds
	Version      int64              `json:"version"`
	Number       int64              `json:"number"`
	// Before is how executions of the job on this thing before this one count: empty if
	// none was taken up, IN_PROGRESS if one was and none ended by the device or its time,
	// else as what the first of those ended.
	Before protocol.JobStatus `json:"before,omitempty"`
	// TimeoutMinutes replaces the job's, if not 0.
	TimeoutMinutes int   `json:"timeoutMinutes,omitempty"`
	TimeoutAt      int64 `json:"timeoutAt,omitempty"` // seconds; set when it became IN_PROGRESS
}

// counts is Before of an execution that follows e.
func (e Execution) counts() protocol.JobStatus {
	switch e.Status {
	case protocol.JobSucceeded, protocol.JobFailed, protocol.JobRejected, protocol.JobTimedOut:
		if e.Before == "" || e.Before == protocol.JobInProgress {
			return e.Status
		}
	case protocol.JobQueued, protocol.JobInProgress, protocol.JobRemoved, protocol.JobCanceled:
		if e.Before == "" && e.StartedAt != 0 {
			return protocol.JobInProgress
		}
	}
	return e.Before
}

const prefix = state.Root + "jobs/"

func jobKey(id string) string { return prefix + "job/" + id }

// discardedKey marks a job that goes as soon as no thing has it pending.
func discardedKey(id string) string { return prefix + "discarded/" + id }

// executionAll holds what a device takes up and what ended under one prefix, so
// that one watch has both in the order in which they happened.
func executionAll() string              { return prefix + "execution/" }
func pendingAll() string                { return executionAll() + "pending/" }
func pendingPrefix(thing string) string { return pendingAll() + thing + "/" }

// latest is the newest execution that a thing ever got: the next one is not
// older, whatever its target.
type latest struct {
	QueuedAt int64 `json:"queuedAt"` // seconds
	Stamp    int64 `json:"stamp"`    // milliseconds
	// Gone is set when the thing was deleted, and with it the executions. The
	// device may come back as a thing of the same name, and it still ignores what
	// is not newer than the last it had.
	Gone bool `json:"gone,omitempty"`
}

func latestKey(thing string) string { return prefix + "latest/" + thing }

// pendingKey is where a pending execution lies.
func pendingKey(thing, job string) string { return pendingPrefix(thing) + job }

func endedAll() string                { return executionAll() + "ended/" }
func endedPrefix(thing string) string { return endedAll() + thing + "/" }
func endedKey(thing string, kind names.TargetKind, target string) string {
	return endedPrefix(thing) + string(kind) + "/" + target
}

func deadlineAll() string { return prefix + "deadline/" }

// deadlineKey sorts by time, so that what is due is the front of the range.
func deadlineKey(at int64, thing, job string) string {
	s := strconv.FormatInt(at, 10)
	for len(s) < 12 {
		s = "0" + s
	}
	return deadlineAll() + s + "/" + thing + "/" + job
}
