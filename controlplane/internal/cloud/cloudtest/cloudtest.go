// Package cloudtest is the contract suite of the cloud ports: every cloud that
// the fleet service may stand on passes it. Only tests may import it.
package cloudtest

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// Subject is a cloud under test. Nothing is in it but what is named here. Its
// ports may be of several adapters to the same cloud.
type Subject struct {
	cloud.Things
	cloud.Components
	cloud.Deployments
	cloud.CoreDevices
	cloud.Associations
	cloud.PrivateCA

	// Commit writes the batch that a port hands to its commit function.
	Commit func(ctx context.Context, b *state.Batch) error
	// Finish makes a core report a job's status, final or IN_PROGRESS; Appear makes
	// it report that it is HEALTHY, for the first time or again, and Ail that it is
	// UNHEALTHY.
	Finish func(ctx context.Context, core, job, status string) error
	Appear func(ctx context.Context, core string) error
	Ail    func(ctx context.Context, core string) error
	// Pass lets time pass and the cloud end what took too long; nil: this cloud's
	// clock cannot be set.
	Pass func(ctx context.Context, d time.Duration) error
	// Connects returns nil if a device with the certificate could connect now.
	Connects func(ctx context.Context, pem string) error
	// CA is one that the cloud knows as CAID. PrivateCAARN is that of a private CA
	// that exists.
	CA           *pki.Authority
	CAID         string
	PrivateCAARN string
	// Policy exists and is built in. Component exists in the versions 1.0.0 and 2.0.0.
	Policy, Component string
	// Atomic says that a change happens with its commit or not at all.
	Atomic bool
	// OwnTimeout says that Move can bound the time of one execution otherwise than the
	// deployment does; a cloud that cannot refuses with fault.Unsupported.
	OwnTimeout bool
	// Polled says that Results looks now and then: what came and went between two
	// looks is not told.
	Polled bool
}

// Run runs the suite; open makes an empty cloud for each test.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	all := map[string]func(*testing.T, subject){
		"a certificate is issued by the cloud's own CA":      issue,
		"a registration makes a thing with its certificate":  register,
		"a registration that cannot be leaves nothing":       registerNothing,
		"a component is deployable or named":                 deployable,
		"a deployment is made once for each token":           ensure,
		"an unknown component leaves no group":               ensureNothing,
		"a core moves between groups as one change":          move,
		"a core that is there keeps its execution":           moveAgain,
		"a move that is not committed does not happen":       moveNothing,
		"results come in order and go on from a cursor":      results,
		"a core device is known from its first report on":    device,
		"members of a group that does not exist are unknown": members,
	}
	maps.Copy(all, deviceTests)
	maps.Copy(all, deleteTests)
	maps.Copy(all, executionTests)
	maps.Copy(all, certificateTests)
	for name, test := range all {
		t.Run(name, func(t *testing.T) { test(t, subject{open(t), t}) })
	}
}

type subject struct {
	Subject
	t *testing.T
}

func (s subject) issue(cn string) cloud.Issued {
	s.t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(s.t, err)
	c, err := s.Issue(s.t.Context(), cloud.IssueRequest{Subject: pkix.Name{CommonName: cn}, Public: key.Public(), Validity: time.Hour})
	require.NoError(s.t, err)
	return c
}

func (s subject) register(thing string) cloud.Issued {
	s.t.Helper()
	c := s.issue(thing)
	calls := 0
	r := cloud.Registration{Thing: thing, Certificate: &c, Policies: []cloud.Policy{{Name: s.Policy}}}
	require.NoError(s.t, s.Register(s.t.Context(), r, func(b *state.Batch) error {
		calls++
		return s.Commit(s.t.Context(), b)
	}))
	require.Equal(s.t, 1, calls)
	return c
}

func (s subject) ensure(group, version string) cloud.DeploymentRef {
	s.t.Helper()
	d, err := s.Ensure(s.t.Context(), s.deployment(group, version), group)
	require.NoError(s.t, err)
	require.NotEmpty(s.t, d.ID)
	require.NotEmpty(s.t, d.JobID)
	return d
}

func (s subject) deployment(group, version string) cloud.GroupDeployment {
	return cloud.GroupDeployment{Group: group, Name: group, Components: []cloud.DeployComponent{{Name: s.Component, Version: version}}}
}

const prefix = "suite_"

func ours(group string) bool { return strings.HasPrefix(group, prefix) }

func (s subject) move(core, join string, again bool) cloud.Execution {
	s.t.Helper()
	var out cloud.Execution
	calls := 0
	require.NoError(s.t, s.Move(s.t.Context(), cloud.Move{Core: core, Leave: ours, Join: join, Again: again}, func(b *state.Batch, e cloud.Execution) error {
		calls++
		out = e
		return s.Commit(s.t.Context(), b)
	}))
	require.Equal(s.t, 1, calls)
	return out
}

// groups are those of the thing core.
func (s subject) groups() []string {
	s.t.Helper()
	t, err := s.Thing(s.t.Context(), "core")
	require.NoError(s.t, err)
	return t.Groups
}

