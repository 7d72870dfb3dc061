package jobs_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestNextIsInProgressBeforeQueuedThenByTime(t *testing.T) {
	k := newKit(t, t.Context())
	for _, id := range []string{"c", "a", "b"} {
		k.job(id, "group-"+id, 0)
		k.start(id, "core", false)
		k.pass(time.Second)
	}
	assert.Equal(t, "c", k.next("core").Execution.JobID, "the oldest")

	k.update("core", "b", protocol.JobInProgress)
	assert.Equal(t, "b", k.next("core").Execution.JobID, "what runs")

	k.update("core", "b", protocol.JobSucceeded)
	k.update("core", "c", protocol.JobFailed)
	assert.Equal(t, "a", k.next("core").Execution.JobID)
	k.update("core", "a", protocol.JobRejected)
	assert.Nil(t, k.next("core").Execution)
}

func TestAnAnswerHasTheTokenIfAndOnlyIfTheRequestHad(t *testing.T) {
	k := newKit(t, t.Context())
	k.job("j", "g", 0)
	k.start("j", "core", false)
	get, update := protocol.JobGet("core", protocol.NextJob), protocol.JobUpdate("core", "j")
	for _, c := range []struct{ name, topic, with, without string }{
		{"get", get, `{"clientToken":"jobs-nucleus-lite"}`, `{}`},
		{"pending", protocol.ThingPrefix("core") + "jobs/get", `{"clientToken":"jobs-nucleus-lite"}`, ``},
		{"update", update, `{"status":"IN_PROGRESS","clientToken":"jobs-nucleus-lite"}`, `{"status":"IN_PROGRESS"}`},
		{"refused update", update, `{"status":"FAILURE","clientToken":"jobs-nucleus-lite"}`, `{"status":"FAILURE"}`},
		{"wrong type", update, `{"status":5,"clientToken":"jobs-nucleus-lite"}`, `{"status":5}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			with := read[map[string]any](t, k.ask("core", c.topic, c.with)[0].Payload)
			assert.Equal(t, "jobs-nucleus-lite", with["clientToken"])
			without := read[map[string]any](t, k.ask("core", c.topic, c.without)[0].Payload)
			assert.NotContains(t, without, "clientToken")
		})
	}
	empty := read[map[string]any](t, k.ask("core", get, `{"clientToken":""}`)[0].Payload)
	assert.Empty(t, empty["clientToken"], "an empty token is a token")
}

func TestAnExecutionOnTheWire(t *testing.T) {
	k := newKit(t, t.Context())
	topic := protocol.JobGet("core", protocol.NextJob)
	assert.JSONEq(t, `{"timestamp":1772366400}`, string(k.ask("core", topic, `{}`)[0].Payload), "no execution: the member is absent")

	k.job("j", "g", 0)
	k.start("j", "core", false)
	raw := k.ask("core", topic, `{"thingName":"core","jobId":"$next","includeJobDocument":true}`)[0].Payload
	assert.NotContains(t, string(raw), ".", "times are whole numbers")
	v := read[map[string]any](t, raw)["execution"].(map[string]any)
	assert.Equal(t, "j", v["jobId"])
	assert.Equal(t, "core", v["thingName"])
	assert.Equal(t, "QUEUED", v["status"])
	assert.EqualValues(t, 1772366400, v["queuedAt"])
	assert.EqualValues(t, 1772366400, v["lastUpdatedAt"])
	assert.EqualValues(t, 1, v["versionNumber"])
	assert.EqualValues(t, 1, v["executionNumber"])
	assert.NotContains(t, v, "startedAt")
	doc := v["jobDocument"].(map[string]any)
	assert.EqualValues(t, 1772366400250, doc["creationTimestamp"], "milliseconds")
	assert.Equal(t, map[string]any{}, doc["components"])

	without := read[protocol.JobAnswer](t, k.ask("core", topic, `{"includeJobDocument":false}`)[0].Payload)
	assert.Empty(t, without.Execution.JobDocument)
	k.pass(2 * time.Second)
	k.update("core", "j", protocol.JobInProgress)
	running := k.next("core").Execution
	assert.EqualValues(t, 1772366402, running.StartedAt)
	assert.EqualValues(t, 2, running.VersionNumber)
	assert.EqualValues(t, 1772366400, running.QueuedAt)
}

func TestAJobIsDescribedByItsName(t *testing.T) {
	k := newKit(t, t.Context())
	k.job("a", "g", 0)
	k.job("b", "h", 0)
	k.start("a", "core", false)
	k.start("b", "core", false)
	answer := func(job, payload string) jobs.Message { return k.ask("core", protocol.JobGet("core", job), payload)[0] }

	assert.Equal(t, "b", read[protocol.JobAnswer](t, answer("b", `{}`).Payload).Execution.JobID)
	assert.Equal(t, "b", read[protocol.JobAnswer](t, answer("b", `{"executionNumber":1}`).Payload).Execution.JobID)
	for _, c := range []struct{ name, job, payload, code string }{
		{"an execution that never was", "b", `{"executionNumber":2}`, protocol.CodeResourceNotFound},
		{"a job of nobody", "c", `{}`, protocol.CodeResourceNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := answer(c.job, c.payload)
			assert.True(t, strings.HasSuffix(m.Topic, "/rejected"))
			assert.Equal(t, c.code, read[protocol.JobRejection](t, m.Payload).Code)
		})
	}
	k.update("core", "b", protocol.JobSucceeded)
	ended := read[protocol.JobRejection](t, answer("b", `{}`).Payload)
	assert.Equal(t, protocol.CodeTerminalStateReached, ended.Code)
	assert.Equal(t, protocol.JobSucceeded, ended.ExecutionState.Status)
}

func TestWhatADeviceMayReport(t *testing.T) {
	all := []protocol.JobStatus{"", "FAILURE", protocol.JobQueued, protocol.JobInProgress, protocol.JobSucceeded, protocol.JobFailed, protocol.JobTimedOut, protocol.JobRejected, protocol.JobRemoved, protocol.JobCanceled}
	may := map[protocol.JobStatus]string{
		protocol.JobInProgress: "", protocol.JobSucceeded: "", protocol.JobFailed: "", protocol.JobRejected: "",
		"": protocol.CodeInvalidRequest, "FAILURE": protocol.CodeInvalidRequest,
	}
	for _, from := range []protocol.JobStatus{protocol.JobQueued, protocol.JobInProgress, protocol.JobSucceeded, protocol.JobFailed, protocol.JobRejected} {
		for _, to := range all {
			t.Run(string(from)+" to "+string(to), func(t *testing.T) {
				k := newKit(t, t.Context())
				k.job("j", "g", 0)
				before := k.start("j", "core", false)
				if from != protocol.JobQueued {
					k.update("core", "j", from)
				}
				want, known := may[to]
				if !known || from.Terminal() {
					want = protocol.CodeInvalidStateTransition
				}
				out := k.update("core", "j", to)
				if want == "" {
					assert.JSONEq(t, `{"timestamp":1772366400}`, string(out[0].Payload))
					assert.Equal(t, to.Terminal(), len(k.pending("core")) == 0)
					return
				}
				r := read[protocol.JobRejection](t, out[0].Payload)
				assert.Equal(t, want, r.Code)
				assert.Len(t, out, 1, "a refusal changes nothing")
				if want == protocol.CodeInvalidStateTransition {
					require.NotNil(t, r.ExecutionState)
					assert.Equal(t, from, r.ExecutionState.Status)
					assert.NotNil(t, r.ExecutionState.StatusDetails)
					assert.GreaterOrEqual(t, r.ExecutionState.VersionNumber, before.Version)
				}
			})
		}
	}
}

func TestAnUpdateThatDoesNotFitIsRefused(t *testing.T) {
	k := newKit(t, t.Context())
	k.job("j", "g", 0)
	k.start("j", "core", false)
	topic := protocol.JobUpdate("core", "j")
	for _, c := range []struct{ name, topic, payload, code string }{
		{"another version", topic, `{"status":"SUCCEEDED","expectedVersion":7}`, protocol.CodeVersionMismatch},
		{"another execution", topic, `{"status":"SUCCEEDED","executionNumber":2}`, protocol.CodeResourceNotFound},
		{"a job of nobody", protocol.JobUpdate("core", "k"), `{"status":"SUCCEEDED"}`, protocol.CodeResourceNotFound},
		{"no JSON", topic, `{"status":`, protocol.CodeInvalidJSON},
		{"an array", topic, `[]`, protocol.CodeInvalidRequest},
		{"a number for a text", topic, `{"status":1}`, protocol.CodeInvalidRequest},
		{"too many bytes", topic, `{"status":"` + strings.Repeat("x", 20_000) + `"}`, protocol.CodeInvalidRequest},
		{"no operation", protocol.ThingPrefix("core") + "jobs/j/delete", `{}`, protocol.CodeInvalidTopic},
		{"another thing", protocol.JobUpdate("other", "j"), `{"status":"SUCCEEDED"}`, protocol.CodeInvalidTopic},
		{"the next job has no update", protocol.JobUpdate("core", protocol.NextJob), `{"status":"SUCCEEDED"}`, protocol.CodeInvalidTopic},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := k.ask("core", c.topic, c.payload)
			require.Len(t, out, 1)
			assert.Equal(t, protocol.Rejected(c.topic), out[0].Topic)
			assert.Equal(t, c.code, read[protocol.JobRejection](t, out[0].Payload).Code)
			assert.Equal(t, protocol.JobQueued, k.pending("core")[0].Status)
		})
	}
	out := k.ask("core", topic, `{"status":"SUCCEEDED","expectedVersion":1,"executionNumber":1,"includeJobExecutionState":true,"includeJobDocument":true}`)
	a := read[protocol.JobAnswer](t, out[0].Payload)
	assert.Equal(t, protocol.JobExecutionState{Status: protocol.JobSucceeded, StatusDetails: map[string]string{}, VersionNumber: 2}, *a.ExecutionState)
	assert.NotEmpty(t, a.JobDocument)
}

func TestTheAnswerToAnUpdateIsSmall(t *testing.T) {
	k := newKit(t, t.Context())
	k.job("j", "g", 0)
	k.start("j", "core", false)
	out := k.update("core", "j", protocol.JobInProgress)
	assert.Less(t, len(out[0].Payload), 1000, "lite reads about 1 KB")
}

func TestDetailsAreKeptUntilNewOnesCome(t *testing.T) {
	k := newKit(t, t.Context())
	k.job("j", "g", 0)
	k.start("j", "core", false)
	topic := protocol.JobUpdate("core", "j")
	k.ask("core", topic, `{"status":"IN_PROGRESS","statusDetails":{"a":"1"}}`)
	k.ask("core", topic, `{"status":"IN_PROGRESS"}`)
	assert.Equal(t, map[string]string{"a": "1"}, k.pending("core")[0].Details)
	k.ask("core", topic, `{"status":"FAILED","statusDetails":{"b":"2"}}`)
	e, ok, err := k.jobs.Last(t.Context(), "core", "j", "thinggroup", "g")
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, map[string]string{"b": "2"}, e.Details)
}

func TestPendingJobsAreListedByStatus(t *testing.T) {
	k := newKit(t, t.Context())
	topic := protocol.ThingPrefix("core") + "jobs/get"
	assert.JSONEq(t, `{"timestamp":1772366400,"inProgressJobs":[],"queuedJobs":[]}`, string(k.ask("core", topic, "")[0].Payload))
	k.job("a", "g", 0)
	k.job("b", "h", 0)
	k.start("a", "core", false)
	k.start("b", "core", false)
	k.update("core", "b", protocol.JobInProgress)
	v := read[protocol.JobAnswer](t, k.ask("core", topic, "")[0].Payload)
	assert.Equal(t, "b", (*v.InProgressJobs)[0].JobID)
	assert.Equal(t, "a", (*v.QueuedJobs)[0].JobID)
}

func TestStartNextBeginsTheNextJobOnce(t *testing.T) {
	k := newKit(t, t.Context())
	topic := protocol.ThingPrefix("core") + "jobs/start-next"
	assert.JSONEq(t, `{"timestamp":1772366400}`, string(k.ask("core", topic, "{}")[0].Payload))
	k.job("j", "g", 0)
	k.start("j", "core", false)
	first := read[protocol.JobAnswer](t, k.ask("core", topic, `{"statusDetails":{"step":"1"}}`)[0].Payload)
	assert.Equal(t, protocol.JobInProgress, first.Execution.Status)
	assert.Equal(t, map[string]string{"step": "1"}, first.Execution.StatusDetails)
	assert.NotEmpty(t, first.Execution.JobDocument)
	second := read[protocol.JobAnswer](t, k.ask("core", topic, "{}")[0].Payload)
	assert.Equal(t, first.Execution, second.Execution, "it runs already")
}

func TestTheSameJobAgainIsLaterAndHasAHigherNumber(t *testing.T) {
	k := newKit(t, t.Context())
	k.job("j", "g", 0)
	first := k.start("j", "core", false)
	assert.Equal(t, first, k.start("j", "core", false), "a pending one is left as it is")
	again := k.start("j", "core", true)
	assert.Equal(t, first.QueuedAt+1, again.QueuedAt)
	assert.Equal(t, int64(2), again.Number)
	assert.Greater(t, again.Stamp, first.Stamp)

	k.update("core", "j", protocol.JobSucceeded)
	third := k.start("j", "core", false)
	assert.Equal(t, again.QueuedAt+1, third.QueuedAt)
	assert.Equal(t, int64(3), third.Number)
	r := k.ask("core", protocol.JobUpdate("core", "j"), `{"status":"SUCCEEDED","executionNumber":2}`)
	assert.Equal(t, protocol.CodeResourceNotFound, read[protocol.JobRejection](t, r[0].Payload).Code, "a late report on the one before")
}

func TestNothingACoreGetsIsOlderThanWhatItHadBefore(t *testing.T) {
	k := newKit(t, t.Context())
	k.job("a", "g", 0)
	k.job("b", "h", 0)
	k.start("a", "core", false)
	before := k.start("a", "core", true) // queued a second ahead of the clock
	after := k.start("b", "core", false)
	assert.GreaterOrEqual(t, after.QueuedAt, before.QueuedAt, "classic ignores a job that is older than the last one it saw")
	assert.Greater(t, after.Stamp, before.Stamp)

	k.pass(-time.Hour) // the clock is set back, with nothing pending
	k.update("core", "a", protocol.JobSucceeded)
	k.update("core", "b", protocol.JobSucceeded)
	k.job("c", "i", 0)
	last := k.start("c", "core", false)
	assert.GreaterOrEqual(t, last.QueuedAt, after.QueuedAt)
	assert.Greater(t, last.Stamp, after.Stamp)
	var doc protocol.DeploymentDocument
	require.NoError(t, json.Unmarshal(k.next("core").Execution.JobDocument, &doc))
	assert.Equal(t, last.Stamp, doc.CreationTimestamp)
}

func TestACanceledJobIsNotHandedOut(t *testing.T) {
	k := newKit(t, t.Context())
	k.job("j", "g", 0)
	j, err := k.jobs.Job(t.Context(), "j")
	require.NoError(t, err)
	b := state.NewBatch(state.StepExecutions)
	_, err = k.jobs.StartBatch(t.Context(), b, j, "core", jobs.Start{})
	require.NoError(t, err)

	cancel := state.NewBatch(state.StepDeployment)
	require.NoError(t, k.jobs.CancelBatch(t.Context(), cancel, "j", jobs.Reason{}))
	k.commit(cancel)
	_, err = k.store.Commit(t.Context(), b)
	require.ErrorIs(t, err, fault.Conflict)
	assert.Empty(t, k.pending("core"))
}

func TestWhatRunsIsNotTakenAway(t *testing.T) {
	k := newKit(t, t.Context())
	for _, id := range []string{"old", "older", "other"} {
		k.job(id, map[string]string{"old": "g", "older": "g", "other": "h"}[id], 0)
		k.start(id, "core", false)
	}
	k.update("core", "older", protocol.JobInProgress)
	b := state.NewBatch(state.StepMove)
	require.NoError(t, k.jobs.ClearBatch(t.Context(), b, "core", "thinggroup", "g", "", protocol.JobRemoved))
	k.commit(b)
	list := k.pending("core")
	require.Len(t, list, 2)
	assert.Equal(t, "older", list[0].JobID)
	assert.Equal(t, "other", list[1].JobID, "another target")
	e, _, err := k.jobs.Last(t.Context(), "core", "old", "thinggroup", "g")
	require.NoError(t, err)
	assert.Equal(t, protocol.JobRemoved, e.Status)
}

func TestAJobThatTakesTooLongTimesOut(t *testing.T) {
	k := newKit(t, t.Context())
	expire := func() int {
		n, err := k.jobs.Expire(t.Context())
		require.NoError(t, err)
		return n
	}
	k.job("j", "g", 2)
	for _, thing := range []string{"slow", "quick", "waiting", "again"} {
		k.start("j", thing, false)
		if thing != "waiting" {
			k.update(thing, "j", protocol.JobInProgress)
		}
	}
	k.update("quick", "j", protocol.JobSucceeded)
	k.start("j", "again", true) // queued anew: the clock of the first try counts no more
	k.pass(time.Minute)
	k.update("slow", "j", protocol.JobInProgress) // a sign of life does not move the deadline
	assert.Zero(t, expire())
	k.pass(time.Minute + 2*time.Second)
	assert.Equal(t, 1, expire())
	assert.Zero(t, expire())
	assert.Empty(t, k.pending("slow"))
	assert.Len(t, k.pending("waiting"), 1, "the time begins with IN_PROGRESS")
	assert.Len(t, k.pending("again"), 1)
	e, _, err := k.jobs.Last(t.Context(), "slow", "j", "thinggroup", "g")
	require.NoError(t, err)
	assert.Equal(t, protocol.JobTimedOut, e.Status)
	r := read[protocol.JobRejection](t, k.update("slow", "j", protocol.JobSucceeded)[0].Payload)
	assert.Equal(t, protocol.CodeInvalidStateTransition, r.Code)
	assert.Equal(t, protocol.JobTimedOut, r.ExecutionState.Status)
}

func FuzzServe(f *testing.F) {
	f.Add(protocol.JobGet("core", protocol.NextJob), []byte(`{"clientToken":"x"}`))
	f.Add(protocol.JobUpdate("core", "j"), []byte(`{"status":"SUCCEEDED","statusDetails":{"a":"b"}}`))
	f.Add("$aws/things/core/jobs/start-next", []byte(`{}`))
	f.Add("$aws/things/core/jobs/get", []byte(``))
	f.Add("$aws/things/core/jobs/j/namespace-/get", []byte(`null`))
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		k := newKit(t, t.Context())
		k.job("j", "g", 0)
		k.start("j", "core", false)
		out, err := k.announce.Serve(t.Context(), "core", topic, payload)
		require.NoError(t, err, "no request is worth a retry")
		require.NotEmpty(t, out)
		for _, m := range out {
			require.True(t, json.Valid(m.Payload))
			require.True(t, m.Notice || m.Topic == protocol.Accepted(topic) || m.Topic == protocol.Rejected(topic))
		}
	})
}
