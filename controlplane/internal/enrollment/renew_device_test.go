package enrollment_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// issue registers a certificate for the thing.
func (k *kit) issue(t *testing.T, thing string) own {
	t.Helper()
	key, _ := request(t)
	issued, err := k.cloud.Issue(t.Context(), cloud.IssueRequest{Public: key.Public(), Validity: 10 * day})
	require.NoError(t, err)
	require.NoError(t, k.cloud.Register(t.Context(), cloud.Registration{Thing: thing, Certificate: &issued, Policies: []cloud.Policy{{Name: enrollment.AgentPolicy}}}, func(b *state.Batch) error {
		_, err := k.store.Commit(t.Context(), b)
		return err
	}))
	return owned(t, key, issued.PEM)
}

func (k *kit) status(t *testing.T, thing, id string) cloud.CertificateStatus {
	t.Helper()
	d, err := k.cloud.Describe(t.Context(), thing)
	require.NoError(t, err)
	for _, c := range d.Certificates {
		if c.ID == id {
			return c.Status
		}
	}
	return "gone"
}

// active are the ids of the thing's ACTIVE certificates.
func (k *kit) active(t *testing.T, thing string) (out []string) {
	t.Helper()
	d, err := k.cloud.Describe(t.Context(), thing)
	require.NoError(t, err)
	for _, c := range d.Certificates {
		if c.Status == cloud.Active {
			out = append(out, c.ID)
		}
	}
	return out
}

func TestACoresCertificateIsRenewedWithItsPolicies(t *testing.T) {
	k := newKit(t)
	now, other := k.issue(t, "gw"), k.issue(t, "gw")
	status := func(id string) cloud.CertificateStatus { return k.status(t, "gw", id) }
	for i := range 12 {
		key, csr := request(t)
		r := protocol.DeviceRenewal{CSR: csr, Replaces: now.id}
		_, err := k.RenewDevice(t.Context(), gw, r)
		require.NoError(t, err)
		out, err := k.RenewDevice(t.Context(), gw, r)
		require.NoError(t, err, "a lost answer costs nothing")
		next := owned(t, key, out.CertificatePEM)
		id, err := k.cloud.Registry.Identify(t.Context(), next.leaf)
		require.NoError(t, err)
		assert.Len(t, id.Policies, 1)
		assert.Equal(t, cloud.Active, status(now.id))
		for range 2 {
			require.NoError(t, k.ConfirmDevice(t.Context(), gw, next.id))
		}
		assert.Equal(t, cloud.Inactive, status(now.id), fmt.Sprint(i))
		assert.Equal(t, cloud.Active, status(other.id), "one that is none of the agent's business")
		now = next
	}
	_, err := k.RenewDevice(t.Context(), gw, protocol.DeviceRenewal{CSR: csr(t), Replaces: strings.Repeat("0", 64)})
	require.ErrorIs(t, err, fault.Invalid)
}

// devices are a core and a client device, and the call by which each asks for a
// certificate.
func (k *kit) both() map[protocol.Subject]func(csr string) (protocol.CSRResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.devices["cam"] = enrollment.Device{Name: "cam", Core: "gw"}
	return map[protocol.Subject]func(string) (protocol.CSRResponse, error){
		gw:                                       func(csr string) (protocol.CSRResponse, error) { return k.Certificate(k.t.Context(), "gw", csr) },
		{Role: protocol.RoleClient, Name: "cam"}: func(csr string) (protocol.CSRResponse, error) { return k.DeviceCertificate(k.t.Context(), "cam", csr) },
	}
}

