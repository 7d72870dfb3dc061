package cloudtest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// deleteTests are about things and groups that go.
var deleteTests = map[string]func(*testing.T, subject){
	"a thing goes with all that is its own":                                deprovision,
	"a thing that is gone has gone":                                        deprovisionNothing,
	"a certificate that is not deleted is detached and cannot connect":     deprovisionKeeping,
	"W-83: what another thing shares is only detached":                     deprovisionShared,
	"a policy goes with the last certificate that has it, if so requested": deprovisionPolicies,
	"a deletion whose last commit fails is finished by the next":           deprovisionAgain,
	"a core that was deleted starts clean when it is created again":        deprovisionAndCreate,
	"a group goes with its deployment once it is empty":                    retire,
}

func (s subject) deprovision(thing string, o cloud.Deprovision) {
	s.t.Helper()
	calls := 0
	require.NoError(s.t, s.Deprovision(s.t.Context(), thing, o, func(b *state.Batch) error {
		calls++
		return s.Commit(s.t.Context(), b)
	}))
	require.Equal(s.t, 1, calls)
}

func (s subject) members(group string) []string {
	s.t.Helper()
	out := []string{}
	require.NoError(s.t, s.Members(s.t.Context(), group, func(thing string) error {
		out = append(out, thing)
		return nil
	}))
	return out
}

// attach registers thing with a certificate that is registered.
func (s subject) attach(thing, certificate string, policies ...cloud.Policy) {
	s.t.Helper()
	r := cloud.Registration{Thing: thing, CertificateID: certificate, Policies: policies}
	require.NoError(s.t, s.Register(s.t.Context(), r, func(b *state.Batch) error { return s.Commit(s.t.Context(), b) }))
}

var whole = cloud.Deprovision{Certificates: true, Policies: true}

func deprovision(t *testing.T, s subject) {
	c := s.register("core")
	second := s.register("core")
	s.register("device")
	s.register("gateway")
	require.NoError(t, s.Connects(t.Context(), c.PEM))
	one := s.ensure(prefix+"v1", "1.0.0")
	s.ensure("plant", "1.0.0")
	s.move("core", "plant", false)
	s.move("core", prefix+"v1", false)
	require.NoError(t, s.Finish(t.Context(), "core", one.JobID, "SUCCEEDED"))
	s.move("core", prefix+"v1", true)
	require.NoError(t, s.Appear(t.Context(), "core"))
	s.associate("core", "device")
	s.associate("gateway", "core")
	s.deprovision("core", whole)
	_, err := s.Thing(t.Context(), "core")
	require.ErrorIs(t, err, fault.NotFound)
	_, err = s.Core(t.Context(), "core")
	require.ErrorIs(t, err, fault.NotFound)
	for _, pem := range []string{c.PEM, second.PEM} {
		require.ErrorIs(t, s.Connects(t.Context(), pem), fault.Denied)
	}
	assert.Empty(t, s.members("plant"))
	assert.Empty(t, s.members(prefix+"v1"))
	assert.Empty(t, s.associated("core"))
	assert.Empty(t, s.associated("gateway"))
	require.Error(t, s.Finish(t.Context(), "core", one.JobID, "SUCCEEDED"), "its executions are gone")
	s.register("other") // the built-in policy is still there
}

func deprovisionNothing(t *testing.T, s subject) {
	s.deprovision("stranger", whole)
	s.register("core")
	s.deprovision("core", whole)
	s.deprovision("core", whole)
	lost := errors.New("lost")
	require.ErrorIs(t, s.Deprovision(t.Context(), "core", whole, func(*state.Batch) error { return lost }), lost)
}

func deprovisionKeeping(t *testing.T, s subject) {
	c := s.register("core")
	s.deprovision("core", cloud.Deprovision{})
	require.ErrorIs(t, s.Connects(t.Context(), c.PEM), fault.Denied)
	s.attach("other", c.ID)
	require.ErrorIs(t, s.Connects(t.Context(), c.PEM), fault.Denied, "it is INACTIVE")
	require.NoError(t, s.SetCertificates(t.Context(), "other", cloud.Active))
	require.NoError(t, s.Connects(t.Context(), c.PEM))
}

