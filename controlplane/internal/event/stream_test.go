package event_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestTypesHaveTheNamesOfTopics(t *testing.T) {
	t.Parallel()
	want := []string{
		"core-created-event", "core-deleted-event", "core-template-updated-event", "device-created-event", "device-deleted-event",
		"deployment-task-created-event", "deployment-task-deleted-event",
		"help-requested-event", "help-ended-event", // of our own, as those that follow
		"enrollment-requested-event", "enrollment-approved-event", "enrollment-denied-event", "agent-enrolled-event", "agent-release-stopped-event",
	}
	require.Len(t, event.Types(), len(want), "W-121: each type of the contract is published")
	for i, typ := range event.Types() {
		assert.Equal(t, want[i], typ.Slug())
		assert.True(t, typ.Published())
	}
	assert.False(t, event.StatusChanged.Published())
	assert.Equal(t, "ggfleet/events/gw-1/core-created-event", event.Event{Type: event.CoreCreated, Core: "gw-1"}.Topic())
	assert.Equal(t, "ggfleet/events/-/deployment-task-deleted-event", event.Event{Type: event.DeploymentTaskDeleted}.Topic())
}

func TestAStreamGoesOnFromAnySequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		s := newService(t, event.Config{Store: store})
		defer start(t, s)()
		for i := range 1200 {
			happen(t, store, event.CoreCreated, coreName(i%2), i)
		}
		settle(10 * time.Second)
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		read := func(f event.Filter, after int64) *[]int {
			var got []int
			wg.Go(func() {
				assert.NoError(t, s.Stream(ctx, f, after, func(events []event.Event) error {
					got = append(got, numbers(t, events)...)
					return nil
				}))
			})
			return &got
		}
		everything, tail, news := read(event.Filter{}, event.Oldest), read(event.Filter{}, 1190), read(event.Filter{}, event.Newest)
		one := read(event.Filter{Core: coreName(1), Type: event.CoreDeleted}, event.Oldest)
		wg.Go(func() { // slow: has only its own loss
			assert.NoError(t, s.Stream(ctx, event.Filter{}, event.Oldest, func([]event.Event) error {
				<-ctx.Done()
				return nil
			}))
		})
		synctest.Wait()
		happen(t, store, event.CoreDeleted, coreName(0), 1200)
		happen(t, store, event.CoreDeleted, coreName(1), 1201)
		settle(time.Second)
		cancel()
		wg.Wait()
		assert.Equal(t, upTo(1202), *everything)
		assert.Equal(t, upTo(1202)[1190:], *tail)
		assert.Equal(t, []int{1200, 1201}, *news)
		assert.Equal(t, []int{1201}, *one)
	})
}

func TestALateReaderIsToldOfTheGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		s := newService(t, event.Config{Store: store, Retain: 100})
		defer start(t, s)()
		n := 0
		more := func(count int) {
			happenMany(t, store, n, count, 3)
			n += count
			settle(10 * time.Second)
		}
		more(10)
		var got []int
		err := s.Stream(t.Context(), event.Filter{}, event.Oldest, func(events []event.Event) error {
			got = append(got, numbers(t, events)...)
			if len(got) == 10 {
				more(11_000) // more than is in memory, while this reader is busy
			}
			return nil
		})
		require.ErrorIs(t, err, fault.Stale)
		assert.Equal(t, upTo(10), got)
	})
}

func TestListsPageThroughASelection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		s := newService(t, event.Config{Store: store})
		stop := start(t, s)
		for i := range 2500 {
			happen(t, store, event.CoreCreated, coreName(i%5), i)
		}
		settle(10 * time.Second)
		for _, s := range []*event.Service{s, newService(t, event.Config{Store: store})} { // from memory, from the store
			var got []int
			for after := event.Oldest; ; {
				page, next, err := s.List(t.Context(), event.Filter{Core: coreName(3)}, after, 7)
				require.NoError(t, err)
				assert.LessOrEqual(t, len(page), 7)
				got = append(got, numbers(t, page)...)
				if next == 0 {
					break
				}
				after = next
			}
			require.Len(t, got, 500)
			assert.Equal(t, []int{3, 8, 13}, got[:3])
			assert.Equal(t, 2498, got[499])
		}
		stop()
		for name, call := range map[string]func() error{
			"an unknown type":     func() error { _, _, err := s.List(t.Context(), event.Filter{Type: "x"}, 0, 0); return err },
			"a negative count":    func() error { _, _, err := s.List(t.Context(), event.Filter{}, 0, -1); return err },
			"too many":            func() error { _, _, err := s.List(t.Context(), event.Filter{}, 0, 1001); return err },
			"a negative sequence": func() error { _, _, err := s.List(t.Context(), event.Filter{}, -2, 1); return err },
		} {
			require.ErrorIs(t, call(), fault.Invalid, name)
		}
	})
}