func issue(t *testing.T, s subject) {
	c := s.issue("core")
	list, err := pki.ParseCerts([]byte(c.PEM))
	require.NoError(t, err)
	require.Len(t, list, 1, "the leaf alone")
	assert.Equal(t, pki.ID(list[0].Raw), c.ID)
	assert.Equal(t, "core", list[0].Subject.CommonName)
	assert.NotEmpty(t, c.CAID)
	assert.True(t, c.NotBefore.Before(c.NotAfter))
	_, err = s.Issue(t.Context(), cloud.IssueRequest{CAID: strings.Repeat("0", 64), Public: list[0].PublicKey, Validity: time.Hour})
	require.ErrorIs(t, err, fault.NotFound)
}

func register(t *testing.T, s subject) {
	_, err := s.Thing(t.Context(), "core")
	require.ErrorIs(t, err, fault.NotFound)
	c := s.register("core")
	thing, err := s.Thing(t.Context(), "core")
	require.NoError(t, err)
	assert.Equal(t, cloud.Thing{Name: "core", Certificates: []string{c.ID}, Groups: thing.Groups}, thing)
	assert.Empty(t, thing.Groups)
	second := s.register("core")
	thing, err = s.Thing(t.Context(), "core")
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{c.ID, second.ID}, thing.Certificates)
}

func registerNothing(t *testing.T, s subject) {
	c := s.issue("core")
	r := cloud.Registration{Thing: "core", Certificate: &c, Policies: []cloud.Policy{{Name: "NoSuchPolicy"}}}
	err := s.Register(t.Context(), r, func(*state.Batch) error { t.Error("nothing may be committed"); return nil })
	require.ErrorIs(t, err, fault.NotFound)
	assert.Contains(t, fault.Message(err), "NoSuchPolicy")
	if !s.Atomic {
		return
	}
	r.Policies = nil
	lost := errors.New("lost")
	require.ErrorIs(t, s.Register(t.Context(), r, func(*state.Batch) error { return lost }), lost)
	_, err = s.Thing(t.Context(), "core")
	require.ErrorIs(t, err, fault.NotFound)
}

func deployable(t *testing.T, s subject) {
	require.NoError(t, s.Deployable(t.Context(), s.Component, "1.0.0"))
	err := s.Deployable(t.Context(), "com.example.NoSuch", "1.0.0")
	require.ErrorIs(t, err, fault.NotFound)
	assert.Contains(t, fault.Message(err), "com.example.NoSuch")
}

func ensure(t *testing.T, s subject) {
	first := s.ensure(prefix+"v1", "1.0.0")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			d, err := s.Ensure(t.Context(), s.deployment(prefix+"v1", "1.0.0"), prefix+"v1")
			assert.NoError(t, err)
			assert.Equal(t, first, d)
		})
	}
	wg.Wait()
	assert.NotEqual(t, first, s.ensure(prefix+"v2", "2.0.0"))
}

func ensureNothing(t *testing.T, s subject) {
	d := s.deployment(prefix+"v1", "1.0.0")
	d.Components = append(d.Components, cloud.DeployComponent{Name: "com.example.NoSuch", Version: "1.0.0"})
	_, err := s.Ensure(t.Context(), d, "token")
	require.ErrorIs(t, err, fault.NotFound)
	assert.Contains(t, fault.Message(err), "com.example.NoSuch")
	require.ErrorIs(t, s.Members(t.Context(), prefix+"v1", func(string) error { return nil }), fault.NotFound)
}

func move(t *testing.T, s subject) {
	for _, n := range []string{"core", "other"} {
		s.register(n)
	}
	one, two := s.ensure(prefix+"v1", "1.0.0"), s.ensure(prefix+"v2", "2.0.0")
	s.ensure("plant", "1.0.0")
	s.move("other", prefix+"v1", false)
	e := s.move("core", "plant", false)
	assert.Equal(t, "plant", e.Group)
	e = s.move("core", prefix+"v1", false)
	assert.Equal(t, cloud.Execution{Core: "core", Group: prefix + "v1", JobID: one.JobID, DeploymentID: one.ID, Number: 1, Order: e.Order, Status: "QUEUED"}, e)
	assert.ElementsMatch(t, []string{"plant", prefix + "v1"}, s.groups(), "groups of others are not touched")
	before := e.Order
	e = s.move("core", prefix+"v2", false)
	assert.Equal(t, two.JobID, e.JobID)
	assert.Greater(t, e.Order, before)
	assert.ElementsMatch(t, []string{"plant", prefix + "v2"}, s.groups())
	back := s.move("core", prefix+"v1", false)
	assert.Greater(t, back.Order, e.Order, "the same job anew, later")
	assert.Equal(t, one.JobID, back.JobID)
	assert.False(t, back.Ended)
	var in []string
	require.NoError(t, s.Members(t.Context(), prefix+"v1", func(thing string) error {
		in = append(in, thing)
		return nil
	}))
	assert.Equal(t, []string{"core", "other"}, in)
	stop := errors.New("stop")
	require.ErrorIs(t, s.Members(t.Context(), prefix+"v1", func(string) error { return stop }), stop)
	err := s.Move(t.Context(), cloud.Move{Core: "nobody", Leave: ours, Join: prefix + "v1", Again: false}, func(*state.Batch, cloud.Execution) error { return nil })
	require.ErrorIs(t, err, fault.NotFound)
}

