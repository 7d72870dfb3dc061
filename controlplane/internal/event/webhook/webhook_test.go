package webhook_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/event/webhook"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func request(url string) event.Request {
	return event.Request{URL: url, Key: []byte("sixteen letters!"), Event: event.Event{ID: "e-1", Type: event.CoreCreated, Core: "gw", Detail: []byte(`{}`), Sequence: 7}}
}

func TestARealReceiverIsReachedAndAPrivateOneCanBeDenied(t *testing.T) {
	t.Parallel()
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		_, _ = w.Write(make([]byte, 1<<20)) // more than anybody reads
	}))
	t.Cleanup(srv.Close)
	open, strict := webhook.New(webhook.Config{}), webhook.New(webhook.Config{DenyPrivate: true})
	require.NoError(t, open.CheckURL(srv.URL))
	assert.Equal(t, event.Taken, open.Send(t.Context(), request(srv.URL)).Verdict)
	assert.Equal(t, 1, asked)

	require.ErrorIs(t, strict.CheckURL(srv.URL), fault.Invalid)
	o := strict.Send(t.Context(), request(srv.URL+"/?token=abc")) // a name that came to mean this machine later
	assert.Equal(t, event.Again, o.Verdict)
	assert.Contains(t, o.Reason, "address is not allowed for webhooks")
	assert.NotContains(t, o.Reason, "token")
	assert.Equal(t, 1, asked)
}

func TestARedirectIsAnAnswerAndNoWayElsewhere(t *testing.T) {
	t.Parallel()
	inner := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inner++ }))
	t.Cleanup(elsewhere.Close)
	srv := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(srv.Close)
	o := webhook.New(webhook.Config{}).Send(t.Context(), request(srv.URL))
	assert.Equal(t, event.Outcome{Verdict: event.Again, Reason: "answered 307 Temporary Redirect"}, o)
	assert.Zero(t, inner)
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
		"fd00:ec2::23":       {false, false}, // credentials of pods
		"192.0.0.192":        {false, false},
		"100.64.1.2":         {true, false}, // behind a carrier's NAT, or inside a cluster
		"100.100.100.200":    {false, false},
		"0.0.0.0":            {false, false},
		"::":                 {false, false},
		"224.0.0.1":          {false, false},
		"255.255.255.255":    {false, false},
	} {
		assert.Equal(t, want.open, webhook.AddressAllowed(addr, false), addr)
		assert.Equal(t, want.strict, webhook.AddressAllowed(addr, true), addr)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "120", "-5", "99999999999999999999", "Fri, 31 Dec 1999 23:59:59 GMT", " 7 ", "1e3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, v string) {
		d := webhook.RetryAfter(v, time.Unix(1e9, 0))
		assert.GreaterOrEqual(t, d, time.Duration(0))
		assert.LessOrEqual(t, d, 10*time.Minute)
	})
}

func FuzzCheckURL(f *testing.F) {
	for _, seed := range []string{"https://example.com/x?y", "http://127.0.0.1:1/", "https://[::1", "https://a@b/", "//x", "https://0/", "https://0x7f.1/", "https:///", "\x00"} {
		f.Add(seed)
	}
	s := webhook.New(webhook.Config{DenyPrivate: true})
	f.Fuzz(func(t *testing.T, url string) {
		if err := s.CheckURL(url); err != nil {
			assert.Equal(t, "url", fault.FieldOf(err))
			return
		}
		assert.True(t, strings.HasPrefix(strings.ToLower(url), "https://"), url)
		_, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
		require.NoError(t, err)
	})
}