func TestADeviceThatLostItsFilesGetsACertificateInPlaceOfWhatWasThere(t *testing.T) {
	k := newKit(t)
	for subject, ask := range k.both() {
		t.Run(string(subject.Role), func(t *testing.T) {
			first, other := k.issue(t, subject.Name), k.issue(t, subject.Name)
			for range 3 {
				key, csr := request(t)
				var next own
				for range 2 {
					out, err := ask(csr)
					require.NoError(t, err, "a lost answer costs nothing")
					got := owned(t, key, out.CertificatePEM)
					assert.True(t, next.id == "" || next.id == got.id)
					next = got
				}
				assert.Equal(t, cloud.Active, k.status(t, subject.Name, next.id))
				assert.Greater(t, len(k.active(t, subject.Name)), 1, "a nucleus may still work with what it has in memory")
				assert.False(t, next.leaf.NotBefore.After(first.leaf.NotBefore))
				assert.InDelta(t, 10*day, pki.Life(next.leaf), float64(time.Hour))
				for range 2 {
					require.NoError(t, k.ConfirmDevice(t.Context(), subject, next.id))
				}
				assert.Equal(t, []string{next.id}, k.active(t, subject.Name))
				assert.Equal(t, [2]string{pki.ID(next.leaf.RawSubjectPublicKeyInfo), next.pem}, k.renewals[subject.Name], "certs.zip goes")
				out, err := ask(csr)
				require.NoError(t, err)
				assert.Equal(t, next.pem, out.CertificatePEM, "the certificate alone was lost")
			}
			assert.Equal(t, cloud.Inactive, k.status(t, subject.Name, first.id))
			assert.Equal(t, cloud.Inactive, k.status(t, subject.Name, other.id))
			old, err := pki.NewCSR(first.key, "x")
			require.NoError(t, err)
			_, err = ask(string(old))
			require.ErrorIs(t, err, fault.Invalid, "a key that was replaced comes not back")
			_, err = ask("x")
			require.ErrorIs(t, err, fault.Invalid)
		})
	}
}

func TestADeviceThatWasShutOutGetsNoCertificateByItsAgent(t *testing.T) {
	for _, status := range []cloud.CertificateStatus{cloud.Inactive, cloud.Revoked} {
		k := newKit(t)
		for subject, ask := range k.both() {
			t.Run(fmt.Sprint(subject.Role, " ", status), func(t *testing.T) {
				k.issue(t, subject.Name)
				require.NoError(t, k.cloud.SetCertificates(t.Context(), subject.Name, status))
				_, err := ask(csr(t))
				require.ErrorIs(t, err, fault.Denied)
				assert.Empty(t, k.active(t, subject.Name))
			})
		}
	}
}

func TestWhatAnOperatorRevokedStaysRevokedWhenARenewalIsConfirmed(t *testing.T) {
	k := newKit(t)
	old := k.issue(t, "gw")
	key, csr := request(t)
	out, err := k.RenewDevice(t.Context(), gw, protocol.DeviceRenewal{CSR: csr, Replaces: old.id})
	require.NoError(t, err)
	next := owned(t, key, out.CertificatePEM)
	require.NoError(t, k.cloud.Register(t.Context(), cloud.Registration{Thing: "gw", CertificateID: old.id, OverrideStatus: cloud.Replace, Status: cloud.Revoked}, func(b *state.Batch) error {
		_, err := k.store.Commit(t.Context(), b)
		return err
	}))
	require.NoError(t, k.ConfirmDevice(t.Context(), gw, next.id))
	assert.Equal(t, cloud.Revoked, k.status(t, "gw", old.id))
	assert.Equal(t, []string{next.id}, k.active(t, "gw"))
}

func TestADevicesRenewalThatTheServerIsKilledInEndsTheSame(t *testing.T) {
	for name, lost := range map[string]bool{"renewed": false, "after its files were lost": true} {
		t.Run(name, func(t *testing.T) {
			var seen []state.Step
			for at := 0; ; at++ {
				for _, after := range []bool{false, true} {
					d := &dying{at: -1, after: after}
					k := newKit(t, func(c *enrollment.Config) { d.Store, c.Store = c.Store, d })
					old := k.issue(t, "gw")
					d.n, d.at = 0, at
					key, csr := request(t)
					var out protocol.CSRResponse
					again(t, func() (err error) {
						if lost {
							out, err = k.Certificate(t.Context(), "gw", csr)
						} else {
							out, err = k.RenewDevice(t.Context(), gw, protocol.DeviceRenewal{CSR: csr, Replaces: old.id})
						}
						return err
					})
					next := owned(t, key, out.CertificatePEM)
					again(t, func() error { return k.ConfirmDevice(t.Context(), gw, next.id) })
					assert.Equal(t, []string{next.id}, k.active(t, "gw"))
					assert.Equal(t, next.pem, k.renewals["gw"][1])
					if d.n <= at {
						assert.Contains(t, seen, state.StepRenew)
						assert.Contains(t, seen, state.StepRenewConfirm)
						return
					}
					seen = append(seen, d.steps...)
				}
			}
		})
	}
}
