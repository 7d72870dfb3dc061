package enrollment_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

var gw = protocol.Subject{Role: protocol.RoleCore, Name: "gw"}

const day = 24 * time.Hour

// own is a certificate with its key, as a device has them.
type own struct {
	key  crypto.Signer
	pem  string
	leaf *x509.Certificate
	id   string
}

func request(t *testing.T) (crypto.Signer, string) {
	t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	b, err := pki.NewCSR(key, "x")
	require.NoError(t, err)
	return key, string(b)
}

func owned(t require.TestingT, key crypto.Signer, pem string) own {
	list, err := pki.ParseCerts([]byte(pem))
	require.NoError(t, err)
	return own{key: key, pem: pem, leaf: list[0], id: pki.ID(list[0].Raw)}
}

// renewing is a kit whose agent of gw has a certificate for 90 days.
func renewing(t *testing.T, more ...func(*enrollment.Config)) (*kit, own) {
	t.Helper()
	k := newKit(t, append(more, func(c *enrollment.Config) {
		c.NonceKey, c.CertificateLife, c.CertificateGrace = []byte(strings.Repeat("k", 32)), 90*day, 30*day
	})...)
	a, code := k.activate(enrollment.NewActivation{DeviceID: "gw"})
	key, csr := request(t)
	out, err := k.enroll(a, code, csr)
	require.NoError(t, err)
	return k, owned(t, key, out.CertificatePEM)
}

func (k *kit) statuses(t require.TestingT) map[string]cloud.CertificateStatus {
	d, err := k.cloud.Describe(k.t.Context(), protocol.AgentThing("gw"))
	require.NoError(t, err)
	out := map[string]cloud.CertificateStatus{}
	for _, c := range d.Certificates {
		out[c.ID] = c.Status
	}
	return out
}

func TestARenewalLeavesOneCertificate(t *testing.T) {
	k, old := renewing(t)
	key, csr := request(t)
	_, err := k.Renew(t.Context(), gw, old.leaf, csr)
	require.NoError(t, err)
	out, err := k.Renew(t.Context(), gw, old.leaf, csr)
	require.NoError(t, err, "a lost answer costs nothing")
	next := owned(t, key, out.CertificatePEM)
	assert.Equal(t, map[string]cloud.CertificateStatus{old.id: cloud.Active, next.id: cloud.Active}, k.statuses(t), "both may be used")
	assert.WithinDuration(t, time.Now().Add(90*day), next.leaf.NotAfter, time.Minute)
	id, err := k.cloud.Registry.Identify(t.Context(), next.leaf)
	require.NoError(t, err)
	assert.Equal(t, protocol.AgentThing("gw"), id.Thing)
	assert.Len(t, id.Policies, 1)

	require.NoError(t, k.ConfirmRenewal(t.Context(), gw, old.id))
	assert.Equal(t, cloud.Active, k.statuses(t)[next.id], "the old one confirms nothing")
	for range 2 {
		require.NoError(t, k.ConfirmRenewal(t.Context(), gw, next.id), "confirming again is no error")
	}
	assert.Equal(t, map[string]cloud.CertificateStatus{old.id: cloud.Revoked, next.id: cloud.Active}, k.statuses(t))
	_, err = k.cloud.Registry.Identify(t.Context(), old.leaf)
	require.ErrorIs(t, err, fault.Denied)
}

func TestManyRenewalsDoNotFillTheThing(t *testing.T) {
	k, now := renewing(t)
	for range 120 {
		key, csr := request(t)
		out, err := k.Renew(t.Context(), gw, now.leaf, csr)
		require.NoError(t, err)
		now = owned(t, key, out.CertificatePEM)
		require.NoError(t, k.ConfirmRenewal(t.Context(), gw, now.id))
	}
	assert.Less(t, len(k.statuses(t)), 12)
}