func deprovisionShared(t *testing.T, s subject) {
	c := s.register("core")
	s.attach("twin", c.ID, cloud.Policy{Name: "Own", Document: allowNothing})
	s.deprovision("core", whole)
	require.NoError(t, s.Connects(t.Context(), c.PEM))
	thing, err := s.Thing(t.Context(), "twin")
	require.NoError(t, err)
	assert.Equal(t, []string{c.ID}, thing.Certificates)
	s.attach("third", c.ID, cloud.Policy{Name: "Own"}) // the policy is there
	s.deprovision("twin", whole)
	s.deprovision("third", whole)
	require.ErrorIs(t, s.Connects(t.Context(), c.PEM), fault.Denied)
}

const allowNothing = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`

func deprovisionPolicies(t *testing.T, s subject) {
	for _, n := range []string{"a", "b", "c"} {
		s.attach(n, s.register(n).ID, cloud.Policy{Name: "Own", Document: allowNothing})
	}
	exists := func() bool {
		t.Helper()
		c := s.issue("probe")
		err := s.Register(t.Context(), cloud.Registration{Thing: "probe", Certificate: &c, Policies: []cloud.Policy{{Name: "Own"}}},
			func(*state.Batch) error { return nil })
		if err != nil {
			require.ErrorIs(t, err, fault.NotFound)
		}
		return err == nil
	}
	if !s.Atomic {
		t.Skip("looking would attach it")
	}
	s.deprovision("a", cloud.Deprovision{Certificates: true})
	assert.True(t, exists(), "not requested")
	s.deprovision("b", whole)
	assert.True(t, exists(), "c has it")
	s.deprovision("c", cloud.Deprovision{Policies: true})
	assert.False(t, exists())
}

func deprovisionAgain(t *testing.T, s subject) {
	c := s.register("core")
	s.ensure(prefix+"v1", "1.0.0")
	s.move("core", prefix+"v1", false)
	lost := errors.New("lost")
	for range 2 {
		require.ErrorIs(t, s.Deprovision(t.Context(), "core", whole, func(*state.Batch) error { return lost }), lost)
		require.ErrorIs(t, s.Connects(t.Context(), c.PEM), fault.Denied, "from the first step on")
	}
	s.deprovision("core", whole)
	_, err := s.Thing(t.Context(), "core")
	require.ErrorIs(t, err, fault.NotFound)
}

func deprovisionAndCreate(t *testing.T, s subject) {
	s.register("core")
	d := s.ensure(prefix+"v1", "1.0.0")
	s.move("core", prefix+"v1", false)
	require.NoError(t, s.Finish(t.Context(), "core", d.JobID, "FAILED"))
	s.move("core", prefix+"v1", true)
	s.deprovision("core", whole)
	c := s.register("core")
	require.NoError(t, s.Connects(t.Context(), c.PEM))
	assert.Empty(t, s.groups())
	e := s.move("core", prefix+"v1", false)
	assert.Equal(t, cloud.Execution{Core: "core", Group: prefix + "v1", JobID: d.JobID, DeploymentID: d.ID, Number: 1, Order: e.Order, Status: "QUEUED"}, e)
}

func retire(t *testing.T, s subject) {
	s.register("core")
	first := s.ensure(prefix+"v1", "1.0.0")
	s.move("core", prefix+"v1", false)
	err := s.Retire(t.Context(), prefix+"v1")
	require.ErrorIs(t, err, fault.Conflict)
	assert.Contains(t, fault.Message(err), "core")
	require.NoError(t, s.Leave(t.Context(), "core", ours))
	require.NoError(t, s.Retire(t.Context(), prefix+"v1"))
	require.NoError(t, s.Retire(t.Context(), prefix+"v1"))
	require.ErrorIs(t, s.Members(t.Context(), prefix+"v1", func(string) error { return nil }), fault.NotFound)
	err = s.Move(t.Context(), cloud.Move{Core: "core", Leave: ours, Join: prefix + "v1"}, func(*state.Batch, cloud.Execution) error { return nil })
	require.ErrorIs(t, err, fault.NotFound)
	again := s.ensure(prefix+"v1", "1.0.0")
	assert.NotEqual(t, first, again, "a group of the same name is another one")
	assert.Equal(t, again.JobID, s.move("core", prefix+"v1", false).JobID)
}
