package event_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/event/webhook"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const hookURL = "https://hooks.example.com/in?token=abc"

// hooked runs a service with one webhook that r receives, within a bubble.
func hooked(t *testing.T, r *receiver, n event.NewWebhook, cfg event.Config) (*event.Service, *memory.Store, event.Webhook, func()) {
	t.Helper()
	store := memory.New()
	cfg.Store, cfg.Sender = store, to(r)
	s := newService(t, cfg)
	if n.URL == "" {
		n.URL = hookURL
	}
	w, _, err := s.CreateWebhook(t.Context(), n)
	require.NoError(t, err)
	return s, store, w, start(t, s)
}

func TestARequestIsASignedCloudEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(always(http.StatusNoContent))
		_, store, _, stop := hooked(t, r, event.NewWebhook{Secret: "whsec_" + base64.StdEncoding.EncodeToString([]byte("twenty-four bytes of key"))}, event.Config{})
		defer stop()
		at := time.Now()
		happen(t, store, event.DeploymentTaskCreated, "gw-0001", 1)
		settle(time.Second)
		require.Len(t, r.requests, 1)
		req, body := r.requests[0], r.bodies[0]
		assert.Equal(t, hookURL, req.URL.String())
		assert.Equal(t, "application/cloudevents+json; charset=utf-8", req.Header.Get("Content-Type"))

		m := hmac.New(sha256.New, []byte("twenty-four bytes of key"))
		_, _ = io.WriteString(m, req.Header.Get("webhook-id")+"."+req.Header.Get("webhook-timestamp")+"."+string(body))
		sig, ok := strings.CutPrefix(req.Header.Get("webhook-signature"), "v1,")
		require.True(t, ok)
		raw, err := base64.StdEncoding.DecodeString(sig)
		require.NoError(t, err)
		assert.True(t, hmac.Equal(m.Sum(nil), raw))

		var got map[string]any
		require.NoError(t, json.Unmarshal(body, &got))
		id := got["id"]
		assert.Equal(t, req.Header.Get("webhook-id"), id)
		when := at.UTC().Format(time.RFC3339Nano)
		assert.Equal(t, map[string]any{
			"specversion": "1.0", "id": id, "source": "com.aws.cdf.greengrass2-provisioning",
			"type":    "com.aws.cdf.greengrass2-provisioning.deployment-task-created-event",
			"subject": "gw-0001", "time": when, "datacontenttype": "application/json", "sequence": "1",
			"data": map[string]any{
				"source": "com.aws.cdf.greengrass2-provisioning", "detail-type": "DeploymentTask Created Event",
				"detail": map[string]any{"n": 1.0, "status": "success"}, "id": id, "time": when,
			},
		}, got)
	})
}

func TestWhateverTheReceiverDoesEachEventArrivesInTheOrderOfItsCore(t *testing.T) {
	answers := map[string]func(webhook.CloudEvent, int) (*http.Response, error){
		"W-120: it fails twice with 500": func(_ webhook.CloudEvent, n int) (*http.Response, error) {
			if n <= 2 {
				return status(http.StatusInternalServerError)
			}
			return status(http.StatusOK)
		},
		"it hangs once": func(_ webhook.CloudEvent, n int) (*http.Response, error) {
			if n == 1 {
				return nil, nil
			}
			return status(http.StatusOK)
		},
		"it redirects elsewhere at first": func(_ webhook.CloudEvent, n int) (*http.Response, error) {
			if n == 1 {
				return status(http.StatusTemporaryRedirect, "Location", "https://elsewhere.example.com/")
			}
			return status(http.StatusOK)
		},
		"it breaks the connection": func(_ webhook.CloudEvent, n int) (*http.Response, error) {
			if n <= 3 {
				return nil, errors.New("connection reset by peer")
			}
			return status(http.StatusOK)
		},
		"one core's events hang for long": func(e webhook.CloudEvent, n int) (*http.Response, error) {
			if e.Subject == coreName(1) && n <= 5 {
				return nil, nil
			}
			return status(http.StatusOK)
		},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newReceiver(answer)
				s, store, w, stop := hooked(t, r, event.NewWebhook{}, event.Config{})
				defer stop()
				const n = 200
				for i := range n {
					happen(t, store, event.CoreCreated, coreName(i%4), i)
				}
				settle(6 * time.Hour)
				byCore := map[string][]int{}
				for i, e := range r.taken() {
					byCore[e.Subject] = append(byCore[e.Subject], r.numbers(t)[i])
				}
				for c := range 4 {
					var want []int
					for i := c; i < n; i += 4 {
						want = append(want, i)
					}
					assert.Equal(t, want, byCore[coreName(c)])
				}
				w, err := s.Webhook(t.Context(), w.ID)
				require.NoError(t, err)
				assert.EqualValues(t, n, w.Sequence)
				assert.EqualValues(t, n, s.Metrics().Delivered)
				assert.Zero(t, s.Metrics().DeadLetters)
				for _, req := range r.requests {
					assert.Equal(t, "hooks.example.com", req.URL.Host, "redirects are not followed")
				}
			})
		})
	}
}

func TestOneSlowCoreDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(func(e webhook.CloudEvent, _ int) (*http.Response, error) {
			if e.Subject == coreName(0) {
				return status(http.StatusServiceUnavailable)
			}
			return status(http.StatusOK)
		})
		_, store, _, stop := hooked(t, r, event.NewWebhook{}, event.Config{})
		defer stop()
		for i := range 100 {
			happen(t, store, event.CoreCreated, coreName(i%10), i)
		}
		settle(5 * time.Second)
		assert.Len(t, r.taken(), 90)
	})
}

func TestARestartDeliversAtLeastOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(always(http.StatusOK))
		_, store, _, stop := hooked(t, r, event.NewWebhook{}, event.Config{})
		const n = 300
		for i := range n {
			happen(t, store, event.CoreCreated, coreName(i%4), i)
			if i%50 == 49 {
				settle(20 * time.Millisecond)
				stop()
				stop = start(t, newService(t, event.Config{Store: store, Sender: to(r)}))
			}
		}
		settle(time.Minute)
		stop()
		seen := map[string]int{}
		for _, e := range r.taken() {
			if seen[e.ID] == 0 {
				seen[e.ID] = 1
			}
		}
		assert.Len(t, seen, n)
	})
}

func TestWhatIsGivenUpIsADeadLetterThatCanBeReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(func(e webhook.CloudEvent, _ int) (*http.Response, error) {
			switch e.Subject {
			case coreName(0):
				return status(http.StatusInternalServerError)
			case coreName(1):
				return status(http.StatusBadRequest)
			}
			return status(http.StatusOK)
		})
		s, store, w, stop := hooked(t, r, event.NewWebhook{}, event.Config{GiveUp: 10 * time.Minute})
		defer func() { stop() }()
		for i := range 9 {
			happen(t, store, event.CoreCreated, coreName(i%3), i)
		}
		settle(2 * time.Second)
		letters, next, err := s.DeadLetters(t.Context(), w.ID, 0, 0)
		require.NoError(t, err)
		assert.Zero(t, next)
		require.Len(t, letters, 3, "what the receiver calls bad is given up at once")
		assert.Equal(t, "answered 400 Bad Request", letters[0].Reason)
		assert.Equal(t, 1, letters[0].Attempts)

		settle(time.Hour)
		letters, next, err = s.DeadLetters(t.Context(), w.ID, 0, 4)
		require.NoError(t, err)
		require.Len(t, letters, 4)
		rest, end, err := s.DeadLetters(t.Context(), w.ID, next, 4)
		require.NoError(t, err)
		require.Len(t, rest, 2)
		assert.Zero(t, end)
		assert.Equal(t, "answered 500 Internal Server Error", letters[0].Reason)
		assert.Greater(t, letters[0].Attempts, 8)
		at, err := s.Webhook(t.Context(), w.ID)
		require.NoError(t, err)
		assert.EqualValues(t, 9, at.Sequence, "dead letters do not hold up the rest")

		stop()
		require.NoError(t, s.Replay(t.Context(), w.ID, event.ReplayRequest{DeadLetters: true}))
		r.set(always(http.StatusOK))
		stop = start(t, newService(t, event.Config{Store: store, Sender: to(r)}))
		settle(time.Minute)
		letters, _, err = s.DeadLetters(t.Context(), w.ID, 0, 0)
		require.NoError(t, err)
		assert.Empty(t, letters)
		assert.Equal(t, []int{2, 5, 8}, r.numbers(t)[:3])
		byCore := map[string][]int{}
		for i, e := range r.taken() {
			byCore[e.Subject] = append(byCore[e.Subject], r.numbers(t)[i])
		}
		assert.Equal(t, map[string][]int{coreName(0): {0, 3, 6}, coreName(1): {1, 4, 7}, coreName(2): {2, 5, 8}}, byCore)
	})
}

func TestDeadLettersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(always(http.StatusUnprocessableEntity))
		s, store, w, stop := hooked(t, r, event.NewWebhook{}, event.Config{})
		defer stop()
		for i := range event.MaxDeadLetters + 50 {
			happen(t, store, event.CoreCreated, coreName(i%7), i)
		}
		settle(time.Minute)
		letters, next, err := s.DeadLetters(t.Context(), w.ID, 0, 1000)
		require.NoError(t, err)
		assert.Len(t, letters, event.MaxDeadLetters)
		assert.Zero(t, next)
		assert.EqualValues(t, 51, letters[0].Event.Sequence)

		require.NoError(t, s.DeleteWebhook(t.Context(), w.ID, 0))
		settle(time.Second)
		p, err := store.List(t.Context(), state.Root+"event/dead/", "", 0)
		require.NoError(t, err)
		assert.Empty(t, p.Entries)
		_, _, err = s.DeadLetters(t.Context(), w.ID, 0, 0)
		require.ErrorIs(t, err, fault.NotFound)
	})
}

func TestAReceiverThatIsGonePausesItsWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(always(http.StatusGone))
		s, store, w, stop := hooked(t, r, event.NewWebhook{}, event.Config{})
		defer stop()
		for i := range 5 {
			happen(t, store, event.CoreCreated, coreName(0), i)
		}
		settle(time.Hour)
		assert.Len(t, r.requests, 1)
		w, err := s.Webhook(t.Context(), w.ID)
		require.NoError(t, err)
		assert.False(t, w.Active)
		assert.Equal(t, "the receiver answered 410 Gone", w.Reason)

		r.set(always(http.StatusOK))
		yes := true
		w, err = s.UpdateWebhook(t.Context(), w.ID, event.WebhookUpdate{Active: &yes}, w.Version)
		require.NoError(t, err)
		assert.Empty(t, w.Reason)
		settle(time.Minute)
		assert.Equal(t, upTo(5), r.numbers(t), "it goes on where it was")
	})
}

func TestRetryAfterIsHonouredWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var times []time.Time
		r := newReceiver(func(_ webhook.CloudEvent, n int) (*http.Response, error) {
			times = append(times, time.Now())
			switch n {
			case 1:
				return status(http.StatusTooManyRequests, "Retry-After", "120")
			case 2:
				return status(http.StatusServiceUnavailable, "Retry-After", time.Now().Add(30*24*time.Hour).UTC().Format(http.TimeFormat))
			}
			return status(http.StatusOK)
		})
		_, store, _, stop := hooked(t, r, event.NewWebhook{}, event.Config{})
		defer stop()
		happen(t, store, event.CoreCreated, coreName(0), 0)
		settle(time.Hour)
		require.Len(t, times, 3)
		assert.Equal(t, 2*time.Minute, times[1].Sub(times[0]))
		assert.Equal(t, 10*time.Minute, times[2].Sub(times[1]))
	})
}

func TestAWebhookGetsTheTypesItAskedForFromItsBeginningOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(always(http.StatusOK))
		store := memory.New()
		s := newService(t, event.Config{Store: store, Sender: to(r)})
		defer start(t, s)()
		happen(t, store, event.CoreDeleted, coreName(0), 0)
		settle(time.Second)
		w, secret, err := s.CreateWebhook(t.Context(), event.NewWebhook{URL: hookURL, Types: []event.Type{event.CoreDeleted, event.CoreDeleted}})
		require.NoError(t, err)
		assert.Regexp(t, `^whsec_[A-Za-z0-9+/]{43}=$`, secret)
		assert.Equal(t, []event.Type{event.CoreDeleted}, w.Types)
		for i, typ := range []event.Type{event.CoreCreated, event.CoreDeleted, event.StatusChanged, event.DeviceCreated, event.CoreDeleted} {
			happen(t, store, typ, coreName(0), i+1)
		}
		settle(5 * time.Second)
		assert.Equal(t, []int{2, 5}, r.numbers(t))
		w, err = s.Webhook(t.Context(), w.ID)
		require.NoError(t, err)
		assert.EqualValues(t, 5, w.Sequence, "1 before, and all but the one that is history only")

		require.NoError(t, s.Replay(t.Context(), w.ID, event.ReplayRequest{FromSequence: 1}))
		settle(5 * time.Second)
		assert.Equal(t, []int{2, 5, 0, 2, 5}, r.numbers(t))
	})
}

func TestEventsThatLeftTheLogUndeliveredAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(always(http.StatusOK))
		store := memory.New()
		s := newService(t, event.Config{Store: store, Sender: to(r), Retain: 100})
		w, _, err := s.CreateWebhook(t.Context(), event.NewWebhook{URL: hookURL, Inactive: true})
		require.NoError(t, err)
		stop := start(t, s)
		const n = 11_000 // more than replicas have in memory
		happenMany(t, store, 0, n, 9)
		settle(time.Minute)
		stop()
		first, _, err := s.Bounds(t.Context())
		require.NoError(t, err)
		s = newService(t, event.Config{Store: store, Sender: to(r), Retain: 100})
		defer start(t, s)()
		yes := true
		_, err = s.UpdateWebhook(t.Context(), w.ID, event.WebhookUpdate{Active: &yes}, 0)
		require.NoError(t, err)
		settle(time.Minute)
		w, err = s.Webhook(t.Context(), w.ID)
		require.NoError(t, err)
		assert.EqualValues(t, n, w.Sequence)
		assert.Equal(t, first-1, w.Lost)
		assert.Len(t, r.taken(), n-int(w.Lost))

		require.NoError(t, s.Replay(t.Context(), w.ID, event.ReplayRequest{FromSequence: n}))
		settle(time.Minute)
		w, err = s.Webhook(t.Context(), w.ID)
		require.NoError(t, err)
		assert.Equal(t, first-1, w.Lost, "a replay brings back nothing of that")
	})
}
