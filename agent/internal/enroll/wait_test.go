package enroll_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/agent/internal/enroll"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// door answers as long as it takes.
type door struct {
	calls  []time.Time
	answer func(n int) error // nil: it has to wait
}

func (d *door) Enroll(context.Context, protocol.EnrollRequest) (*protocol.EnrollResponse, *protocol.EnrollPending, error) {
	d.calls = append(d.calls, time.Now())
	if err := d.answer(len(d.calls)); err != nil {
		return nil, nil, err
	}
	return nil, &protocol.EnrollPending{RequestID: "r", KeyFingerprint: "f", RetryAfterSeconds: 30}, nil
}

func (d *door) Close() {}

func (d *door) config(dir *localstate.Dir, patient bool) enroll.Config {
	return enroll.Config{Dir: dir, Patient: patient, Dial: func(string, *tls.Config, func(time.Time)) (enroll.Cloud, error) { return d, nil }}
}

var nothing = enroll.Intent{URL: "https://fleet.example:8443", CAFingerprint: strings.Repeat("ab", 32), Name: "gw"}

func TestADeviceThatWaitsShowsItsOwnKeyWhateverTheAnswerSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := folder(t)
		d := &door{answer: func(int) error { return nil }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cfg := d.config(dir, false)
		var shown string
		cfg.OnPending = func(p protocol.EnrollPending) { shown = p.KeyFingerprint }
		_, _, err := enroll.Run(ctx, cfg, nothing)
		require.Error(t, err)
		b, err := dir.Read("key.pem")
		require.NoError(t, err)
		key, err := keystore.ParseKey(b)
		require.NoError(t, err)
		own, err := identity.KeyFingerprint(key)
		require.NoError(t, err)
		assert.Equal(t, own, shown)
	})
}

func TestADeviceThatIsForgottenAsksForWeeksWithoutHammering(t *testing.T) {
	for name, answer := range map[string]func(n int) error{
		"nobody approves":              func(int) error { return nil },
		"the control plane is away":    func(int) error { return errors.New("no route to host") },
		"it is denied":                 func(int) error { return fault.New(fault.Denied, "denied") },
		"it is away now and then":      func(n int) error { return map[bool]error{true: errors.New("timeout")}[n%3 == 0] },
		"the server is another's":      func(int) error { return identity.ErrUntrusted },
		"too many wait there already":  func(int) error { return fault.New(fault.Exhausted, "too many") },
		"it does not know of the call": func(int) error { return fault.New(fault.NotFound, "no such path") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := folder(t)
				d := &door{answer: answer}
				ctx, cancel := context.WithTimeout(t.Context(), 42*24*time.Hour)
				defer cancel()
				_, _, err := enroll.Run(ctx, d.config(dir, true), nothing)
				require.Error(t, err)
				assert.Less(t, len(d.calls), 42*24*10, "a few times an hour")
				last := d.calls[len(d.calls)-1]
				assert.Less(t, time.Since(last), 7*time.Hour, "and it still asks")
				_, err = enroll.Stored(dir)
				require.NoError(t, err, "it goes on after a restart")
			})
		})
	}
}

func TestWhoStandsBesideTheDeviceIsToldSoon(t *testing.T) {
	for name, c := range map[string]struct {
		answer error
		calls  int
	}{
		"denied":            {fault.New(fault.Denied, "no"), 1},
		"not to be reached": {errors.New("no route to host"), 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &door{answer: func(int) error { return c.answer }}
				began := time.Now()
				_, _, err := enroll.Run(t.Context(), d.config(folder(t), false), nothing)
				require.Error(t, err)
				assert.Len(t, d.calls, c.calls)
				assert.Less(t, time.Since(began), time.Minute)
			})
		})
	}
}

func TestTheKeyOfAWaitingDeviceStaysTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := folder(t)
		d := &door{answer: func(int) error { return nil }}
		var before []byte
		for range 3 { // starts
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			_, _, err := enroll.Run(ctx, d.config(dir, true), nothing)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			b, err := os.ReadFile(dir.Path("key.pem"))
			require.NoError(t, err)
			if before != nil {
				assert.Equal(t, before, b)
			}
			before = b
		}
	})
}

func TestTheSameDeviceAgainIsTheSameThingWithAnotherKey(t *testing.T) {
	c := agenttest.New(t, "gw")
	dir := folder(t)
	first, _, err := enroll.Run(t.Context(), enroll.Config{Dir: dir}, enroll.Intent{String: c.Enrollment.String()})
	require.NoError(t, err)
	c.Change(func(s *agenttest.State) { clear(s.Agents) }) // a new activation
	again, fresh, err := enroll.Run(t.Context(), enroll.Config{Dir: dir, Again: true}, enroll.Intent{String: c.Enrollment.String()})
	require.NoError(t, err)
	assert.True(t, fresh)
	assert.Equal(t, first.AgentThing, again.AgentThing)
	assert.NotEqual(t, first.CertificatePEM, again.CertificatePEM)
	keys, err := filepath.Glob(dir.Path("key*.pem"))
	require.NoError(t, err)
	assert.Len(t, keys, 1, "the key before is gone")
	_, err = enroll.Stored(dir)
	require.ErrorIs(t, err, os.ErrNotExist, "the secret is gone")

	other := agenttest.New(t, "gw-2")
	_, _, err = enroll.Run(t.Context(), enroll.Config{Dir: dir, Again: true}, enroll.Intent{String: other.Enrollment.String()})
	require.ErrorIs(t, err, fault.Exists)
	require.ErrorContains(t, err, "another --root")
	now, err := identity.Read(dir)
	require.NoError(t, err)
	assert.Equal(t, again, now, "it stays who it was")
}

func TestARefusalKeepsWhatTheDeviceWas(t *testing.T) {
	c := agenttest.New(t, "gw")
	dir := folder(t)
	first, _, err := enroll.Run(t.Context(), enroll.Config{Dir: dir}, enroll.Intent{String: c.Enrollment.String()})
	require.NoError(t, err)
	c.Change(func(s *agenttest.State) { s.Refuse = http.StatusForbidden })
	_, _, err = enroll.Run(t.Context(), enroll.Config{Dir: dir, Again: true}, enroll.Intent{String: c.Enrollment.String()})
	require.ErrorIs(t, err, fault.Denied)
	live, err := identity.Open(dir)
	require.NoError(t, err)
	assert.Equal(t, first, live.Identity())
}

func FuzzParseIntent(f *testing.F) {
	f.Add([]byte(`{"url":"https://fleet.example:8443","caFingerprint":"abababababababababababababababababababababababababababababababab"}`))
	f.Add([]byte(`{"string":"ggf1.x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := enroll.ParseIntent(b)
		if err != nil {
			require.NotEmpty(t, fault.KindOf(err))
			return
		}
		require.False(t, i.Empty())
	})
}
