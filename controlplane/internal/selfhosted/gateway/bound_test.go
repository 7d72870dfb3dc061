package gateway_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
)

// crowded is a server of few connections.
type crowded struct {
	*httptest.Server
	entered chan struct{} // a request for /slow has come
	answer  func()        // lets those end
	idle    chan struct{} // a connection waits for its next request
}

func newCrowded(t *testing.T, n int, overTLS bool) *crowded {
	t.Helper()
	over := make(chan struct{})
	c := &crowded{entered: make(chan struct{}, 10), idle: make(chan struct{}, 1000), answer: sync.OnceFunc(func() { close(over) })}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			c.entered <- struct{}{}
			<-over
		}
		_, _ = io.WriteString(w, "served")
	}))
	c.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	c.EnableHTTP2 = true
	gateway.BoundConnections(c.Config, n)
	change := c.Config.ConnState
	c.Config.ConnState = func(conn net.Conn, to http.ConnState) {
		change(conn, to)
		if to == http.StateIdle {
			c.idle <- struct{}{}
		}
	}
	if overTLS {
		c.StartTLS()
	} else {
		c.Start()
	}
	t.Cleanup(c.Close)
	t.Cleanup(c.answer)
	return c
}

// visitor is one connection that stays open.
type visitor struct {
	t    *testing.T
	srv  *crowded
	conn net.Conn
	r    *bufio.Reader
}

func visit(t *testing.T, srv *crowded) *visitor {
	t.Helper()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	if srv.TLS != nil {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	return &visitor{t, srv, c, bufio.NewReader(c)}
}

func (v *visitor) ask(path string) {
	v.t.Helper()
	_, err := io.WriteString(v.conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(v.t, err)
}

// served reads the answer and waits until the server has done so with the request.
func (v *visitor) served() {
	v.t.Helper()
	res, err := http.ReadResponse(v.r, nil)
	require.NoError(v.t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(v.t, err)
	assert.NoError(v.t, res.Body.Close())
	assert.Equal(v.t, "served", string(body))
	<-v.srv.idle
}

// closed waits for the server to close.
func (v *visitor) closed() {
	v.t.Helper()
	_, err := v.r.ReadByte()
	require.Error(v.t, err)
	ne, ok := err.(net.Error) //nolint:errorlint // as the connection returns it
	assert.False(v.t, ok && ne.Timeout(), "it is still open")
}

func TestOpenConnectionsOfHTTPAreBounded(t *testing.T) {
	for says, overTLS := range map[string]bool{"over TLS": true, "plain": false} {
		t.Run("newcomers take the place of those that wait, "+says, func(t *testing.T) {
			srv := newCrowded(t, 3, overTLS)
			busy := visit(t, srv)
			busy.ask("/slow")
			<-srv.entered
			oldest, idle := visit(t, srv), visit(t, srv)
			for _, v := range []*visitor{oldest, idle} {
				v.ask("/")
				v.served()
			}
			flood(t, srv.Listener.Addr().String(), 50, nil)
			oldest.closed()
			idle.closed()
			for range 10 {
				v := visit(t, srv)
				v.ask("/")
				v.served()
			}
			srv.answer()
			busy.served()
		})
	}
	t.Run("what is under way ends before newcomers are served", func(t *testing.T) {
		srv := newCrowded(t, 1, false)
		busy := visit(t, srv)
		busy.ask("/slow")
		<-srv.entered
		visit(t, srv).closed()
		srv.answer()
		busy.served()
		v := visit(t, srv)
		v.ask("/")
		v.served()
		busy.closed()
	})
	t.Run("HTTP/2 waits between its requests", func(t *testing.T) {
		srv := newCrowded(t, 1, true)
		for range 3 {
			tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			defer tr.CloseIdleConnections()
			res, err := (&http.Client{Transport: tr, Timeout: patience}).Get(srv.URL)
			require.NoError(t, err)
			_, err = io.ReadAll(res.Body)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			assert.Equal(t, 2, res.ProtoMajor)
			<-srv.idle // it is told before the first request
			<-srv.idle // and after it
		}
	})
}
