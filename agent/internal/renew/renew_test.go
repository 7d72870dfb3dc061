package renew_test

import (
	"context"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// settle looks until nothing is left to do.
func (d *device) settle() {
	d.t.Helper()
	for range 20 {
		err := d.look()
		id := d.live.Identity()
		if err == nil && id.Next == nil && id.Old == nil {
			return
		}
		time.Sleep(time.Hour)
	}
	require.Fail(d.t, "the renewal does not come to an end")
}

// alone checks that the agent has one certificate, here and there, and one key.
func (d *device) alone() {
	d.t.Helper()
	assert.Equal(d.t, []string{d.shown()}, d.s.active())
	assert.Equal(d.t, []string{d.shown()}, d.stored())
	keys, err := filepath.Glob(filepath.Join(d.root, "agent", "key*.pem"))
	require.NoError(d.t, err)
	assert.Len(d.t, keys, 1, "no key is left behind")
}

func TestARenewalIsWithANewKeyAndEndsTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, newServer(t, 0))
		first := d.shown()
		require.NoError(t, d.look())
		assert.Equal(t, first, d.shown(), "not before two thirds of its life")
		time.Sleep(70*day + 12*time.Hour)
		require.NoError(t, d.look())
		assert.NotEqual(t, first, d.shown())
		assert.NotEqual(t, d.s.certs[first].spki, d.s.certs[d.shown()].spki)
		d.alone()
	})
}

// walk is what may happen to a device and its control plane.
func walk(t *testing.T, seed uint64, ahead time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		r := mrand.New(mrand.NewPCG(seed, 1))
		s := newServer(t, ahead)
		d := newDevice(t, s)
		points := localstate.RenewPoints()[:8]
		calm := time.Now() // when the two last had the chance to finish: nobody is away for longer than the grace
		for step := range 120 {
			what := ""
			switch r.IntN(6) {
			case 0:
				s.lose = 1 + r.IntN(2)
				what = "answers are lost"
			case 1:
				s.away = !s.away
				what = fmt.Sprint("away ", s.away)
			case 2:
				by := time.Duration(r.Int64N(int64(30 * day)))
				if time.Since(calm)+by > 170*day {
					s.away, s.deaf, s.lose = false, false, 0
					d.settle()
					calm = time.Now()
				}
				time.Sleep(by)
				what = fmt.Sprint("time passes ", by)
			case 3:
				s.deaf = r.IntN(4) == 0
				what = fmt.Sprint("no MQTT ", s.deaf)
			default:
				if at := points[r.IntN(len(points))]; r.IntN(2) == 0 {
					before := r.IntN(2) == 0
					d.kill = func(p localstate.Point, do func() error) error {
						if p == at && before {
							panic(killed{})
						}
						err := do()
						if p == at {
							panic(killed{})
						}
						return err
					}
					what = fmt.Sprintf("killed at %s, before: %t", at, before)
				}
				err := d.look()
				d.kill = nil
				what += fmt.Sprint(" looked: ", err)
			}
			if !slices.ContainsFunc(d.stored(), s.usable) {
				require.Failf(t, "no usable certificate", "seed %d step %d: %s", seed, step, what)
			}
		}
		s.away, s.deaf, s.lose, d.kill = false, false, 0, nil
		d.settle()
		require.True(t, s.takes(d.shown()), "seed %d", seed)
		for len(d.s.active()) > 1 { // one that was issued and lost ends with the next renewal
			time.Sleep(life * 5 / 6)
			d.settle()
		}
		d.alone()
	})
}

func TestThereIsAlwaysAUsableCertificateAndInTheEndOne(t *testing.T) {
	walks := uint64(20)
	if testing.Short() {
		walks = 6
	}
	for name, ahead := range map[string]time.Duration{"clocks agree": 0, "the device is 26 years behind": 26 * 365 * day, "the device is 9 years ahead": -9 * 365 * day} {
		t.Run(name, func(t *testing.T) {
			for seed := range walks {
				walk(t, seed, ahead)
				if t.Failed() {
					return
				}
			}
		})
	}
}

func TestKilledAtAnyStepARenewalEndsTheSame(t *testing.T) {
	for _, p := range localstate.RenewPoints() {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s before %t", p, before), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := withCore(t)
					oldCore, first := idOf(string(d.core.cert)), d.shown()
					time.Sleep(85 * day)
					hit := false
					d.kill = func(at localstate.Point, do func() error) error {
						if at == p && before {
							hit = true
							panic(killed{})
						}
						err := do()
						if at == p {
							hit = true
							panic(killed{})
						}
						return err
					}
					require.Error(t, d.look())
					assert.True(t, hit, "the renewal never comes to %s", p)
					d.settle()
					assert.NotEqual(t, first, d.shown())
					newCore := idOf(string(d.core.cert))
					assert.NotEqual(t, oldCore, newCore)
					assert.False(t, d.s.certs[oldCore].active)
					assert.NoFileExists(t, filepath.Join(d.root, "agent", "device-renewal.json"))
					assert.ElementsMatch(t, []string{d.shown(), newCore}, d.s.active())
					keys, err := filepath.Glob(filepath.Join(d.root, "agent", "key*.pem"))
					require.NoError(t, err)
					assert.Len(t, keys, 1, "no key is left behind")
				})
			})
		}
	}
}

// withCore is a device whose core has a certificate of the same age.
func withCore(t *testing.T) *device {
	d := newDevice(t, newServer(t, 0))
	key, b, err := keystore.NewKey()
	require.NoError(t, err)
	csr, err := identity.CSR(key, "gw")
	require.NoError(t, err)
	c := d.s.issue(csr)
	c.core = true
	d.core = &nucleus{t: t, cert: []byte(c.pem), key: b}
	d.end()
	d.start()
	return d
}

