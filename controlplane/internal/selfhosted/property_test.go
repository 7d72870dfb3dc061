package selfhosted_test

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Whatever is registered, associated, moved, withdrawn, retired, reported and
// deleted in whatever order, whatever comes in between two commits and wherever
// the process dies: nothing is left of a thing that is gone, both sides of every
// fact agree, and what a device gets is always newer than what it had before,
// also under a name that was deleted.
func TestNothingIsLeftOfWhatIsGone(t *testing.T) {
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		store := memory.New()
		p := &world{World: selfhostedtest.New(t, store), store: store, t: t, public: key.Public(), newest: map[string]jobs.Execution{}}
		store.FailCommit = p.between
		acts := p.acts()
		t.Repeat(map[string]func(*rapid.T){
			"act": func(t *rapid.T) {
				p.try(t, acts)
				p.check()
			},
			"interrupted act": func(t *rapid.T) {
				p.after = rapid.IntRange(1, 3).Draw(t, "commits")
				if p.dies = rapid.Bool().Draw(t, "dies"); !p.dies {
					p.meanwhile = func() { p.try(t, acts) }
				}
				p.try(t, acts)
				p.after = 0
				p.check()
			},
		})
		p.settled()
		for _, n := range things {
			p.delete(n, cloud.Deprovision{Certificates: true, Policies: true})
		}
		for _, g := range groups {
			require.NoError(t, p.Retire(t.Context(), g))
		}
		p.drive()
		require.NoError(t, p.Pass(t.Context(), time.Hour))
		for _, e := range p.dump() {
			for _, gone := range []string{"greengrass/rollout/", "iot/thing/", "iot/member/", "jobs/execution/", "jobs/latest/", "jobs/deadline/", "greengrass/core/", "greengrass/status/", "greengrass/assoc"} {
				require.False(t, strings.HasPrefix(e.Key, state.Root+gone), "%s is left", e.Key)
			}
		}
	})
}

var (
	things    = []string{"a", "b", "c"}
	groups    = []string{"g", "h"}
	errKilled = errors.New("killed")
)

type world struct {
	*selfhostedtest.World
	store  *memory.Store
	t      *rapid.T
	public crypto.PublicKey

	after     int // commits until something happens; 0: nothing does
	dies      bool
	meanwhile func()
	newest    map[string]jobs.Execution // the newest document that each device ever saw
}

// between is asked before each commit.
func (p *world) between(*state.Batch) error {
	if p.after == 0 {
		return nil
	}
	if p.after--; p.after > 0 {
		return nil
	}
	if p.dies {
		return errKilled
	}
	p.meanwhile()
	return nil
}

