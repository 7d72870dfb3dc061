package enrollment_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

type kit struct {
	*enrollment.Service
	t         *testing.T
	cfg       enrollment.Config
	store     *memory.Store
	objects   *objects.Store
	cloud     *selfhostedtest.World
	cores     map[string]enrollment.Core
	devices   map[string]enrollment.Device
	tasks     map[string]*created  // by key
	renewals  map[string][2]string // key and certificate that the fleet was told of
	mu        sync.Mutex           // guards cores, devices, tasks and renewals
	offer     *protocol.Distribution
	meanwhile func()       // if set, called when a task is looked up
	now       atomic.Int64 // seconds added to the clock
}

func newKit(t *testing.T, more ...func(*enrollment.Config)) *kit {
	t.Helper()
	k := &kit{t: t, store: memory.New(), objects: objects.New("bucket"), cores: map[string]enrollment.Core{"gw": {Name: "gw"}}, devices: map[string]enrollment.Device{}, tasks: map[string]*created{}}
	k.cloud = selfhostedtest.New(t, k.store)
	require.NoError(t, k.cloud.Registry.EnsurePolicy(t.Context(), enrollment.AgentPolicy, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`))
	var err error
	cfg := enrollment.Config{
		Store: k.store, Objects: k.objects, Things: k.cloud, Cores: k, Devices: k, Creator: k, Distributions: k, CAPEM: "the CA", MQTTAddress: "localhost:8883",
		Now: func() time.Time { return time.Now().Add(time.Duration(k.now.Load()) * time.Second) },
	}
	for _, m := range more {
		m(&cfg)
	}
	k.cfg = cfg
	k.Service, err = enrollment.New(cfg)
	require.NoError(t, err)
	return k
}

func (k *kit) EnrollCore(_ context.Context, name string) (enrollment.Core, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.cores[name]
	if !ok {
		return c, fault.New(fault.NotFound, "core %s does not exist", name)
	}
	return c, nil
}

func (k *kit) CompleteCore(_ context.Context, name, csr string) (string, error) {
	return "certificate of " + name + " for " + csr, nil
}

func (k *kit) CoreRenewed(_ context.Context, name, key, pem string) error {
	return k.renewedBy(name, key, pem)
}

func (k *kit) Offer(context.Context, string, protocol.AssignmentQuery) (*protocol.Distribution, error) {
	return k.offer, nil
}

func (k *kit) Open(ctx context.Context, digest string) (object.Reader, object.Info, error) {
	return k.objects.Open(ctx, digest)
}

func (k *kit) activate(n enrollment.NewActivation) (enrollment.Activation, string) {
	k.t.Helper()
	a, code, err := k.Activate(k.t.Context(), n)
	require.NoError(k.t, err)
	return a, code
}

func csr(t *testing.T) string {
	t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	b, err := pki.NewCSR(key, "x")
	require.NoError(t, err)
	return string(b)
}

func (k *kit) enroll(a enrollment.Activation, code, csr string) (protocol.EnrollResponse, error) {
	out, err := k.Enroll(k.t.Context(), enrollment.Caller{}, protocol.EnrollRequest{ActivationID: a.ID, Code: code, CSR: csr})
	return out.EnrollResponse, err
}

func TestAnAgentGetsAnIdentityOfItsOwn(t *testing.T) {
	k := newKit(t)
	a, code := k.activate(enrollment.NewActivation{DeviceID: "gw"})
	assert.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, a.ID)
	assert.Regexp(t, `^[A-Za-z0-9]{20}$`, code)
	assert.Equal(t, 24*time.Hour, a.ExpiresAt.Sub(a.CreatedAt))
	request := csr(t)
	out, err := k.enroll(a, code, request)
	require.NoError(t, err)
	assert.Equal(t, "gw", out.Core)
	assert.Equal(t, protocol.AgentThing("gw"), out.AgentThing)
	assert.Equal(t, "the CA", out.CAPEM)
	assert.Equal(t, "localhost:8883", out.MQTTAddress)
	list, err := pki.ParseCerts([]byte(out.CertificatePEM))
	require.NoError(t, err)
	assert.Equal(t, out.AgentThing, list[0].Subject.CommonName)
	id, err := k.cloud.Registry.Identify(t.Context(), list[0])
	require.NoError(t, err)
	assert.Equal(t, out.AgentThing, id.Thing, "a thing beside the core's")
	assert.Equal(t, map[string]string{protocol.AttributeCore: "gw"}, id.Attributes)
	assert.Len(t, id.Policies, 1)

	again, err := k.enroll(a, code, request)
	require.NoError(t, err)
	assert.Equal(t, out, again, "a lost answer costs nothing")
	_, err = k.enroll(a, code, csr(t))
	require.ErrorIs(t, err, fault.Denied, "used up")
	used, err := k.Activation(t.Context(), a.ID)
	require.NoError(t, err)
	assert.Len(t, used.Issued, 1)
	dump, err := k.store.List(t.Context(), "", "", 0)
	require.NoError(t, err)
	for _, e := range dump.Entries {
		assert.NotContains(t, string(e.Value), code, "%s: the code is not stored", e.Key)
	}
}

func TestWhoIsNotLetIn(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(k *kit, a *enrollment.Activation, code *string)
	}{
		{"a wrong code", func(_ *kit, _ *enrollment.Activation, code *string) { *code = strings.Repeat("x", 20) }},
		{"no code", func(_ *kit, _ *enrollment.Activation, code *string) { *code = "" }},
		{"an unknown activation", func(_ *kit, a *enrollment.Activation, _ *string) { a.ID = "0f8fad5b-d9cb-469f-a165-70867728950e" }},
		{"a path for an id", func(_ *kit, a *enrollment.Activation, _ *string) { a.ID = "../device/gw" }},
		{"an expired activation", func(k *kit, _ *enrollment.Activation, _ *string) { k.now.Add(86401) }},
		{"a removed activation", func(k *kit, a *enrollment.Activation, _ *string) {
			require.NoError(k.t, k.DeleteActivation(k.t.Context(), a.ID))
		}},
		{"an activation before the last", func(k *kit, _ *enrollment.Activation, _ *string) {
			k.activate(enrollment.NewActivation{DeviceID: "gw"})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t)
			a, code := k.activate(enrollment.NewActivation{DeviceID: "gw"})
			c.spoil(k, &a, &code)
			_, err := k.enroll(a, code, csr(t))
			require.ErrorIs(t, err, fault.Denied)
			assert.Contains(t, fault.Message(err), "does not exist, has expired, was used up, or its code is wrong", "it does not tell which")
			_, err = k.cloud.Thing(t.Context(), protocol.AgentThing("gw"))
			require.ErrorIs(t, err, fault.NotFound)
		})
	}
	k := newKit(t)
	a, code := k.activate(enrollment.NewActivation{DeviceID: "none"})
	_, err := k.enroll(a, code, csr(t))
	require.ErrorIs(t, err, fault.NotFound, "a core that does not exist")
	_, err = k.enroll(a, code, "x")
	require.ErrorIs(t, err, fault.Invalid)
	long := strings.Repeat("x", 127)
	k.cores[long] = enrollment.Core{Name: long}
	a, code = k.activate(enrollment.NewActivation{DeviceID: long})
	_, err = k.enroll(a, code, csr(t))
	require.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, "too long")
}

func TestAnActivationAdmitsExactlyAsManyAsItSays(t *testing.T) {
	for _, limit := range []int{1, 3} {
		k := newKit(t)
		a, code := k.activate(enrollment.NewActivation{DeviceID: "gw", Limit: limit})
		var in, out atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			request := csr(t)
			wg.Go(func() {
				_, err := k.enroll(a, code, request)
				if err == nil {
					in.Add(1)
				} else if assert.ErrorIs(t, err, fault.Denied) {
					out.Add(1)
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, limit, in.Load())
		assert.EqualValues(t, 8-limit, out.Load())
		thing, err := k.cloud.Thing(t.Context(), protocol.AgentThing("gw"))
		require.NoError(t, err)
		assert.Len(t, thing.Certificates, limit, "no orphan certificate")
	}
}

func TestW117BoundsOfAnActivation(t *testing.T) {
	k := newKit(t)
	for _, c := range []struct {
		n    enrollment.NewActivation
		says string
	}{
		{enrollment.NewActivation{}, "deviceId"},
		{enrollment.NewActivation{DeviceID: strings.Repeat("x", 257)}, "deviceId"},
		{enrollment.NewActivation{DeviceID: "a\x00"}, "deviceId"},
		{enrollment.NewActivation{DeviceID: "a!"}, "deviceId"},
		{enrollment.NewActivation{DeviceID: "\xff"}, "deviceId"},
		{enrollment.NewActivation{DeviceID: "a", Life: time.Second}, "expiresInSeconds"},
		{enrollment.NewActivation{DeviceID: "a", Life: 366 * 24 * time.Hour}, "expiresInSeconds"},
		{enrollment.NewActivation{DeviceID: "a", Limit: -1}, "registrationLimit"},
		{enrollment.NewActivation{DeviceID: "a", Limit: 1001}, "registrationLimit"},
	} {
		_, _, err := k.Activate(t.Context(), c.n)
		require.ErrorIs(t, err, fault.Invalid)
		assert.ErrorContains(t, err, c.says)
	}
	strange := "Gerät 7/_.:=+-@ 東"
	a, _ := k.activate(enrollment.NewActivation{DeviceID: strange})
	got, err := k.Activation(t.Context(), a.ID)
	require.NoError(t, err)
	assert.Equal(t, strange, got.DeviceID)
	require.NoError(t, k.DeleteActivation(t.Context(), a.ID))
	require.NoError(t, k.DeleteActivation(t.Context(), a.ID), "an unknown one is no error")
	require.ErrorIs(t, k.DeleteActivation(t.Context(), "X"), fault.Invalid)
	_, err = k.Activation(t.Context(), a.ID)
	require.ErrorIs(t, err, fault.NotFound)
	page, err := k.store.List(t.Context(), state.Root+"enrollment/", "", 0)
	require.NoError(t, err)
	assert.Empty(t, page.Entries, "nothing is left")
}

func TestWhatAnAgentIsToMakeTrue(t *testing.T) {
	k := newKit(t)
	a, err := k.Assignment(t.Context(), "gw", protocol.AssignmentQuery{})
	require.NoError(t, err)
	assert.Equal(t, protocol.CoreAssignment{Core: "gw", HasCertificate: true, CAPEM: "the CA"}, a)
	_, _, err = k.Certs(t.Context(), "gw")
	require.ErrorIs(t, err, fault.NotFound)
	_, _, err = k.Config(t.Context(), "gw")
	require.ErrorIs(t, err, fault.NotFound)

	require.NoError(t, k.objects.Put(t.Context(), state.PutCerts, "z", strings.NewReader("zip"), 3, "text/plain"))
	require.NoError(t, k.objects.Put(t.Context(), state.PutConfig, "c", strings.NewReader("yml"), 3, "text/plain"))
	k.cores["gw"] = enrollment.Core{Name: "gw", CertificatePending: true, CertsKey: "z", ConfigKey: "c"}
	k.offer = &protocol.Distribution{Name: "aws.greengrass.NucleusLite", Version: "2.6.0"}
	a, err = k.Assignment(t.Context(), "gw", protocol.AssignmentQuery{})
	require.NoError(t, err)
	assert.Equal(t, protocol.CoreAssignment{Core: "gw", CertsZip: true, Config: true, CAPEM: "the CA", Nucleus: k.offer}, a)
	for want, open := range map[string]func(context.Context, string) (object.Reader, object.Info, error){"zip": k.Certs, "yml": k.Service.Config} {
		r, _, err := open(t.Context(), "gw")
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		assert.Equal(t, want, string(b))
	}
	_, err = k.Assignment(t.Context(), "none", protocol.AssignmentQuery{})
	require.ErrorIs(t, err, fault.NotFound)
	c, err := k.Certificate(t.Context(), "gw", "csr")
	require.NoError(t, err)
	assert.Equal(t, "certificate of gw for csr", c.CertificatePEM)
}