func TestAHistoryHoldsTheLastOfACoreNewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		s := newService(t, event.Config{Store: store})
		defer start(t, s)()
		types := []event.Type{event.CoreCreated, event.CertificateIssued, event.StatusChanged, event.CoreTemplateUpdated}
		for i := range 150 {
			happen(t, store, types[i%4], "gw", i)
			happen(t, store, event.CoreCreated, "other", i)
		}
		settle(10 * time.Second)
		events, next, err := s.History(t.Context(), "gw", "", 0)
		require.NoError(t, err)
		assert.Empty(t, next)
		assert.LessOrEqual(t, len(events), 100)
		assert.Greater(t, len(events), 20)
		for i, e := range events {
			assert.Equal(t, 149-i, numberOf(t, e))
			assert.Equal(t, types[(149-i)%4], e.Type)
			assert.Equal(t, "gw", e.Core)
			assert.Equal(t, e.Type.Published(), e.Sequence != 0)
		}
		record, err := store.Get(t.Context(), "/ggfleet/v1/event/history/gw")
		require.NoError(t, err)
		assert.Less(t, len(record.Value), 7<<10)

		var paged []event.Event
		for after := ""; ; {
			page, next, err := s.History(t.Context(), "gw", after, 7)
			require.NoError(t, err)
			paged = append(paged, page...)
			if next == "" {
				break
			}
			after = next
		}
		assert.Equal(t, events, paged)
		none, _, err := s.History(t.Context(), "nobody", "", 0)
		require.NoError(t, err)
		assert.Empty(t, none)
	})
}

func TestAHistoryOutlivesItsCoreForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		s := newService(t, event.Config{Store: store})
		defer start(t, s)()
		for i, core := range []string{"again", "gone"} {
			happen(t, store, event.CoreCreated, core, i)
			happen(t, store, event.CoreDeleted, core, i+10)
		}
		settle(24 * time.Hour)
		length := func(core string) int {
			events, _, err := s.History(t.Context(), core, "", 0)
			require.NoError(t, err)
			return len(events)
		}
		assert.Equal(t, 2, length("gone"))
		happen(t, store, event.CoreCreated, "again", 20)
		settle(time.Minute)
		assert.Equal(t, 1, length("again"), "another core with the name has a history of its own")
		settle(31 * 24 * time.Hour)
		assert.Equal(t, 0, length("gone"))
		assert.Equal(t, 1, length("again"))
		p, err := store.List(t.Context(), "/ggfleet/v1/event/gone/", "", 0)
		require.NoError(t, err)
		assert.Empty(t, p.Entries)
	})
}

func TestAHistoryOfWhatNeverCameToBeIsNotKeptForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		s := newService(t, event.Config{Store: store})
		defer start(t, s)()
		tell := func(core, status string, types ...event.Type) {
			b := state.NewBatch(state.StepRegistry)
			for i, typ := range types {
				event.Add(b, typ, core, time.Now(), detail{N: i, Status: status})
			}
			_, err := store.Commit(t.Context(), b)
			require.NoError(t, err)
			settle(time.Minute)
		}
		length := func(core string) int {
			events, _, err := s.History(t.Context(), core, "", 0)
			require.NoError(t, err)
			return len(events)
		}
		tell("never", "failed", event.CoreCreated)
		tell("gone", "success", event.CoreCreated, event.CoreDeleted)
		tell("gone", "failed", event.CoreCreated)
		tell("later", "failed", event.CoreCreated)
		tell("later", "success", event.CertificateIssued, event.CoreCreated)
		assert.Equal(t, 1, length("never"))
		assert.Equal(t, 3, length("gone"), "a creation that failed is no other core")
		assert.Equal(t, 3, length("later"), "what led to the core is part of its history")
		settle(31 * 24 * time.Hour)
		assert.Zero(t, length("never"))
		assert.Zero(t, length("gone"))
		assert.Equal(t, 3, length("later"))
	})
}

