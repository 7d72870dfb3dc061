package enrollment_test

import (
	"context"
	"net/netip"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// created is a task of the creator: kit.work carries it out, unless it fails.
type created struct {
	id      string
	subject protocol.Subject
	how     enrollment.Creation
	failure string
	done    bool
}

func (k *kit) EnrollDevice(_ context.Context, name string) (enrollment.Device, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d, ok := k.devices[name]
	if !ok {
		return d, fault.New(fault.NotFound, "client device %s does not exist", name)
	}
	return d, nil
}

func (k *kit) CompleteDevice(_ context.Context, name, csr string) (string, error) {
	return "certificate of " + name + " for " + csr, nil
}

func (k *kit) DeviceRenewed(_ context.Context, name, key, pem string) error {
	return k.renewedBy(name, key, pem)
}

// renewedBy keeps what the fleet was told of a device's certificate.
func (k *kit) renewedBy(name, key, pem string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.renewals == nil {
		k.renewals = map[string][2]string{}
	}
	k.renewals[name] = [2]string{key, pem}
	return nil
}

func (k *kit) CreateSubject(_ context.Context, s protocol.Subject, how enrollment.Creation, key string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t := k.tasks[key]; t != nil {
		return t.id, nil
	}
	if how.ProvisioningTemplate == "refused" {
		return "", fault.Field("provisioningTemplate", "is refused")
	}
	t := &created{id: "task of " + key, subject: s, how: how}
	if how.ProvisioningTemplate == "broken" {
		t.failure = "Failed provisioning: broken"
	}
	k.tasks[key] = t
	return t.id, nil
}

func (k *kit) SubjectCreated(_ context.Context, _ protocol.Subject, task string) (bool, string, error) {
	if k.meanwhile != nil {
		k.meanwhile()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.tasks {
		if t.id == task && (t.done || t.failure != "") {
			return true, t.failure, nil
		}
	}
	return false, "", nil
}

// work carries out what the tasks are for.
func (k *kit) work() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.tasks {
		switch {
		case t.failure != "" || t.done:
			continue
		case t.subject.Role == protocol.RoleClient:
			k.devices[t.subject.Name] = enrollment.Device{Name: t.subject.Name, Core: t.how.Core, CertificatePending: true}
		default:
			k.cores[t.subject.Name] = enrollment.Core{Name: t.subject.Name, CertificatePending: true}
		}
		t.done = true
	}
}

// device is one that asks to be let in, always with the same key.
type device struct {
	k   *kit
	csr string
	enrollment.Caller
	protocol.EnrollRequest
}

func (k *kit) device(name string) *device {
	return &device{k: k, csr: csr(k.t), Caller: enrollment.Caller{Address: netip.MustParseAddr("192.0.2.7")}, EnrollRequest: protocol.EnrollRequest{Name: name}}
}

func (d *device) ask() (enrollment.Answer, error) {
	d.CSR = d.csr
	return d.k.Enroll(d.k.t.Context(), d.Caller, d.EnrollRequest)
}

// waits asks and is told to wait; it returns the id of the request.
func (d *device) waits() string {
	d.k.t.Helper()
	out, err := d.ask()
	require.NoError(d.k.t, err)
	require.NotNil(d.k.t, out.Pending, "it has to wait")
	return out.Pending.RequestID
}

// enters asks and is let in.
func (d *device) enters() protocol.EnrollResponse {
	d.k.t.Helper()
	out, err := d.ask()
	require.NoError(d.k.t, err)
	require.Nil(d.k.t, out.Pending, "it is let in")
	return out.EnrollResponse
}
