package deviceapi_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/deviceapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// shelf has one file, which it hands out when go on is closed.
type shelf struct {
	content string
	opened  chan struct{} // one for each file that is asked for
	goOn    chan struct{}
}

func (s shelf) Offer(context.Context, protocol.Subject, protocol.AssignmentQuery) (*protocol.AgentRelease, error) {
	return nil, nil //nolint:nilnil // no offer
}

func (s shelf) Open(context.Context, string) (object.Reader, object.Info, error) {
	if s.opened != nil {
		s.opened <- struct{}{}
		<-s.goOn
	}
	return open(s.content)
}

func (s shelf) Install(ctx context.Context, _, _ string) (object.Reader, object.Info, error) {
	return s.Open(ctx, "")
}

// handler is the device API without its listener.
func handler(t *testing.T, with func(*deviceapi.Config)) http.Handler {
	t.Helper()
	var cfg deviceapi.Config
	newKit(t, func(c *deviceapi.Config) { cfg = *c })
	with(&cfg)
	h, err := deviceapi.New(cfg)
	require.NoError(t, err)
	return h
}

// from is a call from an address, without certificate.
func from(address, path string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = address
	return r
}

func TestOneAddressDoesNotTakeAllDownloads(t *testing.T) {
	s := shelf{content: "agent", opened: make(chan struct{}), goOn: make(chan struct{})}
	h := handler(t, func(c *deviceapi.Config) { c.Releases = s })
	status := make(chan int)
	get := func(address string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, from(address, protocol.PathInstall+"1.0.0/agent"))
		status <- w.Code
	}
	begin := func(address string) {
		go get(address)
		<-s.opened
	}
	refused := func(address string, code int) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, from(address, protocol.PathInstall+"agent"))
		assert.Equal(t, code, w.Code, w.Body)
		assert.Equal(t, "5", w.Header().Get("Retry-After"))
	}
	for i := range 4 {
		begin(fmt.Sprintf("[2001:db8::%d]:1000", i))
	}
	refused("[2001:db8::99]:1000", http.StatusTooManyRequests)
	for i := range 12 {
		begin(fmt.Sprintf("10.0.0.%d:1000", i))
	}
	refused("10.0.1.1:1000", http.StatusServiceUnavailable)
	close(s.goOn)
	for range 16 {
		assert.Equal(t, http.StatusOK, <-status)
	}
	go func() { <-s.opened }()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, from("[2001:db8::99]:1000", protocol.PathInstall+"agent"))
	assert.Equal(t, "agent", w.Body.String())
}

// reader takes so many bytes a second.
type reader struct {
	*httptest.ResponseRecorder

	speed    int
	deadline time.Time
}

func (r *reader) SetWriteDeadline(t time.Time) error { r.deadline = t; return nil }

func (r *reader) Write(b []byte) (int, error) {
	takes := time.Duration(len(b)) * time.Second / time.Duration(r.speed)
	if left := time.Until(r.deadline); !r.deadline.IsZero() && left < takes {
		time.Sleep(left)
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(takes)
	return r.ResponseRecorder.Write(b)
}

func TestWhoReadsADownloadSlowlyDoesNotKeepItsPlaceForLong(t *testing.T) {
	const size = 4 << 20
	me := identities{id: gateway.Identity{CertificateID: "c", Thing: protocol.AgentThing("core"), Attributes: map[string]string{protocol.AttributeCore: "core"}}}
	h := handler(t, func(c *deviceapi.Config) { c.Releases, c.Identities = shelf{content: strings.Repeat("x", size)}, me })
	for says, tc := range map[string]struct {
		path  string
		cert  bool
		speed int // bytes a second
		all   bool
		most  time.Duration
	}{
		"without certificate, on a slow line":   {protocol.PathInstall + "agent", false, 20 << 10, true, 4 * time.Minute},
		"without certificate, slower than that": {protocol.PathInstall + "agent", false, 2 << 10, false, time.Minute},
		"without certificate, not at all":       {protocol.PathInstall + "agent", false, 1, false, 30 * time.Second},
		"an agent on a very slow line":          {protocol.PathReleases + "d", true, 2 << 10, true, time.Hour},
		"an agent that does not read":           {protocol.PathReleases + "d", true, 1, false, 30 * time.Second},
		"its nucleus, not at all":               {protocol.PathDistributions + strings.Repeat("d", 100), true, 1, false, 30 * time.Second},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				r := from("10.0.0.1:1000", tc.path)
				if tc.cert {
					r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}
				}
				w := &reader{ResponseRecorder: httptest.NewRecorder(), speed: tc.speed}
				h.ServeHTTP(w, r)
				assert.Equal(t, http.StatusOK, w.Code)
				assert.Equal(t, tc.all, w.Body.Len() == size)
				assert.LessOrEqual(t, time.Since(begun), tc.most)
			})
		})
	}
}
