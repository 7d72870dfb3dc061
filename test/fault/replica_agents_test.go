package fault_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// pair is what operators and agents do with two replicas over one etcd.
type pair struct {
	t        *testing.T
	one, two *lineage

	agents []*unit // of core-0000 on, at the first replica
}

// at is the device when its calls come to another replica.
func (u *unit) at(l *lineage) *unit {
	other := *u
	other.s = l.story
	return &other
}

func (p *pair) both(do func(*lineage)) {
	do(p.one)
	do(p.two)
}

// everywhere requires that a device gets the status for a call at both replicas.
func (p *pair) everywhere(u *unit, status int, method, path string, body any) {
	p.t.Helper()
	p.both(func(l *lineage) { u.at(l).refused(status, method, path, body) })
}

func TestToAgentsTwoReplicasAreOneControlPlane(t *testing.T) {
	t.Parallel()
	one, two, _ := awsReplicas(t)
	_, signer, err := signed.NewKey("")
	require.NoError(t, err)
	p := &pair{t: t}
	for into, u := range map[**lineage]*awsUser{&p.one: one, &p.two: two} {
		*into = &lineage{story: u.story, units: map[string]*unit{}, aws: u, signer: signer}
	}
	const cores = 8
	one.succeeded(one.postCores(coreNames(cores)), coreNames(cores))
	p.approved()
	p.byRule()
	p.byActivation()
	p.one.units["unit-1"] = p.agents[0]
	p.one.factory() // expires while the rest goes on
	p.renewed()
	p.released()
	p.one.until(func() string {
		if left := time.Until(p.one.expires) + time.Second; left > 0 { // a certificate ends with its second
			return "it expires in " + left.String()
		}
		return ""
	})
	p.killed()
	two.finish()
}

// approved are devices that wait at one replica and are let in, or kept out, at the
// other.
func (p *pair) approved() {
	for name, asks := range map[string]*lineage{"unit-1": p.one, "unit-2": p.two} {
		u, k := newUnit(p.one.story, protocol.EnrollRequest{Name: name, Serial: "S-" + name, Platform: amd})
		id := u.waits()
		assert.Equal(p.t, id, u.at(p.two).waits(), "it waits once")
		p.two.let(id, object{"reason": "ticket 4711"})
		u = u.at(asks)
		u.enters(k)
		for _, l := range []*lineage{p.one, p.two} {
			var again protocol.EnrollResponse
			(&unit{s: l.story}).must(http.MethodPost, protocol.PathEnroll, u.say, &again)
			assert.Equal(p.t, u.got.CertificatePEM, again.CertificatePEM, "the same key again gets another certificate")
		}
		p.everywhere(u, http.StatusOK, http.MethodGet, protocol.PathAgentCore, nil)
		p.two.post("/enrollmentRequests/"+id+"/deny", "", object{"reason": "stolen"}, http.StatusOK)
		p.everywhere(u, http.StatusForbidden, http.MethodGet, protocol.PathAgentCore, nil)
	}
}

// byRule are devices at one replica that rules of the other decide about.
func (p *pair) byRule() {
	p.two.put(http.MethodPut, "/enrollmentRules/line", object{"action": "approve", "names": []string{"press-*"}, "serials": true, "ways": []string{"none"}})
	p.two.put(http.MethodPut, "/enrollmentRules/line/serials", object{"list": "GW-1\n"})
	u, k := newUnit(p.one.story, protocol.EnrollRequest{Name: "press-1", Serial: "GW-1"})
	u.enters(k)
	p.everywhere(u, http.StatusOK, http.MethodGet, protocol.PathAgentCore, nil)
	p.two.gone("/enrollmentRules/line")
	u, _ = newUnit(p.one.story, protocol.EnrollRequest{Name: "press-2", Serial: "GW-1"})
	u.waits()
}

// byActivation are two devices for each activation, one at each replica in the same
// moment: one gets in, and is the agent from then on.
func (p *pair) byActivation() {
	type try struct {
		*unit
		secret

		status int
		answer []byte
		err    error
	}
	for i, name := range coreNames(8) {
		var a struct{ ActivationID, ActivationCode string }
		maker := []*lineage{p.one, p.two}[i%2]
		require.NoError(p.t, json.Unmarshal(maker.post("/activations", "", object{"deviceId": name}, http.StatusOK).Body, &a))
		var tries [2]try
		var both sync.WaitGroup
		for j, l := range []*lineage{p.one, p.two} {
			c := &tries[j]
			c.unit, c.secret = newUnit(l.story, protocol.EnrollRequest{ActivationID: a.ActivationID, Code: a.ActivationCode})
			both.Go(func() { c.status, c.answer, c.err = c.try(http.MethodPost, protocol.PathEnroll, c.say) })
		}
		both.Wait()
		in, out := tries[0], tries[1]
		if out.status == http.StatusOK {
			in, out = out, in
		}
		require.NoError(p.t, in.err)
		require.NoError(p.t, out.err)
		require.Equal(p.t, []int{http.StatusOK, http.StatusForbidden}, []int{in.status, out.status}, "%s, %s", in.answer, out.answer)
		p.everywhere(out.unit, http.StatusForbidden, http.MethodPost, protocol.PathEnroll, out.say)
		require.NoError(p.t, json.Unmarshal(in.answer, &in.got))
		in.cert = in.with(p.t, in.got.CertificatePEM)
		p.everywhere(in.unit, http.StatusOK, http.MethodGet, protocol.PathAgentCore, nil)
		p.agents = append(p.agents, in.at(p.one))
	}
}

