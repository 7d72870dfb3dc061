package protocol

import "strings"

// Namespace is the job namespace of Greengrass deployments.
const Namespace = "aws-gg-deployment"

// NextJob stands for the next pending job in topics and requests.
const NextJob = "$next"

// ThingPrefix is the prefix of every reserved topic of a thing.
func ThingPrefix(thing string) string { return "$aws/things/" + thing + "/" }

// JobsNotify is where classic learns that its set of pending jobs changed.
func JobsNotify(thing string) string {
	return ThingPrefix(thing) + "jobs/notify-namespace-" + Namespace
}

// JobsNotifyNext is where lite learns that its next job changed.
func JobsNotifyNext(thing string) string {
	return ThingPrefix(thing) + "jobs/notify-next-namespace-" + Namespace
}

// PlainJobsNotify and PlainJobsNotifyNext are the same without a namespace, for
// clients of the general jobs service (AWS device SDKs).
func PlainJobsNotify(thing string) string { return ThingPrefix(thing) + "jobs/notify" }

// PlainJobsNotifyNext is notify-next without a namespace.
func PlainJobsNotifyNext(thing string) string { return ThingPrefix(thing) + "jobs/notify-next" }

// JobGet is the request topic that describes a job; job may be NextJob.
func JobGet(thing, job string) string {
	return ThingPrefix(thing) + "jobs/" + job + "/namespace-" + Namespace + "/get"
}

// JobUpdate is the request topic that reports a job's status.
func JobUpdate(thing, job string) string {
	return ThingPrefix(thing) + "jobs/" + job + "/namespace-" + Namespace + "/update"
}

// FleetStatusTopic carries a core's health and component states.
func FleetStatusTopic(thing string) string { return ThingPrefix(thing) + "greengrassv2/health/json" }

// Accepted and Rejected are the answer topics of a request topic.
func Accepted(request string) string { return request + "/accepted" }

// Rejected is the answer topic of a refused request.
func Rejected(request string) string { return request + "/rejected" }

// JobOperation is a request of the jobs service over MQTT.
type JobOperation string

// The operations (iot-api §19).
const (
	JobOpGetPending JobOperation = "get-pending" // jobs/get
	JobOpStartNext  JobOperation = "start-next"  // jobs/start-next
	JobOpDescribe   JobOperation = "get"         // jobs/<id>/get
	JobOpUpdate     JobOperation = "update"      // jobs/<id>/update
)

// JobTopic is a parsed request topic of the jobs service.
type JobTopic struct {
	Thing     string
	Job       string // empty for get-pending and start-next; NextJob allowed
	Namespace string // empty, or the text after "namespace-"
	Op        JobOperation
}

// ParseJobTopic reads a request topic of the jobs service, with or without a
// namespace level. ok is false for every other topic, answers included.
func ParseJobTopic(topic string) (JobTopic, bool) {
	p := strings.Split(topic, "/")
	if len(p) < 5 || p[0] != "$aws" || p[1] != "things" || p[2] == "" || p[3] != "jobs" {
		return JobTopic{}, false
	}
	t := JobTopic{Thing: p[2]}
	rest := p[4:]
	if last := len(rest) - 1; last >= 1 {
		if ns, ok := strings.CutPrefix(rest[last-1], "namespace-"); ok && ns != "" {
			t.Namespace = ns
			rest = append(rest[:last-1:last-1], rest[last])
		}
	}
	switch {
	case len(rest) == 1 && rest[0] == "get":
		t.Op = JobOpGetPending
	case len(rest) == 1 && rest[0] == "start-next":
		t.Op = JobOpStartNext
	case len(rest) == 2 && rest[0] != "" && rest[1] == "get":
		t.Job, t.Op = rest[0], JobOpDescribe
	case len(rest) == 2 && rest[0] != "" && rest[0] != NextJob && rest[1] == "update":
		t.Job, t.Op = rest[0], JobOpUpdate
	default:
		return JobTopic{}, false
	}
	return t, true
}