func TestANucleusThatDoesNotStartWithItsNewCertificateIsNotRestartedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := withCore(t)
		old := idOf(string(d.core.cert))
		time.Sleep(75 * day)
		d.core.broken = true
		for range 23 {
			_ = d.look()
			time.Sleep(time.Hour)
		}
		assert.Equal(t, 1, d.core.restarts)
		assert.Equal(t, old, idOf(string(d.core.cert)))
		assert.True(t, d.s.takes(old))
		d.core.broken = false
		time.Sleep(2 * time.Hour)
		require.NoError(t, d.look())
		assert.Equal(t, 2, d.core.restarts)
		assert.False(t, d.s.takes(old))
	})
}

func TestYearsPass(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"clocks agree": 0, "the device believes that it is 2000": 26 * 365 * day, "the device is ahead": -9 * 365 * day} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, ahead)
				d := newDevice(t, s)
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- d.loop.Run(ctx) }()
				seen, r := map[string]bool{}, mrand.New(mrand.NewPCG(7, 7))
				var calls int
				for elapsed := time.Duration(0); elapsed < 8*365*day; {
					up, down := time.Duration(10+r.IntN(60))*day, time.Duration(7+r.IntN(28))*day
					if r.IntN(5) == 0 {
						down = 150 * day // its certificate ends meanwhile
					}
					time.Sleep(up)
					s.mu.Lock()
					seen[d.shown()] = true
					require.True(t, s.takes(d.shown()), "after weeks without the control plane")
					s.away = true
					calls = s.calls
					s.mu.Unlock()
					time.Sleep(down)
					s.mu.Lock()
					assert.Less(t, s.calls-calls, int(down/(20*time.Minute)), "it does not hammer")
					s.away = false
					s.mu.Unlock()
					time.Sleep(2 * time.Hour)
					s.mu.Lock()
					require.True(t, s.takes(d.shown()), "soon after the control plane is back")
					s.mu.Unlock()
					elapsed += up + down
				}
				stop()
				require.NoError(t, <-ended)
				assert.Greater(t, len(seen), 20, "renewals happened")
				assert.Positive(t, s.late, "some of them late")
				d.alone()
			})
		})
	}
}

func TestWhoIsRevokedIsNotLetInByTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, newServer(t, 0))
		time.Sleep(80 * day)
		d.s.certs[d.shown()].active = false
		err := d.look()
		require.ErrorIs(t, err, fault.Denied)
		require.ErrorContains(t, err, "enroll --again")
		time.Sleep(30 * day)
		require.ErrorIs(t, d.look(), fault.Denied, "and not when it has ended either")
	})
}

func TestAControlPlaneThatForgotTheNextCertificateGetsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, newServer(t, 0))
		time.Sleep(80 * day)
		d.kill = func(p localstate.Point, do func() error) error {
			err := do()
			if p == localstate.RenewStore {
				panic(killed{})
			}
			return err
		}
		require.Error(t, d.look())
		next := d.s.pending.new
		delete(d.s.certs, next) // its store was restored from a backup
		d.s.pending = nil
		d.settle()
		assert.NotEqual(t, next, d.shown())
		d.alone()
	})
}

func TestAConfirmedCertificateThatIsRefusedForAMomentIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, newServer(t, 0))
		first := d.shown()
		time.Sleep(80 * day)
		d.kill = func(p localstate.Point, do func() error) error {
			err := do()
			if p == localstate.RenewConfirm {
				panic(killed{})
			}
			return err
		}
		require.Error(t, d.look())
		now := d.shown()
		require.NotEqual(t, first, now)
		d.s.certs[now].active = false // a replica that lags
		require.Error(t, d.look())
		assert.Equal(t, first, d.shown(), "both are kept")
		d.s.certs[now].active = true
		d.settle()
		assert.Equal(t, now, d.shown())
	})
}

func TestAFullDiskDelaysARenewalAndSpoilsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, newServer(t, 0))
		first := d.shown()
		time.Sleep(80 * day)
		full := &os.PathError{Op: "write", Path: "identity.json", Err: os.ErrInvalid}
		for _, p := range localstate.RenewPoints()[:8] {
			d.kill = func(at localstate.Point, do func() error) error {
				if at == p && p != localstate.RenewCall && p != localstate.RenewConfirm {
					return full
				}
				return do()
			}
			_ = d.look()
			assert.True(t, slices.ContainsFunc(d.stored(), d.s.takes), "%s", p)
		}
		d.kill = nil
		d.settle()
		assert.NotEqual(t, first, d.shown())
		d.alone()
	})
}

func TestTheDevicesCertificateIsConfirmedOncePerStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := withCore(t)
		require.NoError(t, d.look())
		lost := idOf(string(d.core.cert))
		// Another part of the agent has replaced what was lost.
		key, keyPEM, err := keystore.NewKey()
		require.NoError(t, err)
		csr, err := identity.CSR(key, "gw")
		require.NoError(t, err)
		cert := d.s.renewal(&d.s.core, lost, csr)
		d.s.certs[idOf(cert)].core = true
		d.core.cert, d.core.key = []byte(cert), keyPEM
		d.s.lose = 2 // the answers of two looks
		for range 3 {
			_ = d.look()
		}
		assert.False(t, d.s.takes(lost))
		assert.True(t, d.s.takes(idOf(cert)))
		calls := d.s.calls
		require.NoError(t, d.look())
		assert.Equal(t, calls, d.s.calls, "it was said")
		assert.Zero(t, d.core.restarts)
	})
}
