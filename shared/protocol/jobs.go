package protocol

import "encoding/json"

// JobStatus is the status of one job execution (iot-api §18).
type JobStatus string

// The statuses. All but the first two are final.
const (
	JobQueued     JobStatus = "QUEUED"
	JobInProgress JobStatus = "IN_PROGRESS"
	JobSucceeded  JobStatus = "SUCCEEDED"
	JobFailed     JobStatus = "FAILED"
	JobTimedOut   JobStatus = "TIMED_OUT"
	JobRejected   JobStatus = "REJECTED"
	JobRemoved    JobStatus = "REMOVED"
	JobCanceled   JobStatus = "CANCELED"
)

// Terminal reports whether nothing can follow s.
func (s JobStatus) Terminal() bool {
	switch s {
	case JobSucceeded, JobFailed, JobTimedOut, JobRejected, JobRemoved, JobCanceled:
		return true
	case JobQueued, JobInProgress:
		return false
	}
	return false
}

// Keys of statusDetails that classic sends with a deployment's result.
const (
	DetailStatus       = "detailed-deployment-status"
	DetailFailureCause = "deployment-failure-cause"
	DetailErrorStack   = "deployment-error-stack"
	DetailErrorTypes   = "deployment-error-types"
)

// JobRequest is the payload of any request of the jobs service. ClientToken is
// a pointer because an answer repeats it if and only if the request had one
// (nucleus-contract trap 7).
type JobRequest struct {
	ThingName                string            `json:"thingName,omitempty"`
	JobID                    string            `json:"jobId,omitempty"`
	ClientToken              *string           `json:"clientToken,omitempty"`
	IncludeJobDocument       *bool             `json:"includeJobDocument,omitempty"` // absent: true for get over MQTT, false for update
	IncludeJobExecutionState bool              `json:"includeJobExecutionState,omitempty"`
	ExecutionNumber          int64             `json:"executionNumber,omitempty"`
	Status                   JobStatus         `json:"status,omitempty"`
	StatusDetails            map[string]string `json:"statusDetails,omitempty"`
	ExpectedVersion          int64             `json:"expectedVersion,omitempty"`
	StepTimeoutInMinutes     int64             `json:"stepTimeoutInMinutes,omitempty"`
}

// JobExecution is one execution as sent to a device. Times are whole seconds
// since the epoch. QueuedAt is mandatory: both runtimes lose a job without it.
type JobExecution struct {
	JobID           string            `json:"jobId"`
	ThingName       string            `json:"thingName"`
	Status          JobStatus         `json:"status"`
	StatusDetails   map[string]string `json:"statusDetails,omitempty"`
	QueuedAt        int64             `json:"queuedAt"`
	StartedAt       int64             `json:"startedAt,omitempty"`
	LastUpdatedAt   int64             `json:"lastUpdatedAt"`
	VersionNumber   int64             `json:"versionNumber"`
	ExecutionNumber int64             `json:"executionNumber"`
	JobDocument     json.RawMessage   `json:"jobDocument,omitempty"`
}

// JobExecutionSummary is one execution in lists and in notify.
type JobExecutionSummary struct {
	JobID           string `json:"jobId"`
	QueuedAt        int64  `json:"queuedAt"`
	StartedAt       int64  `json:"startedAt,omitempty"`
	LastUpdatedAt   int64  `json:"lastUpdatedAt"`
	VersionNumber   int64  `json:"versionNumber"`
	ExecutionNumber int64  `json:"executionNumber"`
}

// JobExecutionState accompanies a refused update.
type JobExecutionState struct {
	Status        JobStatus         `json:"status"`
	StatusDetails map[string]string `json:"statusDetails"`
	VersionNumber int64             `json:"versionNumber"`
}

// JobAnswer is the payload on …/accepted and of notify-next. Execution is left
// out when there is none: an empty object makes lite ask for ever (trap 13a).
type JobAnswer struct {
	ClientToken    *string                `json:"clientToken,omitempty"`
	Timestamp      int64                  `json:"timestamp"`
	Execution      *JobExecution          `json:"execution,omitempty"`
	ExecutionState *JobExecutionState     `json:"executionState,omitempty"`
	JobDocument    json.RawMessage        `json:"jobDocument,omitempty"`
	InProgressJobs *[]JobExecutionSummary `json:"inProgressJobs,omitempty"`
	QueuedJobs     *[]JobExecutionSummary `json:"queuedJobs,omitempty"`
}

// JobNotice is the payload of notify. Jobs is {} when nothing is pending, and
// only then: classic cancels a running deployment on it (trap 9).
type JobNotice struct {
	Timestamp int64                               `json:"timestamp"`
	Jobs      map[JobStatus][]JobExecutionSummary `json:"jobs"`
}

// JobRejection is the payload on …/rejected.
type JobRejection struct {
	Code           string             `json:"code"`
	Message        string             `json:"message"`
	ClientToken    *string            `json:"clientToken,omitempty"`
	Timestamp      int64              `json:"timestamp"`
	ExecutionState *JobExecutionState `json:"executionState,omitempty"`
}

// Codes of a JobRejection that the AWS SDKs parse.
const (
	CodeInvalidTopic           = "InvalidTopic"
	CodeInvalidJSON            = "InvalidJson"
	CodeInvalidRequest         = "InvalidRequest"
	CodeInvalidStateTransition = "InvalidStateTransition"
	CodeResourceNotFound       = "ResourceNotFound"
	CodeVersionMismatch        = "VersionMismatch"
	CodeInternalError          = "InternalError"
	CodeRequestThrottled       = "RequestThrottled"
	CodeTerminalStateReached   = "TerminalStateReached"
)
