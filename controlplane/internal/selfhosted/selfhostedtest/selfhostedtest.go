// Package selfhostedtest puts a self-hosted cloud together for tests: the real
// registry, jobs and deployments over whatever store, with a component store that
// knows what it is told. Only tests may import it.
package selfhostedtest

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Policy is a policy that exists and allows everything.
const Policy = "CDFGreengrass2CorePolicy"

// TB is what testing.T and rapid.T have in common.
type TB interface {
	require.TestingT
	Helper()
	Context() context.Context
}

// World is a self-hosted cloud.
type World struct {
	*selfhosted.Cloud
	t     TB
	Store state.Store
	Realm names.Realm
	CA    *iot.CA

	ahead atomic.Int64 // nanoseconds that the jobs' clock goes ahead
}

// Components knows the versions named "name@version".
type Components map[string]bool

// Deployable implements cloud.Components.
func (c Components) Deployable(_ context.Context, name, version string) error {
	if !c[name+"@"+version] {
		return fault.New(fault.NotFound, "component %s version %s does not exist", name, version)
	}
	return nil
}

// Presence says that nobody is connected.
type Presence struct{}

// Presence implements selfhosted.Presence.
func (Presence) Presence(string) (bool, time.Time) { return false, time.Time{} }

// New returns a cloud over store that knows the components com.example.App in
// versions 1.0.0 and 2.0.0.
func New(t TB, store state.Store) *World {
	t.Helper()
	root, err := pki.NewRoot("test root", time.Now(), 24*time.Hour*365)
	require.NoError(t, err)
	issuer, err := root.NewIntermediate("test issuer", time.Now(), 24*time.Hour*300)
	require.NoError(t, err)
	private, err := root.NewIntermediate("test private", time.Now(), 24*time.Hour*300)
	require.NoError(t, err)
	w := &World{
		t: t, Store: store, Realm: names.Realm{Region: "us-east-1", Account: "000000000000"},
		CA: &iot.CA{
			ID: pki.ID(issuer.Cert.Raw), Root: root.Cert, Issuer: issuer,
			Private: &iot.PrivateCA{UUID: names.NewUUID(), ID: pki.ID(private.Cert.Raw), Authority: private},
		},
	}
	w.restart()
	require.NoError(t, w.Registry.EnsurePolicy(t.Context(), Policy, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`))
	return w
}

func (w *World) restart() {
	components := Components{"com.example.App@1.0.0": true, "com.example.App@2.0.0": true}
	registry, err := iot.New(iot.Config{Store: w.Store, Realm: w.Realm, CA: w.CA})
	require.NoError(w.t, err)
	j, err := jobs.New(jobs.Config{Store: w.Store, Now: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }})
	require.NoError(w.t, err)
	g, err := greengrass.New(greengrass.Config{Store: w.Store, Registry: registry, Jobs: j, Components: components})
	require.NoError(w.t, err)
	w.Cloud = &selfhosted.Cloud{Registry: registry, Jobs: j, Greengrass: g, Components: components, Presence: Presence{}}
}

// RunRollouts drives rollouts until t ends; without it Greengrass.Drive does.
func (w *World) RunRollouts(t testing.TB) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Greengrass.RunRollouts(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
}

// Commit commits b.
func (w *World) Commit(ctx context.Context, b *state.Batch) error {
	_, err := w.Store.Commit(ctx, b)
	return err
}

// Finish reports the job's status as the core does.
func (w *World) Finish(ctx context.Context, core, job, status string) error {
	_, err := w.Jobs.Apply(ctx, jobs.Update{Thing: core, JobID: job, Status: protocol.JobStatus(status), Details: map[string]string{
		protocol.DetailStatus: map[string]string{"SUCCEEDED": "SUCCESSFUL", "FAILED": "FAILED_ROLLBACK_COMPLETE"}[status],
	}})
	return err
}

// Pass lets time pass for jobs, and ends those that took too long.
func (w *World) Pass(ctx context.Context, d time.Duration) error {
	w.ahead.Add(int64(d))
	_, err := w.Jobs.Expire(ctx)
	return err
}

// Connects returns nil if a device with the certificate could connect now.
func (w *World) Connects(ctx context.Context, pem string) error {
	list, err := pki.ParseCerts([]byte(pem))
	if err == nil {
		_, err = w.Registry.Identify(ctx, list[0])
	}
	return err
}

// Appear sends the core's fleet status: it is well.
func (w *World) Appear(ctx context.Context, core string) error {
	return w.say(ctx, core, protocol.Healthy)
}

// Ail sends the core's fleet status: it is not.
func (w *World) Ail(ctx context.Context, core string) error {
	return w.say(ctx, core, protocol.Unhealthy)
}

func (w *World) say(ctx context.Context, core, status string) error {
	b, err := json.Marshal(protocol.FleetStatus{
		GGCVersion: "2.18.0", Platform: "linux", Architecture: "amd64", Thing: core, SequenceNumber: 1, MessageType: protocol.StatusComplete,
		Trigger: protocol.TriggerNucleusLaunch, OverallDeviceStatus: status,
		Components: []protocol.ComponentStatus{{ComponentName: "main", Version: "2.18.0", Status: "FINISHED"}},
	})
	if err != nil {
		return err
	}
	return w.Greengrass.Report(ctx, core, b)
}

// Client registers a thing with attributes and returns its certificate and key.
func (w *World) Client(t testing.TB, thing string, attributes map[string]string, policies ...string) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	c, err := w.Issue(t.Context(), cloud.IssueRequest{Subject: pkix.Name{CommonName: thing}, Public: key.Public(), Validity: time.Hour})
	require.NoError(t, err)
	r := cloud.Registration{Thing: thing, Attributes: attributes, Certificate: &c}
	for _, p := range policies {
		r.Policies = append(r.Policies, cloud.Policy{Name: p})
	}
	require.NoError(t, w.Register(t.Context(), r, func(b *state.Batch) error { return w.Commit(t.Context(), b) }))
	list, err := pki.ParseCerts([]byte(c.PEM))
	require.NoError(t, err)
	return pair(key, list[0]), list[0]
}

func pair(key crypto.Signer, leaf *x509.Certificate) tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}
