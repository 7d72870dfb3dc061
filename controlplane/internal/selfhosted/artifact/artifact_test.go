package artifact_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/artifact"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	key     = "components/com.example.Camera/1.4.0/0123456789012345678901234567890123456789012345678901234567890123/camera.zip"
	content = "0123456789"
)

func sum(s string) string {
	b := sha256.Sum256([]byte(s))
	return hex.EncodeToString(b[:])
}

var secret = []byte(strings.Repeat("s", 32))

func signer(t testing.TB, base string, now func() time.Time) *artifact.Signer {
	s, err := artifact.NewSigner(artifact.Config{PublicURL: base, Secret: secret, Now: now})
	require.NoError(t, err)
	return s
}

func store(t testing.TB) *objects.Store {
	s := objects.New("artifacts")
	require.NoError(t, s.Put(t.Context(), state.PutArtifact, key, strings.NewReader(content), int64(len(content)), ""))
	return s
}

// serve starts a server and returns a working URL into it.
func serve(t testing.TB, cfg artifact.HandlerConfig) (srv *httptest.Server, link string) {
	cfg.Signer = signer(t, "http://fleet.plant.example:8081", nil)
	if cfg.Objects == nil {
		cfg.Objects = store(t)
	}
	h, err := artifact.NewHandler(cfg)
	require.NoError(t, err)
	srv = httptest.NewServer(h)
	t.Cleanup(srv.Close)
	link, err = cfg.Signer.URL(key, sum(content), "camera.zip")
	require.NoError(t, err)
	return srv, strings.Replace(link, "http://fleet.plant.example:8081", srv.URL, 1)
}

func do(t testing.TB, method, link string, header ...string) (*http.Response, string) {
	req, err := http.NewRequestWithContext(t.Context(), method, link, nil)
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := (&http.Transport{DisableKeepAlives: true, DisableCompression: true}).RoundTrip(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(body)
}

func TestURLsAreShortEnoughForLite(t *testing.T) {
	s := signer(t, "http://fleet.plant.example:8081", nil)
	link, err := s.URL(key, sum(content), "camera.zip")
	require.NoError(t, err)
	assert.Less(t, len(link), 300)
	assert.True(t, strings.HasSuffix(link, "/camera.zip"))
	longest := strings.Repeat(strings.Repeat("k", 200)+"/", 5) + "end"
	link, err = s.URL(longest, sum(content), strings.Repeat("ü", 200))
	require.NoError(t, err)
	assert.Less(t, len(link), 1900)

	_, err = s.URL("../x", sum(content), "x")
	assert.ErrorIs(t, err, fault.Invalid)
	_, err = s.URL(key, "abc", "x")
	assert.Error(t, err)
}

func TestClassicsWayOfDownloading(t *testing.T) {
	srv, link := serve(t, artifact.HandlerConfig{})
	_ = srv
	res, body := do(t, "GET", link)
	assert.Equal(t, 200, res.StatusCode)
	assert.Equal(t, content, body)
	assert.Equal(t, int64(10), res.ContentLength)
	assert.Equal(t, `"`+sum(content)[:32]+`"`, res.Header.Get("ETag"))

	res, body = do(t, "GET", link, "Range", "bytes=4-9")
	assert.Equal(t, 206, res.StatusCode, "the same link works again")
	assert.Equal(t, "456789", body)
	assert.Equal(t, "bytes 4-9/10", res.Header.Get("Content-Range"))
	assert.Equal(t, int64(6), res.ContentLength)

	res, _ = do(t, "GET", link, "Range", "bytes=10-")
	assert.Equal(t, 416, res.StatusCode)
	res, body = do(t, "HEAD", link)
	assert.Equal(t, 200, res.StatusCode)
	assert.Equal(t, int64(10), res.ContentLength)
	assert.Empty(t, body)
}

func TestStoredBytesAreNeverCompressed(t *testing.T) {
	_, link := serve(t, artifact.HandlerConfig{})
	res, body := do(t, "GET", link, "Accept-Encoding", "gzip, br")
	assert.Empty(t, res.Header.Get("Content-Encoding"))
	assert.Equal(t, content, body)
}

func TestOnlyValidLinksGetAnything(t *testing.T) {
	srv, link := serve(t, artifact.HandlerConfig{})
	token := strings.Split(strings.TrimPrefix(link, srv.URL+"/a/"), "/")[0]
	flip := func(i int) string {
		c := byte('A')
		if token[i] == c {
			c = 'B'
		}
		return token[:i] + string(c) + token[i+1:]
	}
	tests := []struct {
		name, method, path string
		status             int
	}{
		{"the name at the end does not matter", "GET", "/a/" + token, 200},
		{"the root", "GET", "/", 404},
		{"the folder", "GET", "/a/", 403},
		{"a key instead of a token", "GET", "/a/" + key, 403},
		{"another expiry", "GET", "/a/" + flip(3), 403},
		{"another key", "GET", "/a/" + flip(60), 403},
		{"another MAC", "GET", "/a/" + flip(len(token)-5), 403},
		{"a token cut off", "GET", "/a/" + token[:len(token)-4], 403},
		{"a very long token", "GET", "/a/" + strings.Repeat("A", 20000), 403},
		{"PUT", "PUT", "/a/" + token, 405},
		{"DELETE", "DELETE", "/a/" + token, 405},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			res, body := do(t, tc.method, srv.URL+tc.path)
			assert.Equal(t, tc.status, res.StatusCode)
			if tc.status != 200 {
				assert.NotContains(t, body, content)
			}
		})
	}
}