func moveAgain(t *testing.T, s subject) {
	s.register("core")
	d := s.ensure(prefix+"v1", "1.0.0")
	first := s.move("core", prefix+"v1", false)
	assert.Equal(t, first, s.move("core", prefix+"v1", false))
	require.NoError(t, s.Finish(t.Context(), "core", d.JobID, "FAILED"))
	ended := s.move("core", prefix+"v1", false)
	assert.True(t, ended.Ended)
	assert.Equal(t, "FAILED", ended.Status)
	assert.Equal(t, "FAILED_ROLLBACK_COMPLETE", ended.Detailed)
	again := s.move("core", prefix+"v1", true)
	assert.False(t, again.Ended)
	assert.NotEqual(t, first.Number, again.Number)
}

func moveNothing(t *testing.T, s subject) {
	if !s.Atomic {
		t.Skip("this cloud has no part in the commit")
	}
	s.register("core")
	s.ensure(prefix+"v1", "1.0.0")
	s.ensure(prefix+"v2", "2.0.0")
	s.move("core", prefix+"v1", false)
	lost := errors.New("lost")
	err := s.Move(t.Context(), cloud.Move{Core: "core", Leave: ours, Join: prefix + "v2", Again: false}, func(*state.Batch, cloud.Execution) error { return lost })
	require.ErrorIs(t, err, lost)
	assert.Equal(t, []string{prefix + "v1"}, s.groups())
}

func results(t *testing.T, s subject) {
	s.register("a")
	s.register("b")
	d := s.ensure(prefix+"v1", "1.0.0")
	e := s.move("a", prefix+"v1", false)
	s.move("b", prefix+"v1", false)
	require.NoError(t, s.Finish(t.Context(), "a", d.JobID, "SUCCEEDED"))

	first, _ := s.follow("", "a", nil)
	assert.Equal(t, []cloud.Execution{{Core: "a", Group: prefix + "v1", JobID: d.JobID, DeploymentID: d.ID, Number: 1, Order: e.Order, Status: "SUCCEEDED", Detailed: "SUCCESSFUL", Ended: true}}, first, "what is still known")

	_, cursor := s.follow("", "b", func() { require.NoError(t, s.Finish(t.Context(), "b", d.JobID, "FAILED")) })
	require.NotEmpty(t, cursor)
	again := s.move("a", prefix+"v1", true)
	require.NoError(t, s.Finish(t.Context(), "a", d.JobID, "FAILED"))
	later, _ := s.follow(cursor, "a", nil)
	later = slices.DeleteFunc(later, func(e cloud.Execution) bool { return e.Core != "a" })
	last := later[len(later)-1]
	assert.Equal(t, again.Number, last.Number)
	assert.Equal(t, "FAILED", last.Status)
	assert.Equal(t, "FAILED_ROLLBACK_COMPLETE", last.Detailed)
}

// follow returns the results from a cursor up to the first of core, and the
// cursor to go on from. meanwhile runs once the first result of anybody came.
func (s subject) follow(from, core string, meanwhile func()) (list []cloud.Execution, cursor string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	enough := errors.New("enough")
	var once sync.Once
	var wg sync.WaitGroup
	err := s.Results(ctx, from, func(r []cloud.Execution, at string) error {
		if meanwhile != nil {
			once.Do(func() { wg.Go(meanwhile) })
		}
		list = append(list, r...)
		if at != "" {
			cursor = at
		}
		if slices.ContainsFunc(r, func(e cloud.Execution) bool { return e.Core == core }) {
			return enough
		}
		return nil
	})
	wg.Wait()
	require.ErrorIs(s.t, err, enough)
	return list, cursor
}

func device(t *testing.T, s subject) {
	s.register("core")
	_, err := s.Core(t.Context(), "core")
	require.ErrorIs(t, err, fault.NotFound)
	require.NoError(t, s.Appear(t.Context(), "core"))
	d := s.ensure(prefix+"v1", "1.0.0")
	s.move("core", prefix+"v1", false)
	c, err := s.Core(t.Context(), "core")
	require.NoError(t, err)
	assert.Equal(t, "HEALTHY", c.Status)
	assert.NotEmpty(t, c.CoreVersion)
	assert.NotEmpty(t, c.Platform)
	assert.NotEmpty(t, c.Architecture)
	assert.False(t, c.LastStatusUpdate.IsZero())
	assert.NotEmpty(t, c.Installed)
	require.Len(t, c.EffectiveDeployments, 1)
	e := c.EffectiveDeployments[0]
	assert.Equal(t, d.ID, e.DeploymentID)
	assert.Equal(t, d.JobID, e.JobID)
	assert.Equal(t, "QUEUED", e.Status)
	assert.Contains(t, e.TargetARN, ":thinggroup/"+prefix+"v1")
}

func members(t *testing.T, s subject) {
	require.ErrorIs(t, s.Members(t.Context(), "none", func(string) error { return nil }), fault.NotFound)
}
