package app

import (
	"context"
	"crypto/tls"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/pki"
)

func TestConnectionsWaitForNotificationsButNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busy atomic.Bool
		c := newCalm(busy.Load)
		waited := func() time.Duration {
			began := time.Now()
			c.wait(t.Context())
			return time.Since(began)
		}
		assert.Zero(t, waited(), "nothing to wait for")
		busy.Store(true)
		time.AfterFunc(time.Second, func() { busy.Store(false) })
		assert.InDelta(t, time.Second, waited(), float64(calmLook))
		assert.Zero(t, waited(), "it is over")

		busy.Store(true)
		assert.Equal(t, calmMost, waited(), "always busy")
		assert.Zero(t, waited(), "a server that is always busy serves all the same")
		time.Sleep(calmMost)
		assert.Equal(t, calmMost, waited())

		time.Sleep(calmMost)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.wait(ctx)
		require.Error(t, ctx.Err(), "a client that gives up")
		busy.Store(false)
		time.Sleep(calmMost)
	})
}

func TestAHandshakeThatHasWaitedIsAsItWas(t *testing.T) {
	var busy atomic.Bool
	c := newCalm(busy.Load)
	root, err := pki.NewRoot("server", time.Now(), time.Hour)
	require.NoError(t, err)
	cert := pki.TLSCertificate(root.Key, root.Cert.Raw)
	var checked atomic.Int32
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert,
		VerifyConnection:   func(tls.ConnectionState) error { checked.Add(1); assert.False(t, busy.Load()); return nil },
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil },
	}
	c.before(cfg)
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		go func() {
			conn, err := l.Accept()
			if err == nil {
				_, _ = conn.Write([]byte("x"))
				_ = conn.Close()
			}
		}()
		busy.Store(true)
		time.AfterFunc(10*time.Millisecond, func() { busy.Store(false) })
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}}).DialContext(t.Context(), "tcp", l.Addr().String())
		require.NoError(t, err)
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.Equal(t, "x", string(got))
		require.NoError(t, conn.Close())
	}
	assert.EqualValues(t, 2, checked.Load())
}