func TestAHistoryIsSmallWhateverTheMessagesSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		s := newService(t, event.Config{Store: store})
		defer start(t, s)()
		for i := range 30 {
			b := state.NewBatch(state.StepRegistry)
			event.Add(b, event.CoreCreated, "gw", time.Now(), map[string]any{"n": i, "status": "failed", "message": strings.Repeat("\"é", 2000)})
			event.Add(b, event.CoreTemplateUpdated, "gw", time.Now(), map[string]any{"n": i, "other": strings.Repeat("x", 5000)})
			_, err := store.Commit(t.Context(), b)
			require.NoError(t, err)
		}
		settle(10 * time.Second)
		record, err := store.Get(t.Context(), "/ggfleet/v1/event/history/gw")
		require.NoError(t, err)
		assert.Less(t, len(record.Value), 7<<10)
		events, _, err := s.History(t.Context(), "gw", "", 2)
		require.NoError(t, err)
		assert.JSONEq(t, "{}", string(events[0].Detail))
		var d struct{ Message, Status string }
		require.NoError(t, json.Unmarshal(events[1].Detail, &d))
		assert.Equal(t, "failed", d.Status)
		assert.True(t, strings.HasPrefix(d.Message, "\"é\"é") && strings.HasSuffix(d.Message, "…"))
		assert.Len(t, all(t, s)[0].Detail, len(`{"message":"","n":0,"status":"failed"}`)+2000*len(`\"é`), "the log has it whole")
	})
}

// broker remembers what is published.
type broker struct {
	mu       sync.Mutex
	topics   []string
	payloads [][]byte
	err      error
}

func (b *broker) Publish(_ context.Context, topic string, payload []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.topics, b.payloads = append(b.topics, topic), append(b.payloads, payload)
	return b.err
}

func TestEachReplicaPublishesToItsOwnDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		a, b := &broker{}, &broker{err: errors.New("too busy")}
		one, two := newService(t, event.Config{Store: store, Publisher: a}), newService(t, event.Config{Store: store, Publisher: b})
		defer start(t, one)()
		defer start(t, two)()
		settle(time.Second)
		for i := range 50 {
			happen(t, store, event.CoreCreated, "gw-1", i)
		}
		settle(time.Second)
		require.Len(t, a.topics, 50)
		assert.Equal(t, a.payloads, b.payloads)
		assert.Equal(t, "ggfleet/events/gw-1/core-created-event", a.topics[0])
		var m map[string]any
		require.NoError(t, json.Unmarshal(a.payloads[49], &m))
		assert.Equal(t, map[string]any{
			"source": "com.aws.cdf.greengrass2-provisioning", "detail-type": "Core Created Event", "detail": map[string]any{"n": 49.0, "status": "success"},
			"id": m["id"], "time": m["time"], "sequence": 50.0,
		}, m)
		assert.EqualValues(t, 50, one.Metrics().Published)
		assert.EqualValues(t, 50, two.Metrics().Unpublished)
	})
}

// bus refuses some events a few times.
type bus struct {
	mu   sync.Mutex
	fail map[string]int // detail → times
	got  []event.Envelope
	err  error
}

func (b *bus) Put(_ context.Context, events []event.Envelope) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range events {
		if b.fail[string(e.Detail)] > 0 {
			b.fail[string(e.Detail)]--
			return b.err
		}
	}
	b.got = append(b.got, events...)
	return nil
}

func TestABusGetsEachEventOnce(t *testing.T) {
	for name, err := range map[string]error{
		"W-120: entries that the bus rejects are put again":               fault.New(fault.Unavailable, "1 of 1 entries rejected"),
		"W-120: an entry that it never takes becomes a dead letter of it": fault.New(fault.TooLarge, "entry is too large"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memory.New()
				b := &bus{fail: map[string]int{`{"n":3,"status":"success"}`: 4}, err: err}
				s := newService(t, event.Config{Store: store, Bus: b})
				stop := start(t, s)
				settle(time.Second)
				for i := range 20 {
					happen(t, store, event.CoreCreated, coreName(i%3), i)
				}
				settle(5 * time.Minute)
				stop()
				stop = start(t, newService(t, event.Config{Store: store, Bus: b}))
				settle(time.Minute)
				stop()
				letters, _, lerr := s.DeadLetters(t.Context(), "bus", 0, 0)
				require.NoError(t, lerr)
				assert.Len(t, b.got, 20-len(letters))
				assert.Equal(t, fault.Permanent(err), len(letters) == 1)
			})
		})
	}
}
