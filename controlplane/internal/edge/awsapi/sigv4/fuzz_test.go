package sigv4_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/sigv4"
	"github.com/ggfleet/ggfleet/shared/logx"
)

func FuzzVerify(f *testing.F) {
	for _, rec := range readRecorded(f) {
		r := rec.request(f)
		f.Add(r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get("Authorization"), r.Header.Get("X-Amz-Date"), r.Header.Get("X-Amz-Security-Token"))
	}
	f.Add("GET", "//../%", "a=%zz;b&&=&X-Amz-Algorithm=AWS4-HMAC-SHA256", goodHeader, "20260102T030405Z", "")
	wrong, err := sigv4.New(sigv4.Config{Secrets: secretsOf("another secret"), Now: func() time.Time { return signedAt }})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, method, path, query, authorization, date, token string) {
		r, err := http.NewRequest(http.MethodGet, "http://localhost:4566/", nil)
		require.NoError(t, err)
		r.Method, r.URL.Path, r.URL.RawPath, r.URL.RawQuery = method, path, path, query
		r.Header = http.Header{"Authorization": {authorization}, "X-Amz-Date": {date}, "X-Amz-Security-Token": {token}}
		caller, err := wrong.Verify(t.Context(), r, func() (string, error) { return strings.Repeat("0", 64), nil })
		assert.Equal(t, sigv4.Caller{}, caller)
		e, ok := errors.AsType[*sigv4.Error](err)
		require.True(t, ok, "whatever comes in, the caller is to blame: %v", err)
		assert.Less(t, len(e.Message), 1000)
	})
}

// secretsOf knows every key.
type secretsOf string

func (s secretsOf) Secret(context.Context, string, string) (sigv4.Credential, error) {
	return sigv4.Credential{Secret: logx.NewSecret(string(s)), Role: access.Admin}, nil
}