func TestALinkOfAnotherSecretIsForged(t *testing.T) {
	srv, _ := serve(t, artifact.HandlerConfig{})
	other, err := artifact.NewSigner(artifact.Config{PublicURL: srv.URL, Secret: []byte(strings.Repeat("x", 32))})
	require.NoError(t, err)
	link, err := other.URL(key, sum(content), "")
	require.NoError(t, err)
	res, _ := do(t, "GET", link)
	assert.Equal(t, 403, res.StatusCode)
}

func TestALinkEndsAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := signer(t, "http://h", nil)
		h, err := artifact.NewHandler(artifact.HandlerConfig{Signer: s, Objects: store(t)})
		require.NoError(t, err)
		link, err := s.URL(key, sum(content), "")
		require.NoError(t, err)
		status := func() int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", link, nil))
			return w.Code
		}
		time.Sleep(59 * time.Minute)
		assert.Equal(t, 200, status())
		time.Sleep(time.Minute)
		assert.Equal(t, 403, status())
	})
}

type brokenStore struct{ err error }

func (b brokenStore) Open(context.Context, string) (object.Reader, object.Info, error) {
	return nil, object.Info{}, b.err
}

func TestWhatTheStoreCannotGiveIsToldApart(t *testing.T) {
	_, link := serve(t, artifact.HandlerConfig{Objects: objects.New("empty")})
	res, _ := do(t, "GET", link)
	assert.Equal(t, 404, res.StatusCode)
	_, link = serve(t, artifact.HandlerConfig{Objects: brokenStore{fmt.Errorf("dial 10.0.0.1: %w", fault.Unavailable)}})
	res, body := do(t, "GET", link)
	assert.Equal(t, 503, res.StatusCode)
	assert.Equal(t, "2", res.Header.Get("Retry-After"))
	assert.NotContains(t, body, "10.0.0.1")
}

// gate holds every Open until it is let go.
type gate struct {
	artifact.Objects
	entered, open chan struct{}
}

func (g gate) Open(ctx context.Context, key string) (object.Reader, object.Info, error) {
	g.entered <- struct{}{}
	<-g.open
	return g.Objects.Open(ctx, key)
}

func TestDownloadsBeyondTheLimitAreAskedToComeBack(t *testing.T) {
	g := gate{Objects: store(t), entered: make(chan struct{}, 8), open: make(chan struct{})}
	_, link := serve(t, artifact.HandlerConfig{Objects: g, MaxDownloads: 1})
	first := make(chan int, 1)
	go func() {
		res, err := http.Get(link)
		if err != nil {
			first <- 0
			return
		}
		res.Body.Close()
		first <- res.StatusCode
	}()
	<-g.entered
	res, _ := do(t, "GET", link)
	assert.Equal(t, 503, res.StatusCode)
	close(g.open)
	assert.Equal(t, 200, <-first)
}

func TestAClientThatStopsReadingLosesItsSlot(t *testing.T) {
	big := objects.New("artifacts")
	require.NoError(t, big.Put(t.Context(), state.PutArtifact, key, strings.NewReader(strings.Repeat("x", 32<<20)), 32<<20, ""))
	srv, link := serve(t, artifact.HandlerConfig{Objects: big, MaxDownloads: 1, Stall: time.Second})
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", strings.TrimPrefix(link, srv.URL))
	_, err = bufio.NewReaderSize(conn, 16).ReadString('\n')
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		res, _ := do(t, "HEAD", link)
		return res.StatusCode == 200
	}, time.Minute, 10*time.Millisecond)
}

func TestTwoDownloadsOnOneConnection(t *testing.T) {
	srv, link := serve(t, artifact.HandlerConfig{})
	for range 2 {
		res, err := srv.Client().Get(link)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		res.Body.Close()
		assert.Equal(t, content, string(body))
	}
}

func TestBadConfigurationIsRefused(t *testing.T) {
	for _, c := range []artifact.Config{
		{PublicURL: "fleet:8081", Secret: secret},
		{PublicURL: "http://h?x=1", Secret: secret},
		{PublicURL: "http://u:p@h", Secret: secret},
		{PublicURL: "http://h", Secret: secret[:31]},
		{PublicURL: "http://h", Secret: secret, TTL: -1},
	} {
		_, err := artifact.NewSigner(c)
		assert.Error(t, err)
	}
	_, err := artifact.NewHandler(artifact.HandlerConfig{})
	assert.Error(t, err)
}

func FuzzToken(f *testing.F) {
	s := signer(f, "http://h", nil)
	objs := store(f)
	h, err := artifact.NewHandler(artifact.HandlerConfig{Signer: s, Objects: objs})
	require.NoError(f, err)
	link, err := s.URL(key, sum(content), "")
	require.NoError(f, err)
	valid := strings.TrimPrefix(link, "http://h/a/")
	f.Add(valid + "x")
	f.Add(valid[:40])
	f.Add("AQAAAAA")
	f.Fuzz(func(t *testing.T, token string) {
		r := httptest.NewRequest("GET", "/a/x", nil)
		r.URL.Path = "/a/" + token
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		head, _, _ := strings.Cut(token, "/")
		if head == valid {
			assert.Equal(t, 200, w.Code)
			return
		}
		assert.Equal(t, 403, w.Code)
	})
}
