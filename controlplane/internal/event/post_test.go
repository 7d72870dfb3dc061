package event_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
)

func TestARealReceiverIsReachedAndAPrivateOneCanBeDenied(t *testing.T) {
	t.Parallel()
	got := make(chan string, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Webhook-Id")
		_, _ = w.Write(make([]byte, 1<<20)) // more than anybody reads
	}))
	t.Cleanup(srv.Close)
	store := memory.New()
	s := newService(t, event.Config{Store: store})
	w, _, err := s.CreateWebhook(t.Context(), event.NewWebhook{URL: srv.URL})
	require.NoError(t, err)
	happen(t, store, event.CoreCreated, coreName(0), 0)
	stop := start(t, s)
	assert.NotEmpty(t, <-got)
	stop()

	// The same record under a stricter server.
	s = newService(t, event.Config{Store: store, DenyPrivate: true, GiveUp: time.Nanosecond})
	_, _, err = s.CreateWebhook(t.Context(), event.NewWebhook{URL: srv.URL})
	require.ErrorContains(t, err, "this machine")
	happen(t, store, event.CoreCreated, coreName(0), 1)
	stop = start(t, s)
	defer stop()
	var letters []event.DeadLetter
	require.Eventually(t, func() bool {
		letters, _, err = s.DeadLetters(t.Context(), w.ID, 0, 0)
		return err == nil && len(letters) == 1
	}, 20*time.Second, 10*time.Millisecond)
	assert.Contains(t, letters[0].Reason, "address is not allowed for webhooks")
	assert.Empty(t, got)
}

func TestAddressesThatWebhooksReach(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]struct{ open, strict bool }{
		"93.184.215.14":      {true, true},
		"10.1.2.3":           {true, false},
		"192.168.0.9":        {true, false},
		"127.0.0.1":          {true, false},
		"::1":                {true, false},
		"fd12::7":            {true, false},
		"169.254.169.254":    {false, false},
		"::ffff:a9fe:a9fe":   {false, false},
		"64:ff9b::a9fe:a9fe": {false, false},
		"fe80::1":            {false, false},
		"fd00:ec2::254":      {false, false},
		"100.100.100.200":    {false, false},
		"0.0.0.0":            {false, false},
		"::":                 {false, false},
		"224.0.0.1":          {false, false},
		"255.255.255.255":    {false, false},
	} {
		assert.Equal(t, want.open, event.AddressAllowed(addr, false), addr)
		assert.Equal(t, want.strict, event.AddressAllowed(addr, true), addr)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "120", "-5", "99999999999999999999", "Fri, 31 Dec 1999 23:59:59 GMT", " 7 ", "1e3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, v string) {
		d := event.RetryAfter(v, time.Unix(1e9, 0))
		assert.GreaterOrEqual(t, d, time.Duration(0))
		assert.LessOrEqual(t, d, 10*time.Minute)
	})
}

func FuzzNewWebhook(f *testing.F) {
	for _, seed := range []string{hookURL, "http://127.0.0.1:1/", "https://[::1", "https://a@b/", "//x", "https://0/", "https://0x7f.1/", "https:///", "\x00"} {
		f.Add(seed, "sixteen letters!")
		f.Add(seed, "whsec_AAAA")
	}
	store := memory.New()
	s, err := event.New(event.Config{Store: store, Sealer: sealer(f), DenyPrivate: true})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, url, secret string) {
		w, _, err := s.CreateWebhook(t.Context(), event.NewWebhook{URL: url, Secret: secret})
		if err != nil {
			assert.NotEmpty(t, err.Error())
			return
		}
		assert.True(t, strings.HasPrefix(strings.ToLower(w.URL), "https://"), w.URL)
		_, err = http.NewRequestWithContext(t.Context(), http.MethodPost, w.URL, nil)
		require.NoError(t, err)
		require.NoError(t, s.DeleteWebhook(t.Context(), w.ID, 0))
	})
}
