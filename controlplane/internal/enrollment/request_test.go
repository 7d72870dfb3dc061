package enrollment_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestADeviceThatNobodyKnowsWaitsForAnOperator(t *testing.T) {
	k := newKit(t)
	d := k.device("gw")
	id := d.waits()
	assert.Equal(t, id, d.waits(), "the same key is the same request")
	r, err := k.Request(t.Context(), id)
	require.NoError(t, err)
	assert.Equal(t, enrollment.Waiting, r.Status)
	assert.Equal(t, "192.0.2.7", r.Address)
	_, err = k.Approve(t.Context(), id, enrollment.Approval{By: "ada"})
	require.NoError(t, err)
	out := d.enters()
	assert.Equal(t, "gw", out.Core)
	assert.Equal(t, out, d.enters(), "a lost answer costs nothing")
	certs, err := pki.ParseCerts([]byte(out.CertificatePEM))
	require.NoError(t, err)
	id1, err := k.cloud.Registry.Identify(t.Context(), certs[0])
	require.NoError(t, err)
	assert.Equal(t, protocol.AgentThing("gw"), id1.Thing)
	r, err = k.Request(t.Context(), id)
	require.NoError(t, err)
	assert.Equal(t, enrollment.Enrolled, r.Status)
	assert.Equal(t, "ada", r.Decision.By)
}

func TestADeviceThatWasDeniedIsKeptOut(t *testing.T) {
	k := newKit(t)
	d := k.device("gw")
	id := d.waits()
	_, err := k.Deny(t.Context(), id, "ada", "not ours")
	require.NoError(t, err)
	for range 2 {
		_, err = d.ask()
		require.ErrorIs(t, err, fault.Denied)
	}
	_, err = k.Approve(t.Context(), id, enrollment.Approval{By: "ada"})
	require.NoError(t, err)
	out := d.enters()
	_, err = k.Deny(t.Context(), id, "ada", "after all")
	require.NoError(t, err)
	_, err = d.ask()
	require.ErrorIs(t, err, fault.Denied)
	certs, err := pki.ParseCerts([]byte(out.CertificatePEM))
	require.NoError(t, err)
	_, err = k.cloud.Registry.Identify(t.Context(), certs[0])
	require.ErrorIs(t, err, fault.Denied, "its certificate is revoked")
}

func TestACoreThatDoesNotExistIsCreatedOnApproval(t *testing.T) {
	k := newKit(t)
	d := k.device("new")
	id := d.waits()
	r, err := k.Approve(t.Context(), id, enrollment.Approval{By: "ada"})
	require.NoError(t, err)
	assert.NotEmpty(t, r.Task)
	d.waits()
	k.work()
	assert.Equal(t, "new", d.enters().Core)
	assert.Len(t, k.tasks, 1)
}

func TestTheCertificateOfAThingLetsItsAgentIn(t *testing.T) {
	k := newKit(t)
	d := k.device("")
	d.Thing, d.Certificate = "gw", "id"
	assert.Equal(t, "gw", d.enters().Core)
	other := k.device("")
	other.Thing, other.Certificate = "fresh", "id"
	other.waits()
	k.work()
	assert.Equal(t, "fresh", other.enters().Core, "the core is created")
}

// The core appears between two looks: first it is not there, then its task has ended.
func TestACoreThatIsCreatedWhileItsDeviceAsksIsThere(t *testing.T) {
	k := newKit(t)
	d := k.device("new")
	_, err := k.Approve(t.Context(), d.waits(), enrollment.Approval{By: "ada"})
	require.NoError(t, err)
	k.meanwhile = k.work
	assert.Equal(t, "new", d.enters().Core)
}

func TestAClientDeviceThatDoesNotExistNeedsACore(t *testing.T) {
	k := newKit(t)
	d := k.device("sensor")
	d.Role = protocol.RoleClient
	id := d.waits()
	_, err := k.Approve(t.Context(), id, enrollment.Approval{By: "ada"})
	require.ErrorIs(t, err, fault.Invalid)
	assert.Equal(t, "coreName", fault.FieldOf(err))
	_, err = k.Approve(t.Context(), id, enrollment.Approval{By: "ada", Create: enrollment.Creation{Core: "gw"}})
	require.NoError(t, err)
	k.work()
	out := d.enters()
	assert.Equal(t, "sensor", out.Device)
	assert.Empty(t, out.Core)
	a, err := k.DeviceAssignment(t.Context(), "sensor")
	require.NoError(t, err)
	assert.Equal(t, protocol.DeviceAssignment{Device: "sensor", CAPEM: "the CA", MQTTAddress: "localhost:8883", Core: "gw"}, a)
	_, _, err = k.DeviceCerts(t.Context(), "sensor")
	require.ErrorIs(t, err, fault.NotFound)
	role, err := k.RoleOf(t.Context(), "sensor")
	require.NoError(t, err)
	assert.Equal(t, protocol.RoleClient, role)
	wrong, code := k.activate(enrollment.NewActivation{DeviceID: "sensor"})
	_, err = k.Enroll(t.Context(), enrollment.Caller{}, protocol.EnrollRequest{ActivationID: wrong.ID, Code: code, CSR: csr(t), Role: protocol.RoleCore})
	require.ErrorIs(t, err, fault.Invalid)
	_, _, err = k.Activate(t.Context(), enrollment.NewActivation{DeviceID: "sensor", Role: protocol.RoleCore})
	require.ErrorIs(t, err, fault.Invalid)
}
