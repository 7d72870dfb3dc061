package s3store_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/object/objecttest"
	"github.com/ggfleet/ggfleet/controlplane/internal/s3store"
	"github.com/ggfleet/ggfleet/controlplane/internal/s3store/s3test"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

func TestEmbeddedKeepsTheContract(t *testing.T) {
	s := bucketOf(t, startEmbedded(t), "artifacts")
	objecttest.Run(t, func(*testing.T) object.Store { return s })
}

func TestAFileSystemWithoutAttributesKeepsTheContract(t *testing.T) {
	s := bucketOf(t, startEmbedded(t, s3store.WithoutAttributes), "artifacts")
	objecttest.Run(t, func(*testing.T) object.Store { return s })
}

func TestAnotherS3KeepsTheContract(t *testing.T) {
	s, err := s3store.New(s3test.Start(t).Config("artifacts"))
	require.NoError(t, err)
	require.NoError(t, s.EnsureBucket(t.Context()))
	require.NoError(t, s.EnsureBucket(t.Context()), "the bucket may exist")
	objecttest.Run(t, func(*testing.T) object.Store { return s })
}

func TestS3ThatGoesAwayIsUnavailableAndThenBack(t *testing.T) {
	srv := s3test.Start(t)
	s, err := s3store.New(srv.Config("artifacts"))
	require.NoError(t, err)
	require.NoError(t, s.EnsureBucket(t.Context()))
	put := func(key string) error {
		return s.Put(t.Context(), state.PutCerts, key, strings.NewReader("x"), 1, "")
	}
	require.NoError(t, put("before"))

	srv.Kill()
	require.ErrorIs(t, put("while"), fault.Unavailable)
	_, err = s.Stat(t.Context(), "before")
	require.ErrorIs(t, err, fault.Unavailable)
	_, _, err = s.Open(t.Context(), "before")
	require.ErrorIs(t, err, fault.Unavailable)
	_, err = s.List(t.Context(), "", "", 0)
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, s.Delete(t.Context(), "before"), fault.Unavailable)
	require.ErrorIs(t, s.EnsureBucket(t.Context()), fault.Unavailable)

	srv.Restart()
	require.NoError(t, put("after"))
	_, err = s.Stat(t.Context(), "before")
	require.NoError(t, err, "what was acknowledged before the kill is there")
}

func TestAReplacedObjectIsNotMixed(t *testing.T) {
	s := bucketOf(t, startEmbedded(t), "artifacts")
	put := func(text string) {
		require.NoError(t, s.Put(t.Context(), state.PutArtifact, "k", strings.NewReader(text), int64(len(text)), ""))
	}
	put("first version")
	r, _, err := s.Open(t.Context(), "k")
	require.NoError(t, err)
	defer r.Close()
	put("other version")
	_, err = r.Seek(3, io.SeekStart)
	require.NoError(t, err)
	_, err = io.ReadAll(r)
	require.Error(t, err)
}

// counting counts the requests that a store sends.
type counting struct {
	http.RoundTripper
	n atomic.Int64
}

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.RoundTripper.RoundTrip(r)
}

func TestNoRequestIsSentInVain(t *testing.T) {
	cfg := s3test.Start(t).Config("artifacts")
	count := &counting{RoundTripper: s3store.NewTransport()}
	cfg.Transport = count
	s, err := s3store.New(cfg)
	require.NoError(t, err)
	require.Zero(t, count.n.Load(), "New sends nothing")
	require.NoError(t, s.EnsureBucket(t.Context()))
	sent := func(what string, f func()) {
		before := count.n.Load()
		f()
		assert.EqualValues(t, 1, count.n.Load()-before, what)
	}
	sent("put", func() {
		require.NoError(t, s.Put(t.Context(), state.PutCerts, "k", strings.NewReader("0123456789"), 10, ""))
	})
	sent("a download by net/http, which seeks to the end and back for the size", func() {
		r, info, err := s.Open(t.Context(), "k")
		require.NoError(t, err)
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", "text/plain") // else net/http reads the start to guess it
		http.ServeContent(w, httptest.NewRequest(http.MethodGet, "/k", nil), "k", info.ModTime, r)
		require.NoError(t, r.Close())
		assert.Equal(t, "0123456789", w.Body.String())
	})
	sent("stat", func() { _, err = s.Stat(t.Context(), "k"); require.NoError(t, err) })
	sent("list", func() { _, err = s.List(t.Context(), "k", "", 10); require.NoError(t, err) })
	sent("delete", func() { require.NoError(t, s.Delete(t.Context(), "k")) })
}

