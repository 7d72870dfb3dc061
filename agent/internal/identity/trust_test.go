package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/pki"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

func folder(t *testing.T) *localstate.Dir {
	t.Helper()
	d, err := localstate.Open(t.TempDir(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// meets has a client of the configuration meet a server whose certificate was made
// at made and lasts for 90 days.
func meets(t *testing.T, made time.Time, client func(root *x509.Certificate) *tls.Config) error {
	t.Helper()
	root, err := pki.NewRoot("root", made.Add(-year), 30*year)
	require.NoError(t, err)
	issuer, err := root.NewIntermediate("issuer", made.Add(-year), 20*year)
	require.NoError(t, err)
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	leaf, err := issuer.SignServer(key.Public(), []string{"fleet.example"}, made, 90*day)
	require.NoError(t, err)
	a, b := net.Pipe()
	server := tls.Server(a, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pki.TLSCertificate(key, leaf, issuer.Cert, root.Cert)}})
	go func() {
		_ = server.Handshake()
		_ = a.Close()
	}()
	defer func() { _ = b.Close() }()
	return tls.Client(b, client(root.Cert)).Handshake()
}

func TestAServerIsTrustedWhateverTheOwnClockSays(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		made  time.Time
		floor time.Time
		err   string
	}{
		"clocks agree":                                          {now, now, ""},
		"the device believes that it is 1970":                   {now, time.Time{}, ""},
		"the device is ahead by 20 years":                       {now.Add(-20 * year), now.Add(-20 * year), ""},
		"the server got its certificate after the last contact": {now, now.Add(-2 * year), ""},
		"it ended after the last contact":                       {now.Add(-year), now.Add(-year), ""},
		"it had ended before the last contact":                  {now.Add(-year), now, "has expired"},
	} {
		t.Run(name, func(t *testing.T) {
			err := meets(t, c.made, func(root *x509.Certificate) *tls.Config {
				return identity.Pinned("fleet.example", identity.Fingerprint(root), func() time.Time { return c.floor })
			})
			if c.err == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, identity.ErrUntrusted)
			assert.ErrorContains(t, err, c.err)
		})
	}
	err := meets(t, now, func(root *x509.Certificate) *tls.Config {
		return identity.Pinned("other.example", identity.Fingerprint(root), func() time.Time { return now })
	})
	require.ErrorContains(t, err, "does not fit its address")
	err = meets(t, now, func(*x509.Certificate) *tls.Config {
		return identity.Pinned("fleet.example", "00", func() time.Time { return now })
	})
	require.ErrorContains(t, err, "does not show the CA")
}

func TestNeitherClockAloneMovesTheFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := folder(t)
		c := identity.OpenClock(d)
		own := time.Now()
		assert.True(t, c.Floor().IsZero())
		assert.WithinDuration(t, own, c.Now(), 0, "as long as nobody else tells")
		_, ok := c.Offset()
		assert.False(t, ok)

		c.Saw(own.Add(10 * year))
		assert.WithinDuration(t, own, c.Floor(), 0, "a server that is ahead")
		assert.WithinDuration(t, own.Add(10*year), c.Now(), 0)
		ahead, ok := c.Offset()
		assert.True(t, ok)
		assert.Equal(t, -10*year, ahead)

		c.Saw(own.Add(-3 * year))
		assert.WithinDuration(t, own, c.Floor(), 0, "it never goes back")
		time.Sleep(30 * day)
		assert.WithinDuration(t, own.Add(-3*year+30*day), c.Now(), 0, "what passed since is known")

		c.Saw(time.Now())
		again := identity.OpenClock(d)
		assert.WithinDuration(t, time.Now(), again.Floor(), time.Second, "it outlives the agent")
	})
}

func TestADeviceWithoutABatteryKnowsAtLeastWhenItWasLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := folder(t)
		last := time.Now().Add(25 * year) // the clock of this start is behind that
		require.NoError(t, d.WriteJSON("clock.json", map[string]time.Time{"floor": last}))
		assert.WithinDuration(t, last, identity.OpenClock(d).Now(), 0)
		require.NoError(t, os.WriteFile(d.Path("clock.json"), []byte("{"), 0o600))
		assert.True(t, identity.OpenClock(d).Floor().IsZero(), "a damaged record is as none")
	})
}

func TestTheFloorIsNotWrittenWithEachAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := folder(t)
		c := identity.OpenClock(d)
		writes, before := 0, ""
		for range 3 * 24 * 60 {
			c.Saw(time.Now())
			if b, err := d.Read("clock.json"); err == nil && string(b) != before {
				writes++
				before = string(b)
			}
			time.Sleep(time.Minute)
		}
		assert.LessOrEqual(t, writes, 4, "flash wears")
	})
}
