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

func TestOnlySoManyHandshakesAreUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalm(func() bool { return false })
		enter := func() (leave func(), took time.Duration, err error) {
			began := time.Now()
			leave, err = c.enter(t.Context())
			return leave, time.Since(began), err
		}
		for range 2 * handshakes {
			leave, took, err := enter()
			require.NoError(t, err)
			require.Zero(t, took)
			leave()
		}
		for range handshakes { // none of these leaves
			_, took, err := enter()
			require.NoError(t, err)
			require.Zero(t, took)
		}
		leave, took, err := enter()
		require.NoError(t, err)
		assert.Equal(t, slotMost, took, "clients that stall keep nobody waiting for long")
		leave()
		leave()
		time.Sleep(slotMost)
		assert.Empty(t, c.slots, "no slot is lost")

		for range handshakes {
			c.slots <- struct{}{}
		}
		_, took, err = enter()
		require.ErrorContains(t, err, "try again")
		assert.Equal(t, patience, took)
	})
}

func TestAHandshakeLeavesItsSlotWithTheCheckOfTheCertificate(t *testing.T) {
	c := newCalm(func() bool { return false })
	root, err := pki.NewRoot("server", time.Now(), time.Hour)
	require.NoError(t, err)
	cert := pki.TLSCertificate(root.Key, root.Cert.Raw)
	var checked atomic.Int32
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert,
		VerifyConnection:   func(tls.ConnectionState) error { checked.Add(1); return nil },
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
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}}).DialContext(t.Context(), "tcp", l.Addr().String())
		require.NoError(t, err)
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.Equal(t, "x", string(got))
		require.NoError(t, conn.Close())
		assert.Empty(t, c.slots)
	}
	assert.EqualValues(t, 2, checked.Load())
}