// answer is an S3 that answers every request alike.
func answer(t *testing.T, status int, code string) *s3store.Store {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		body, err := xml.Marshal(minio.ErrorResponse{Code: code, Message: "made by the test"})
		assert.NoError(t, err)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}))
	t.Cleanup(srv.Close)
	s, err := s3store.New(s3store.Config{
		Endpoint: srv.Listener.Addr().String(), Bucket: "artifacts", Region: region,
		AccessKey: "key", SecretKey: logx.NewSecret("secret"), PathStyle: true,
	})
	require.NoError(t, err)
	return s
}

func TestErrorsOfS3HaveTheKindThatCallersActOn(t *testing.T) {
	for _, tt := range []struct {
		status int
		code   string
		want   fault.Kind
	}{
		{404, "NoSuchKey", fault.NotFound},
		{404, "NoSuchBucket", ""},
		{403, "AccessDenied", ""},
		{403, "SignatureDoesNotMatch", ""},
		{400, "EntityTooLarge", fault.TooLarge},
		{503, "SlowDown", fault.Exhausted},
		{429, "TooManyRequests", fault.Exhausted},
		{500, "InternalError", fault.Unavailable},
		{503, "ServiceUnavailable", fault.Unavailable},
		{502, "", fault.Unavailable},
	} {
		t.Run(fmt.Sprintf("%d %s", tt.status, tt.code), func(t *testing.T) {
			s := answer(t, tt.status, tt.code)
			_, _, err := s.Open(t.Context(), "k")
			require.Error(t, err)
			assert.Equal(t, tt.want, fault.KindOf(err), "%v", err)
			err = s.Put(t.Context(), state.PutCerts, "k", bytes.NewReader([]byte("x")), 1, "")
			require.Error(t, err)
			assert.Equal(t, tt.want, fault.KindOf(err), "%v", err)
		})
	}
}

func TestAServerThatNeverAnswersIsUnavailableAtTheDeadline(t *testing.T) {
	gone := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-gone }))
	t.Cleanup(func() { close(gone); srv.Close() })
	s, err := s3store.New(s3store.Config{
		Endpoint: srv.Listener.Addr().String(), Bucket: "artifacts", Region: region,
		AccessKey: "key", SecretKey: logx.NewSecret("secret"), PathStyle: true,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 1, context.DeadlineExceeded)
	defer cancel()
	_, err = s.Stat(ctx, "k")
	require.ErrorIs(t, err, fault.Unavailable)
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	full := s3store.Config{Endpoint: "h", Bucket: "bucket", Region: "r", AccessKey: "a", SecretKey: logx.NewSecret("hidden-text")}
	_, err := s3store.New(full)
	require.NoError(t, err)
	for field, cfg := range map[string]s3store.Config{
		"endpoint":   {Bucket: full.Bucket, Region: full.Region, AccessKey: full.AccessKey, SecretKey: full.SecretKey},
		"bucket":     {Endpoint: full.Endpoint, Region: full.Region, AccessKey: full.AccessKey, SecretKey: full.SecretKey},
		"secret key": {Endpoint: full.Endpoint, Bucket: full.Bucket, Region: full.Region, AccessKey: full.AccessKey},
	} {
		_, err := s3store.New(cfg)
		require.ErrorContains(t, err, field)
	}
	assert.NotContains(t, fmt.Sprintf("%+v", full), "hidden-text")
}