// try does one thing. What cannot be in this state is no failure, as long as it
// says so.
func (p *world) try(t *rapid.T, acts map[string]func(*rapid.T) error) {
	name := rapid.SampledFrom(slices.Sorted(keys(acts))).Draw(t, "what")
	err := acts[name](t)
	_, refused := errors.AsType[*jobs.RefusedError](err)
	ok := err == nil || refused || errors.Is(err, errKilled) || errors.Is(err, fault.NotFound) || errors.Is(err, fault.Conflict) || errors.Is(err, fault.Exists)
	require.True(t, ok || errors.Is(err, fault.Invalid), "%s: %v", name, err)
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (p *world) acts() map[string]func(*rapid.T) error {
	ctx := context.Background()
	commit := func(b *state.Batch) error { return p.Commit(ctx, b) }
	thing := func(t *rapid.T) string { return rapid.SampledFrom(things).Draw(t, "thing") }
	group := func(t *rapid.T) string { return rapid.SampledFrom(groups).Draw(t, "group") }
	pending := func(t *rapid.T) (jobs.Execution, bool) {
		list, err := p.Jobs.Pending(ctx, thing(t))
		require.NoError(t, err)
		if len(list) == 0 {
			return jobs.Execution{}, false
		}
		return rapid.SampledFrom(list).Draw(t, "execution"), true
	}
	return map[string]func(*rapid.T) error{
		"register": func(t *rapid.T) error {
			r := cloud.Registration{Thing: thing(t), Policies: []cloud.Policy{{Name: selfhostedtest.Policy}, {Name: rapid.SampledFrom([]string{"own", "shared"}).Draw(t, "policy"), Document: nothing}}}
			if ids := p.certificates(); len(ids) > 0 && rapid.Bool().Draw(t, "known certificate") {
				r.CertificateID, r.OverrideStatus = rapid.SampledFrom(ids).Draw(t, "certificate"), cloud.Replace
			} else {
				c, err := p.Issue(ctx, cloud.IssueRequest{Public: p.public, Validity: time.Hour})
				require.NoError(t, err)
				r.Certificate = &c
			}
			return p.Register(ctx, r, commit)
		},
		"ensure": func(t *rapid.T) error {
			g := group(t)
			_, err := p.Ensure(ctx, cloud.GroupDeployment{Group: g, Components: []cloud.DeployComponent{{Name: "com.example.App", Version: "1.0.0"}}}, g)
			return err
		},
		"deploy to a group": func(t *rapid.T) error {
			n := greengrass.NewDeployment{
				Kind: names.TargetThingGroup, Target: group(t), Policies: greengrass.DefaultPolicies(),
				Components: map[string]greengrass.Component{"com.example.App": {Version: "1.0.0"}},
			}
			if rapid.Bool().Draw(t, "aborts") {
				n.JobConfig.Abort = &greengrass.AbortConfig{Criteria: []greengrass.AbortCriterion{{FailureType: "ALL", Action: "CANCEL", Threshold: new(50.0), MinExecuted: 1}}}
			}
			_, err := p.Greengrass.Create(ctx, n)
			return err
		},
		"deploy to a thing": func(t *rapid.T) error {
			_, err := p.Greengrass.Create(ctx, greengrass.NewDeployment{
				Kind: names.TargetThing, Target: thing(t), Policies: greengrass.DefaultPolicies(),
				Components: map[string]greengrass.Component{"com.example.App": {Version: "1.0.0"}},
			})
			return err
		},
		"move": func(t *rapid.T) error {
			m := cloud.Move{Core: thing(t), Join: group(t), Leave: func(string) bool { return true }, Again: rapid.Bool().Draw(t, "again"), TimeoutMinutes: rapid.IntRange(0, 2).Draw(t, "minutes")}
			return p.Move(ctx, m, func(b *state.Batch, _ cloud.Execution) error { return commit(b) })
		},
		"drive": func(*rapid.T) error {
			_, err := p.Greengrass.Drive(ctx)
			return err
		},
		"cancel": func(t *rapid.T) error {
			e, ok := pending(t)
			if !ok {
				return nil
			}
			return p.Greengrass.Cancel(ctx, e.DeploymentID, jobs.Reason{})
		},
		"delete a job": func(t *rapid.T) error {
			e, ok := pending(t)
			if !ok {
				return nil
			}
			if err := p.Greengrass.Cancel(ctx, e.DeploymentID, jobs.Reason{Force: true}); err != nil && !errors.Is(err, fault.Conflict) {
				return err
			}
			return p.Jobs.DeleteJob(ctx, e.JobID)
		},
		"leave": func(t *rapid.T) error { return p.Leave(ctx, thing(t), func(string) bool { return true }) },
		"create a thing": func(t *rapid.T) error {
			_, err := p.Registry.CreateThing(ctx, iot.NewThing{Name: thing(t)})
			return err
		},
		"remove a thing": func(t *rapid.T) error { return p.Greengrass.RemoveThing(ctx, thing(t), nil) },
		"regroup": func(t *rapid.T) error {
			return p.Greengrass.Regroup(ctx, thing(t), rapid.SliceOfDistinct(rapid.SampledFrom(groups), rapid.ID).Draw(t, "left"), rapid.SliceOfDistinct(rapid.SampledFrom(groups), rapid.ID).Draw(t, "joined"))
		},
		"remove a group":  func(t *rapid.T) error { return p.Greengrass.RemoveGroup(ctx, group(t), nil) },
		"resume removals": func(*rapid.T) error { return p.Greengrass.ResumeRemovals(ctx) },
		"withdraw": func(t *rapid.T) error {
			e, ok := pending(t)
			if !ok {
				return nil
			}
			return p.Withdraw(ctx, cloud.Execution{Core: e.Thing, JobID: e.JobID, Number: e.Number}, func(b *state.Batch, _ bool) error { return commit(b) })
		},
		"report": func(t *rapid.T) error {
			e, ok := pending(t)
			if !ok {
				return nil
			}
			return p.Finish(ctx, e.Thing, e.JobID, rapid.SampledFrom([]string{"IN_PROGRESS", "SUCCEEDED", "FAILED"}).Draw(t, "status"))
		},
		"appear":       func(t *rapid.T) error { return p.Appear(ctx, thing(t)) },
		"ail":          func(t *rapid.T) error { return p.Ail(ctx, thing(t)) },
		"forget":       func(t *rapid.T) error { return p.ForgetCore(ctx, thing(t)) },
		"associate":    func(t *rapid.T) error { return p.Associate(ctx, thing(t), thing(t), commit) },
		"disassociate": func(t *rapid.T) error { return p.Disassociate(ctx, thing(t), thing(t), commit) },
		"retire":       func(t *rapid.T) error { return p.Retire(ctx, group(t)) },
		"set certificates": func(t *rapid.T) error {
			return p.SetCertificates(ctx, thing(t), rapid.SampledFrom([]cloud.CertificateStatus{cloud.Active, cloud.Inactive}).Draw(t, "status"))
		},
		"delete": func(t *rapid.T) error {
			return p.Deprovision(ctx, thing(t), cloud.Deprovision{Certificates: rapid.Bool().Draw(t, "certificates"), Policies: rapid.Bool().Draw(t, "policies")}, commit)
		},
		"time": func(t *rapid.T) error {
			return p.Pass(ctx, rapid.SampledFrom([]time.Duration{time.Second, 2 * time.Minute}).Draw(t, "time"))
		},
	}
}

const nothing = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`

func (p *world) delete(thing string, o cloud.Deprovision) {
	require.NoError(p.t, p.Deprovision(p.t.Context(), thing, o, func(b *state.Batch) error { return p.Commit(p.t.Context(), b) }))
}

func (p *world) dump() []state.Entry {
	page, err := p.store.List(context.Background(), state.Root, "", 0)
	require.NoError(p.t, err)
	return page.Entries
}

func (p *world) certificates() (ids []string) {
	for _, e := range p.dump() {
		if id, ok := strings.CutPrefix(e.Key, state.Root+"iot/cert/"); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

func (p *world) drive() {
	_, err := p.Greengrass.Drive(p.t.Context())
	require.NoError(p.t, err)
}

// settled holds once all that is due for rollouts was done: every member has what
// its groups have, and nobody waits for anything else.
func (p *world) settled() {
	t, ctx := p.t, p.t.Context()
	p.drive()
	p.drive() // what a criterion ended
	for _, n := range things {
		list, err := p.Jobs.Pending(ctx, n)
		require.NoError(t, err)
		for _, e := range list {
			j, err := p.Jobs.Job(ctx, e.JobID)
			require.NoError(t, err)
			require.False(t, j.Value.Canceled && e.Status == protocol.JobQueued, "%s waits for what was canceled", n)
		}
	}
	for _, g := range groups {
		var now struct{ JobID, Status string }
		for _, e := range p.dump() {
			if e.Key == state.Root+"greengrass/target/thinggroup/"+g {
				now = decode[struct{ JobID, Status string }](t, e)
			}
		}
		if now.Status != string(greengrass.StatusActive) {
			continue
		}
		require.NoError(t, p.Registry.Members(ctx, g, func(n string) error {
			e, ok, err := p.Jobs.Last(ctx, n, now.JobID, names.TargetThingGroup, g)
			require.True(t, ok && e.JobID == now.JobID, "%s lacks the deployment of %s", n, g)
			return err
		}))
	}
}

// check holds after every step.
func (p *world) check() {
	t := p.t
	there, facts, builtIn := map[string]iot.Thing{}, map[string]bool{}, map[string]bool{}
	var certificates []iot.Certificate
	var executions []jobs.Execution
	for _, e := range p.dump() {
		key := strings.TrimPrefix(e.Key, state.Root)
		facts[key] = true
		switch part := strings.Split(key, "/"); {
		case strings.HasPrefix(key, "iot/thing/"):
			there[part[2]] = decode[iot.Thing](t, e)
		case strings.HasPrefix(key, "iot/cert/"):
			certificates = append(certificates, decode[iot.Certificate](t, e))
		case strings.HasPrefix(key, "iot/policy/"):
			builtIn[part[2]] = decode[iot.Policy](t, e).BuiltIn
		case strings.HasPrefix(key, "jobs/execution/"):
			executions = append(executions, decode[jobs.Execution](t, e))
		}
	}
	for _, c := range certificates {
		for _, n := range c.Things {
			require.Contains(t, there[n].Principals, c.ID, "certificate of a thing that does not have it")
		}
		stays := slices.ContainsFunc(c.Things, func(n string) bool { return !there[n].Deleting })
		require.Equal(t, stays && c.Status == cloud.Active, p.Connects(context.Background(), c.PEM) == nil, "certificate of %v that is %s", c.Things, c.Status)
		for _, n := range c.Policies {
			require.True(t, facts["iot/policy/"+n], "policy %s is gone but attached", n)
			require.True(t, builtIn[n] || facts["iot/policy-of/"+n+"/"+c.ID])
		}
	}
	for n, x := range there {
		for _, g := range x.Groups {
			require.True(t, facts["iot/member/"+g+"/"+n] && facts["iot/group/"+g])
		}
	}
	for key := range facts {
		switch part := strings.Split(key, "/"); part[0] + "/" + part[1] {
		case "iot/member":
			require.Contains(t, there[part[3]].Groups, part[2], "member that is not in the group")
		case "iot/policy-of":
			i := slices.IndexFunc(certificates, func(c iot.Certificate) bool { return c.ID == part[3] })
			require.GreaterOrEqual(t, i, 0, "policy of a certificate that is gone")
			require.Contains(t, certificates[i].Policies, part[2])
		case "greengrass/core", "greengrass/status":
			require.Contains(t, there, part[2], "%s is an orphan", key)
		case "greengrass/assoc":
			require.True(t, facts["greengrass/assoc-of/"+part[3]+"/"+part[2]])
			require.Contains(t, there, part[2])
			require.Contains(t, there, part[3])
		case "greengrass/assoc-of":
			require.True(t, facts["greengrass/assoc/"+part[3]+"/"+part[2]])
		}
	}
	for _, e := range executions {
		require.Contains(t, there, e.Thing, "execution of a thing that is gone")
		last := p.newest[e.Thing]
		if e.Stamp > last.Stamp {
			require.GreaterOrEqual(t, e.QueuedAt, last.QueuedAt, "the device would ignore it")
			if e.JobID == last.JobID {
				require.Greater(t, e.QueuedAt, last.QueuedAt, "lite would ignore it")
			}
			p.newest[e.Thing] = e
		}
	}
}

func decode[V any](t *rapid.T, e state.Entry) (v V) {
	require.NoError(t, json.Unmarshal(e.Value, &v))
	return v
}
