package event_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/event/webhook"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestWebhooksAreCheckedAndEditedByVersion(t *testing.T) {
	t.Parallel()
	s := newService(t, event.Config{Store: memory.New()})
	for name, n := range map[string]event.NewWebhook{
		"no URL":                           {},
		"not a URL":                        {URL: "https://a b/%zz"},
		"another scheme":                   {URL: "ftp://example.com/"},
		"no host":                          {URL: "https:///path"},
		"a password":                       {URL: "https://user:secret@example.com/"},
		"a fragment":                       {URL: "https://example.com/#x"},
		"plain http to another machine":    {URL: "http://10.0.0.7/hook"},
		"the metadata address":             {URL: "https://169.254.169.254/latest"},
		"the same through IPv6":            {URL: "https://[::ffff:169.254.169.254]/latest"},
		"the same through NAT64":           {URL: "https://[64:ff9b::a9fe:a9fe]/latest"},
		"an address of the link":           {URL: "https://[fe80::1]/"},
		"nobody's address":                 {URL: "https://0.0.0.0/"},
		"a URL that is too long":           {URL: "https://example.com/" + strings.Repeat("x", 2048)},
		"an unknown type":                  {URL: hookURL, Types: []event.Type{"Core Exploded Event"}},
		"a type that is history only":      {URL: hookURL, Types: []event.Type{event.StatusChanged}},
		"a short secret":                   {URL: hookURL, Secret: "fifteen letters"},
		"a long secret":                    {URL: hookURL, Secret: strings.Repeat("x", 257)},
		"a coded secret that is too short": {URL: hookURL, Secret: "whsec_" + base64.StdEncoding.EncodeToString([]byte("short"))},
	} {
		_, _, err := s.CreateWebhook(t.Context(), n)
		require.ErrorIs(t, err, fault.Invalid, name)
		assert.NotEmpty(t, fault.FieldOf(err), name)
		assert.NotContains(t, err.Error(), "secret@", name)
	}
	for _, ok := range []string{"https://10.0.0.7/hook", "http://localhost:9000/", "http://127.0.0.1/", "http://[::1]:80/x"} {
		_, secret, err := s.CreateWebhook(t.Context(), event.NewWebhook{URL: ok, Secret: "sixteen letters!"})
		require.NoError(t, err, ok)
		assert.Equal(t, "sixteen letters!", secret)
	}
	list, err := s.Webhooks(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 4)
	w, url := list[0], "https://example.com/new"
	changed, err := s.UpdateWebhook(t.Context(), w.ID, event.WebhookUpdate{URL: &url}, 1)
	require.NoError(t, err)
	assert.Equal(t, 2, changed.Version)
	_, err = s.UpdateWebhook(t.Context(), w.ID, event.WebhookUpdate{URL: &url}, 1)
	require.ErrorIs(t, err, fault.Stale)
	require.ErrorIs(t, s.DeleteWebhook(t.Context(), w.ID, 1), fault.Stale)
	require.NoError(t, s.DeleteWebhook(t.Context(), w.ID, 2))
	require.ErrorIs(t, s.DeleteWebhook(t.Context(), w.ID, 0), fault.NotFound)
	_, err = s.Webhook(t.Context(), "../head")
	require.ErrorIs(t, err, fault.NotFound)
	require.ErrorIs(t, s.Replay(t.Context(), list[1].ID, event.ReplayRequest{}), fault.Invalid)
	require.ErrorIs(t, s.Replay(t.Context(), list[1].ID, event.ReplayRequest{FromSequence: 1}), fault.Invalid)
	for {
		if _, _, err = s.CreateWebhook(t.Context(), event.NewWebhook{URL: hookURL}); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, fault.Exhausted)
}

func TestARequestThatComesAgainMakesTheSameWebhook(t *testing.T) {
	t.Parallel()
	s := newService(t, event.Config{Store: memory.New()})
	n := event.NewWebhook{URL: "https://10.0.0.7/hook", Key: "order-1"}
	first, lost, err := s.CreateWebhook(t.Context(), n)
	require.NoError(t, err)
	again, secret, err := s.CreateWebhook(t.Context(), n)
	require.NoError(t, err)
	assert.Equal(t, first.ID, again.ID)
	assert.NotEqual(t, lost, secret, "the first one was told to nobody")

	n.Key = "order-2"
	other, _, err := s.CreateWebhook(t.Context(), n)
	require.NoError(t, err)
	assert.NotEqual(t, first.ID, other.ID)
	list, err := s.Webhooks(t.Context())
	require.NoError(t, err)
	assert.Len(t, list, 2)
}

func TestASecretIsStoredSealed(t *testing.T) {
	t.Parallel()
	store := memory.New()
	s := newService(t, event.Config{Store: store})
	_, _, err := s.CreateWebhook(t.Context(), event.NewWebhook{URL: hookURL, Secret: "a secret of the receiver"})
	require.NoError(t, err)
	p, err := store.List(t.Context(), "", "", 0)
	require.NoError(t, err)
	for _, e := range p.Entries {
		assert.NotContains(t, string(e.Value), "a secret of")
		assert.NotContains(t, string(e.Value), base64.StdEncoding.EncodeToString([]byte("a secret of")))
	}
}

func TestAReceiverThatIsGoneDoesNotPauseTheOneThatFollowedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReceiver(nil)
		s, store, w, stop := hooked(t, r, event.NewWebhook{}, event.Config{})
		defer stop()
		url := "https://new.example.com/"
		r.set(func(webhook.CloudEvent, int) (*http.Response, error) {
			r.set(always(http.StatusOK))
			_, err := s.UpdateWebhook(t.Context(), w.ID, event.WebhookUpdate{URL: &url}, 0) // while the old one is asked
			require.NoError(t, err)
			return status(http.StatusGone)
		})
		happen(t, store, event.CoreCreated, coreName(0), 0)
		settle(time.Hour)
		w, err := s.Webhook(t.Context(), w.ID)
		require.NoError(t, err)
		assert.True(t, w.Active, w.Reason)
		assert.Equal(t, upTo(1), r.numbers(t))
	})
}