// renewed is an agent whose certificate is renewed at one replica and confirmed at
// the other.
func (p *pair) renewed() {
	u, old, k := p.agents[1], p.agents[1].cert, newSecret(p.one.story)
	var first, again protocol.CSRResponse
	u.must(http.MethodPost, protocol.PathCertificate, protocol.CSRRequest{CSR: k.csr}, &first)
	u.at(p.two).must(http.MethodPost, protocol.PathCertificate, protocol.CSRRequest{CSR: k.csr}, &again)
	assert.Equal(p.t, first, again)
	u.cert = k.with(p.t, first.CertificatePEM)
	u.at(p.two).must(http.MethodPost, protocol.PathCertificateConfirm, struct{}{}, nil)
	p.everywhere(u, http.StatusOK, http.MethodGet, protocol.PathAgentCore, nil)
	p.everywhere(&unit{cert: old}, http.StatusForbidden, http.MethodGet, protocol.PathAgentCore, nil)
}

// released is a release that is stopped by what agents say at both replicas, and one
// that they all fail with at once.
func (p *pair) released() {
	everybody := func(share, most int) object {
		return object{"percentage": share, "spreadSeconds": 0, "maxFailures": most}
	}
	offered := func(u *unit) string {
		if a := u.assignment(amd, "1.0.0", protocol.AgentUpdate{}).Agent; a != nil {
			return a.Version
		}
		return ""
	}
	failed := func(version string) string {
		return protocol.AssignmentQuery{Platform: amd, Agent: protocol.AgentAbout{
			Version: "1.0.0", Update: protocol.AgentUpdate{Version: version, State: protocol.UpdateFailed, Reason: "as it went"},
		}}.Path()
	}
	stands := func(version, state string, failures int) {
		p.t.Helper()
		p.both(func(l *lineage) {
			var r struct {
				State    string
				Failures int
			}
			l.get("/agentReleases/"+version, &r)
			assert.Equal(p.t, fmt.Sprint(state, failures), fmt.Sprint(r.State, r.Failures), version)
		})
	}

	// Whoever is offered it is offered it at both, at once.
	p.one.upload("1.1.0")
	p.two.post("/agentReleases/1.1.0/activate", "", everybody(50, 4), http.StatusOK)
	some := 0
	for _, u := range p.agents {
		here := offered(u)
		assert.Equal(p.t, here, offered(u.at(p.two)))
		if here != "" {
			some++
		}
	}
	assert.Positive(p.t, some)
	assert.Less(p.t, some, len(p.agents))
	p.one.post("/agentReleases/1.1.0/activate", "", everybody(100, 4), http.StatusOK)
	for i, u := range p.agents[:3] {
		o := u.at(p.two).assignment(amd, "1.0.0", protocol.AgentUpdate{}).Agent
		if assert.NotNil(p.t, o) {
			p.everywhere(u, http.StatusOK, http.MethodGet, protocol.PathReleases+o.Digest, nil)
		}
		u.at([]*lineage{p.one, p.two}[i%2]).must(http.MethodGet, failed("1.1.0"), nil, nil)
		p.everywhere(u, http.StatusOK, http.MethodGet, failed("1.1.0"), nil) // said again, it counts once
	}
	stands("1.1.0", "active", 3)
	p.agents[3].at(p.two).must(http.MethodGet, failed("1.1.0"), nil, nil)
	for _, u := range p.agents {
		assert.Empty(p.t, offered(u), "at the other one")
	}
	stands("1.1.0", "stopped", 4)

	p.two.upload("1.2.0")
	p.one.post("/agentReleases/1.2.0/activate", "", everybody(100, 4), http.StatusOK)
	var all sync.WaitGroup
	statuses := make([]int, len(p.agents))
	for i, u := range p.agents {
		all.Go(func() {
			statuses[i], _, _ = u.at([]*lineage{p.one, p.two}[i%2]).try(http.MethodGet, failed("1.2.0"), nil)
		})
	}
	all.Wait()
	for i, status := range statuses {
		assert.Equal(p.t, http.StatusOK, status, i)
	}
	stands("1.2.0", "stopped", len(p.agents))
	for _, u := range p.agents {
		assert.Empty(p.t, offered(u))
		assert.Empty(p.t, offered(u.at(p.two)))
	}
}

// killed is what agents began with a replica that is killed, and end with the other.
func (p *pair) killed() {
	late, old, k := p.agents[2], p.agents[2].cert, newSecret(p.one.story)
	var out protocol.CSRResponse
	late.must(http.MethodPost, protocol.PathCertificate, protocol.CSRRequest{CSR: k.csr}, &out)
	waits, key := newUnit(p.one.story, protocol.EnrollRequest{Name: "unit-3"})
	id := waits.waits()
	expired, next := p.one.units["unit-1"], newSecret(p.one.story)
	before := expired.cert
	expired.cert = nil
	var n protocol.RenewNonce
	expired.must(http.MethodGet, protocol.PathCertificateExpired, nil, &n)
	p.one.w.Kill9(p.t)

	late = late.at(p.two)
	late.confirm(k.with(p.t, out.CertificatePEM), old)

	waits = waits.at(p.two)
	p.two.let(id, object{})
	waits.enters(key)

	r := protocol.ExpiredRequest{CertificatePEM: p.one.oldPEM, CSR: next.csr, Nonce: n.Nonce}
	var err error
	r.Signature, err = p.one.oldKey.Sign(rand.Reader, r.Digest(), nil)
	require.NoError(p.t, err)
	expired = expired.at(p.two)
	expired.must(http.MethodPost, protocol.PathCertificateExpired, r, &out)
	expired.confirm(next.with(p.t, out.CertificatePEM), before)
}