func TestWhatIsNotRenewed(t *testing.T) {
	k, old := renewing(t)
	same, err := pki.NewCSR(old.key, "x")
	require.NoError(t, err)
	_, err = k.Renew(t.Context(), gw, old.leaf, string(same))
	require.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, "needs a new key")
	_, err = k.Renew(t.Context(), gw, old.leaf, "x")
	require.ErrorIs(t, err, fault.Invalid)
}

// late asks as a device does whose certificate has ended.
func (k *kit) renewLate(t *testing.T, c own, csr string, spoil ...func(*protocol.ExpiredRequest)) (protocol.CSRResponse, error) {
	t.Helper()
	r := protocol.ExpiredRequest{CertificatePEM: c.pem, CSR: csr, Nonce: k.RenewNonce().Nonce}
	var err error
	r.Signature, err = c.key.Sign(rand.Reader, r.Digest(), crypto.SHA256)
	require.NoError(t, err)
	for _, s := range spoil {
		s(&r)
	}
	return k.RenewExpired(t.Context(), r)
}

func TestAnExpiredCertificateIsRenewedWithinItsGraceAlone(t *testing.T) {
	sign := func(c own, r *protocol.ExpiredRequest) {
		r.Signature, _ = c.key.Sign(rand.Reader, r.Digest(), crypto.SHA256)
	}
	for name, c := range map[string]struct {
		after time.Duration
		spoil func(k *kit, old own, r *protocol.ExpiredRequest)
		ok    bool
	}{
		"a day after its end":   {91 * day, nil, true},
		"at the end of grace":   {119 * day, nil, true},
		"before its end":        {89 * day, nil, false},
		"after the grace":       {121 * day, nil, false},
		"without a signature":   {91 * day, func(_ *kit, _ own, r *protocol.ExpiredRequest) { r.Signature = nil }, false},
		"with another CSR":      {91 * day, func(k *kit, _ own, r *protocol.ExpiredRequest) { r.CSR = csr(k.t) }, false},
		"signed by another key": {91 * day, func(k *kit, _ own, r *protocol.ExpiredRequest) { o, _ := request(k.t); sign(own{key: o}, r) }, false},
		"with a nonce of its own": {91 * day, func(_ *kit, old own, r *protocol.ExpiredRequest) {
			r.Nonce = strings.Repeat("A", len(r.Nonce))
			sign(old, r)
		}, false},
		"with an old nonce": {91 * day, func(k *kit, _ own, _ *protocol.ExpiredRequest) { k.now.Add(301) }, false},
		"after it was revoked": {91 * day, func(k *kit, _ own, _ *protocol.ExpiredRequest) {
			require.NoError(k.t, k.cloud.SetCertificates(k.t.Context(), protocol.AgentThing("gw"), cloud.Revoked))
		}, false},
		"of another CA": {91 * day, func(k *kit, _ own, r *protocol.ExpiredRequest) {
			root, err := pki.NewRoot("x", time.Now(), time.Hour)
			require.NoError(k.t, err)
			key, _ := request(k.t)
			der, err := root.SignClient(pki.Client{Public: key.Public(), NotAfter: time.Now()}, time.Now())
			require.NoError(k.t, err)
			r.CertificatePEM = string(pki.EncodeCert(der))
			sign(own{key: key}, r)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			k, old := renewing(t)
			k.now.Store(int64(c.after.Seconds()))
			key, csr := request(t)
			out, err := k.renewLate(t, old, csr, func(r *protocol.ExpiredRequest) {
				if c.spoil != nil {
					c.spoil(k, old, r)
				}
			})
			if !c.ok {
				require.ErrorIs(t, err, fault.Denied)
				assert.ErrorContains(t, err, "enrol the device anew", "one text for all")
				assert.Len(t, k.statuses(t), 1, "nothing was issued")
				return
			}
			require.NoError(t, err)
			next := owned(t, key, out.CertificatePEM)
			require.NoError(t, k.ConfirmRenewal(t.Context(), gw, next.id))
			assert.Equal(t, map[string]cloud.CertificateStatus{old.id: cloud.Revoked, next.id: cloud.Active}, k.statuses(t))
			_, err = k.renewLate(t, old, csr)
			require.ErrorIs(t, err, fault.Denied, "the old one is not renewed a second time")
		})
	}
}

