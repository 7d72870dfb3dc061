package jobs_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// announcing runs test in a bubble in which the announcer follows the store.
func announcing(t *testing.T, test func(t *testing.T, k *kit)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		k := newKit(t, ctx)
		done := make(chan error, 1)
		go func() { done <- k.announce.Run(ctx) }()
		synctest.Wait()
		test(t, k)
		stop()
		require.NoError(t, <-done)
	})
}

func TestANewJobIsAnnouncedToBothRuntimes(t *testing.T) {
	announcing(t, func(t *testing.T, k *kit) {
		k.devices.connect("core", true)
		k.next("core")
		k.job("j", "g", 0)
		k.start("j", "core", false)
		k.start("j", "away", false)
		synctest.Wait()
		topics, told := k.devices.take()
		require.Equal(t, []string{"notify", "notify-next"}, topics, "the one who is connected")
		assert.JSONEq(t, `{"timestamp":1772366400,"jobs":{"QUEUED":[{"jobId":"j","queuedAt":1772366400,"lastUpdatedAt":1772366400,"versionNumber":1,"executionNumber":1}]}}`, string(told[0].Payload))
		next := read[protocol.JobAnswer](t, told[1].Payload)
		assert.Nil(t, next.ClientToken)
		assert.Equal(t, k.next("core").Execution, next.Execution, "notify-next and $next agree")
		assert.Equal(t, "j", told[1].Job)
	})
}

func TestAnAnnouncementThatFailedIsMadeUpFor(t *testing.T) {
	announcing(t, func(t *testing.T, k *kit) {
		k.devices.connect("core", true)
		k.next("core")
		k.job("j", "g", 0)
		j, err := k.jobs.Job(k.ctx, "j")
		require.NoError(t, err)
		b := state.NewBatch(state.StepExecutions).Delete(state.Root + "jobs/job/j")
		_, err = k.jobs.StartBatch(k.ctx, b, j, "core", jobs.Start{})
		require.NoError(t, err)
		k.commit(b)
		synctest.Wait()
		topics, _ := k.devices.take()
		require.Empty(t, topics, "what the store does not have cannot be told")
		k.job("j", "g", 0)
		time.Sleep(time.Minute)
		topics, _ = k.devices.take()
		assert.Equal(t, []string{"notify", "notify-next"}, topics)
	})
}

func TestNothingFollowsInProgress(t *testing.T) {
	announcing(t, func(t *testing.T, k *kit) {
		k.devices.connect("core", true)
		k.job("j", "g", 0)
		k.start("j", "core", false)
		synctest.Wait()
		k.devices.take()
		assert.Len(t, k.update("core", "j", protocol.JobInProgress), 1)
		assert.Len(t, k.update("core", "j", protocol.JobInProgress), 1)
		synctest.Wait()
		topics, _ := k.devices.take()
		assert.Empty(t, topics)
	})
}

func TestNothingFollowsInProgressWithoutAnyAnnouncementBefore(t *testing.T) {
	for _, begin := range []string{"update", "start-next"} {
		t.Run(begin, func(t *testing.T) {
			announcing(t, func(t *testing.T, k *kit) {
				k.job("j", "g", 0)
				k.start("j", "core", false)
				synctest.Wait()
				k.devices.connect("core", true)
				if begin == "update" {
					k.update("core", "j", protocol.JobInProgress)
				} else {
					k.ask("core", protocol.ThingPrefix("core")+"jobs/start-next", "{}")
				}
				synctest.Wait()
				topics, _ := k.devices.take()
				assert.Empty(t, topics)
			})
		})
	}
}

func TestTheNextJobFollowsTheAcceptanceOfTheLast(t *testing.T) {
	announcing(t, func(t *testing.T, k *kit) {
		k.devices.connect("core", true)
		k.job("a", "g", 0)
		k.job("b", "h", 0)
		k.start("a", "core", false)
		k.start("b", "core", false)
		k.update("core", "a", protocol.JobInProgress)
		synctest.Wait()
		k.devices.take()

		out := k.update("core", "a", protocol.JobSucceeded)
		assert.Equal(t, protocol.Accepted(protocol.JobUpdate("core", "a")), out[0].Topic)
		assert.False(t, out[0].Notice)
		topics, notices := spoken(out[1:])
		require.Equal(t, []string{"notify", "notify-next"}, topics)
		assert.Equal(t, "b", read[protocol.JobAnswer](t, notices[1].Payload).Execution.JobID)
		assert.True(t, notices[0].Notice && notices[1].Notice)

		out = k.update("core", "b", protocol.JobFailed)
		_, notices = spoken(out[1:])
		assert.JSONEq(t, `{"timestamp":1772366400,"jobs":{}}`, string(notices[0].Payload), "truly empty")
		assert.JSONEq(t, `{"timestamp":1772366400}`, string(notices[1].Payload), "no execution member")

		synctest.Wait()
		topics, _ = k.devices.take()
		assert.Empty(t, topics, "what the answers told is not told again")
	})
}

func TestANotifyFollowsEachTerminalUpdateEvenOfAJobThatWasNeverAnnounced(t *testing.T) {
	// Nobody watches the store here, as when the device is quicker than the watch.
	k := newKit(t, t.Context())
	k.devices.connect("core", true)
	k.next("core") // knows of an empty list
	k.job("j", "g", 0)
	k.start("j", "core", false)
	k.next("core")
	out := k.update("core", "j", protocol.JobSucceeded)
	topics, _ := spoken(out[1:])
	assert.Equal(t, []string{"notify", "notify-next"}, topics)
}

