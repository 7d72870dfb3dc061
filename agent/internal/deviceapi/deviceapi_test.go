package deviceapi_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/deviceapi"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func serve(t *testing.T, h http.HandlerFunc) *deviceapi.Client {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	transport, ok := s.Client().Transport.(*http.Transport)
	require.True(t, ok)
	c, err := deviceapi.New(deviceapi.Config{URL: s.URL, TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: transport.TLSClientConfig.RootCAs}})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestStatusesBecomeKinds(t *testing.T) {
	for status, kind := range map[int]fault.Kind{
		400: fault.Invalid, 401: fault.Unauthenticated, 403: fault.Denied, 404: fault.NotFound, 409: fault.Conflict,
		413: fault.TooLarge, 429: fault.Exhausted, 500: fault.Unavailable, 503: fault.Unavailable, 302: fault.Unavailable,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "https://elsewhere.example/")
				w.WriteHeader(status)
				_, _ = w.Write([]byte(`{"message":"because"}`))
			})
			_, err := c.Core(t.Context(), protocol.AssignmentQuery{})
			require.ErrorIs(t, err, kind)
			assert.Equal(t, "because", fault.Message(err))
		})
	}
}

func TestAnswersAreBounded(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 300 {
			_, _ = w.Write(make([]byte, 8192))
		}
	})
	_, err := c.CoreConfig(t.Context())
	require.ErrorContains(t, err, "more than")
}

func TestDownload(t *testing.T) {
	const whole = "0123456789"
	tests := map[string]struct {
		have   string
		handle http.HandlerFunc
		want   string
		err    bool
	}{
		"from the start": {"", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(whole)) }, whole, false},
		"goes on where it was": {"0123", func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "bytes=4-", r.Header.Get("Range"))
			w.Header().Set("Content-Range", "bytes 4-9/10")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte(whole[4:]))
		}, whole, false},
		"a server that knows no ranges": {"xxxx", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(whole)) }, whole, false},
		"more here than there is":       {"01234567890123", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(whole)) }, whole, false},
		"a server that sends too much":  {"", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(whole + "more")) }, whole, false},
		"cut in the middle":             {"", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(whole[:5])) }, whole[:5], true},
		"refused":                       {"01", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "01", true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "f")
			require.NoError(t, os.WriteFile(file, []byte(tc.have), 0o600))
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			require.NoError(t, err)
			defer f.Close()
			err = serve(t, tc.handle).Download(t.Context(), protocol.Distribution{Name: "n", Version: "1", Digest: "d", Size: int64(len(whole))}, f)
			assert.Equal(t, tc.err, err != nil, "%v", err)
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, tc.want, string(b))
		})
	}
}