func TestARenewalThatTheServerIsKilledInEndsTheSame(t *testing.T) {
	var seen []state.Step
	for at := 0; ; at++ {
		for _, after := range []bool{false, true} {
			d := &dying{at: -1, after: after}
			k, old := renewing(t, func(c *enrollment.Config) { d.Store, c.Store = c.Store, d })
			d.n, d.at = 0, at
			key, csr := request(t)
			var out protocol.CSRResponse
			again(t, func() (err error) { out, err = k.Renew(t.Context(), gw, old.leaf, csr); return err })
			next := owned(t, key, out.CertificatePEM)
			again(t, func() error { return k.ConfirmRenewal(t.Context(), gw, next.id) })
			assert.Equal(t, map[string]cloud.CertificateStatus{old.id: cloud.Revoked, next.id: cloud.Active}, k.statuses(t))
			if d.n <= at {
				assert.Contains(t, seen, state.StepRenew)
				assert.Contains(t, seen, state.StepRenewConfirm)
				return
			}
			seen = append(seen, d.steps...)
		}
	}
}

func TestRenewalsAtOnceGiveOneCertificate(t *testing.T) {
	k, old := renewing(t)
	_, csr := request(t)
	var mu sync.Mutex
	var wg sync.WaitGroup
	got := map[string]bool{}
	for range 6 {
		wg.Go(func() {
			out, err := k.Renew(t.Context(), gw, old.leaf, csr)
			if assert.NoError(t, err) {
				mu.Lock()
				defer mu.Unlock()
				got[out.CertificatePEM] = true
			}
		})
	}
	wg.Wait()
	assert.Len(t, got, 1)
}

// TestACertificateIsUsableWhateverIsAskedInWhateverOrder: a device that asks with
// any certificate it ever had, with any key, and confirms what it likes, always has
// one that is taken, as long as it keeps what it got.
func TestACertificateIsUsableWhateverIsAskedInWhateverOrder(t *testing.T) {
	k, _ := renewing(t)
	rapid.Check(t, func(r *rapid.T) {
		key, csr := request(t) // each life begins with a new agent for the device
		a, code := k.activate(enrollment.NewActivation{DeviceID: "gw"})
		out, err := k.enroll(a, code, csr)
		require.NoError(r, err)
		have := []own{owned(r, key, out.CertificatePEM)}
		taken := func() (out []own) {
			for _, c := range have {
				if k.statuses(r)[c.id] == cloud.Active {
					out = append(out, c)
				}
			}
			return out
		}
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			with := rapid.SampledFrom(taken()).Draw(r, "with")
			if rapid.Bool().Draw(r, "renews") {
				key, csr := request(t)
				out, err := k.Renew(t.Context(), gw, with.leaf, csr)
				require.NoError(r, err)
				have = append(have, owned(r, key, out.CertificatePEM))
			} else {
				require.NoError(r, k.ConfirmRenewal(t.Context(), gw, with.id))
			}
			require.NotEmpty(r, taken())
		}
		require.NoError(r, k.ConfirmRenewal(t.Context(), gw, have[len(have)-1].id))
		if k.statuses(r)[have[len(have)-1].id] == cloud.Active && len(have) > 1 {
			require.Len(r, taken(), 1)
		}
	})
}

func FuzzRenewExpired(f *testing.F) {
	f.Add("-----BEGIN CERTIFICATE-----", "nonce", []byte("sig"))
	var once sync.Once
	var k *kit
	f.Fuzz(func(t *testing.T, cert, nonce string, sig []byte) {
		once.Do(func() { k, _ = renewing(t) })
		_, err := k.RenewExpired(t.Context(), protocol.ExpiredRequest{CertificatePEM: cert, CSR: "x", Nonce: nonce, Signature: sig})
		require.NotEmpty(t, fault.KindOf(err))
	})
}