func TestARunningJobIsNeverCanceledByAnEmptyNotice(t *testing.T) {
	announcing(t, func(t *testing.T, k *kit) {
		k.devices.connect("core", true)
		k.job("a", "g", 0)
		k.job("b", "h", 0)
		k.start("a", "core", false)
		k.start("b", "core", false)
		k.update("core", "a", protocol.JobInProgress)
		synctest.Wait()
		k.devices.take()
		k.remove("core", "b")
		synctest.Wait()
		topics, told := k.devices.take()
		require.Equal(t, []string{"notify"}, topics, "the set changed, the first did not")
		assert.Contains(t, string(told[0].Payload), `"IN_PROGRESS":[`)
	})
}

func TestAReturningDeviceIsToldAfresh(t *testing.T) {
	announcing(t, func(t *testing.T, k *kit) {
		k.devices.connect("core", true)
		k.next("core")
		k.job("a", "g", 0)
		k.start("a", "core", false)
		synctest.Wait()
		k.devices.take()
		k.devices.connect("core", false)
		k.announce.Gone("core")
		k.job("b", "h", 0)
		k.start("b", "core", false)
		synctest.Wait()
		topics, _ := k.devices.take()
		assert.Empty(t, topics)

		k.devices.connect("core", true)
		assert.Equal(t, "a", k.next("core").Execution.JobID)
		k.remove("core", "a")
		synctest.Wait()
		topics, _ = k.devices.take()
		assert.Equal(t, []string{"notify", "notify-next"}, topics)
	})
}

func TestAnIssueAnewIsAnnounced(t *testing.T) {
	announcing(t, func(t *testing.T, k *kit) {
		k.devices.connect("core", true)
		k.job("j", "g", 0)
		k.start("j", "core", false)
		synctest.Wait()
		k.devices.take()
		k.start("j", "core", true)
		synctest.Wait()
		topics, told := k.devices.take()
		require.Equal(t, []string{"notify", "notify-next"}, topics)
		assert.Equal(t, int64(2), read[protocol.JobAnswer](t, told[1].Payload).Execution.ExecutionNumber)
	})
}

func TestADeploymentThatNoPacketCanCarryFails(t *testing.T) {
	announcing(t, func(t *testing.T, k *kit) {
		k.devices.connect("core", true)
		k.devices.limit = 300
		k.job("j", "g", 0)
		k.start("j", "core", false)
		synctest.Wait()
		assert.Empty(t, k.pending("core"))
		e, _, err := k.jobs.Last(t.Context(), "core", "j", "thinggroup", "g")
		require.NoError(t, err)
		assert.Equal(t, protocol.JobFailed, e.Status)
		assert.Equal(t, "FAILED_NO_STATE_CHANGE", e.Details[protocol.DetailStatus])
		assert.Contains(t, e.Details[protocol.DetailFailureCause], "maximum packet size")
		topics, told := k.devices.take()
		require.Equal(t, []string{"notify", "notify", "notify-next"}, topics, "then there is nothing to do")
		assert.JSONEq(t, `{"timestamp":1772366400,"jobs":{}}`, string(told[1].Payload))
	})
}

func TestAnAnswerThatNoPacketCanCarryNamesItsJob(t *testing.T) {
	announcing(t, func(t *testing.T, k *kit) {
		k.job("j", "g", 0)
		k.start("j", "core", false)
		get := func(payload string) jobs.Message {
			return k.ask("core", protocol.JobGet("core", protocol.NextJob), payload)[0]
		}
		assert.Equal(t, "j", get("{}").Job)
		assert.Empty(t, get(`{"includeJobDocument":false}`).Job, "without the document nothing is lost")
		k.announce.TooLarge("core", jobs.Message{Topic: "x"}, 100)
		synctest.Wait()
		assert.Len(t, k.pending("core"), 1)
		k.announce.TooLarge("core", get("{}"), 100)
		k.announce.TooLarge("core", get("{}"), 100)
		synctest.Wait()
		assert.Empty(t, k.pending("core"))
	})
}

func TestWhatWasMissedIsAnnouncedLater(t *testing.T) {
	for _, c := range []struct {
		name string
		miss func(k *kit, stop func(), start func())
	}{
		{"while nobody watched", func(k *kit, stop, start func()) {
			stop()
			k.start("j", "core", false)
			start()
		}},
		{"when the history is gone", func(k *kit, stop, start func()) {
			stop()
			k.start("j", "core", false)
			k.store.Compact()
			start()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, t.Context())
				k.devices.connect("core", true)
				k.next("core")
				k.job("j", "g", 0)
				var stop context.CancelFunc
				start := func() {
					var ctx context.Context
					ctx, stop = context.WithCancel(t.Context())
					go func() { assert.NoError(t, k.announce.Run(ctx)) }()
					synctest.Wait()
				}
				start()
				c.miss(k, func() { stop(); synctest.Wait() }, start)
				topics, _ := k.devices.take()
				assert.Equal(t, []string{"notify", "notify-next"}, topics)
				stop()
				synctest.Wait()
				k.remove("core", "j")
				start()
				topics, _ = k.devices.take()
				assert.Equal(t, []string{"notify", "notify-next"}, topics, "that there is nothing any more")
				stop()
			})
		})
	}
}

func TestANoticeListsAtMostTen(t *testing.T) {
	announcing(t, func(t *testing.T, k *kit) {
		k.devices.connect("core", true)
		for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"} {
			k.job(id, id, 0)
			k.start(id, "core", false)
			k.pass(time.Second)
		}
		synctest.Wait()
		_, told := k.devices.take()
		for _, m := range told {
			n := read[protocol.JobNotice](t, m.Payload)
			assert.LessOrEqual(t, len(n.Jobs[protocol.JobQueued]), 10)
		}
	})
}
