package enrollment_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// lives are some devices, two of which want the same name, on their way through
// asking, approval, denial, revocation, and rules that change meanwhile.
type lives struct {
	t *testing.T
	*kit

	devices []*device
	got     map[*device]string // the certificate that it holds
	rule    enrollment.Action  // of the one rule; empty: there is none
}

const mostWaiting = 3

func newLives(t *testing.T) *lives {
	k := newKit(t, func(c *enrollment.Config) { c.MaxWaiting, c.MaxFromOne = mostWaiting, 2 })
	l := &lives{t: t, kit: k, got: map[*device]string{}}
	for i, name := range []string{"gw", "gw", "new", "new-2", "free"} {
		d := k.device(name)
		d.Address = d.Address.Next()
		if i%2 == 0 {
			d.Address = d.Address.Next()
		}
		l.devices = append(l.devices, d)
	}
	return l
}

func (l *lives) any(r *rapid.T) *device { return rapid.SampledFrom(l.devices).Draw(r, "device") }

func (l *lives) id(d *device) string {
	c, err := pki.ParseCSR([]byte(d.csr))
	require.NoError(l.t, err)
	return pki.ID(c.RawSubjectPublicKeyInfo)
}

func (l *lives) request(d *device) (enrollment.Request, bool) {
	q, err := l.Request(l.t.Context(), l.id(d))
	if errors.Is(err, fault.NotFound) {
		return q, false
	}
	require.NoError(l.t, err)
	return q, true
}

// active reports whether the certificate that the device holds may connect.
func (l *lives) active(d *device) bool {
	if l.got[d] == "" {
		return false
	}
	certs, err := pki.ParseCerts([]byte(l.got[d]))
	require.NoError(l.t, err)
	_, err = l.cloud.Registry.Identify(l.t.Context(), certs[0])
	return err == nil
}

func (l *lives) ask(r *rapid.T) {
	d := l.any(r)
	before, known := l.request(d)
	_, agent := l.hasAgent(d.Name)
	out, err := d.ask()
	after, _ := l.request(d)
	switch {
	case errors.Is(err, fault.Denied):
		if known && before.Status == enrollment.Denied {
			return
		}
		require.Equal(r, enrollment.ActionDeny, l.rule, "nobody denied it")
	case errors.Is(err, fault.Exhausted):
		require.False(r, known && before.Queued != "", "it has a place already")
	default:
		require.NoError(r, err)
		if out.Pending != nil {
			require.Contains(r, []enrollment.Status{enrollment.Waiting, enrollment.Approved}, after.Status)
			return
		}
		if l.got[d] == out.CertificatePEM {
			return
		}
		l.got[d] = out.CertificatePEM
		require.NotNil(r, after.Decision)
		require.Equal(r, enrollment.Enrolled, after.Status)
		if after.Decision.Rule != "" {
			require.False(r, agent, "a rule gives nobody's place away")
		} else {
			require.Equal(r, "ada", after.Decision.By)
		}
	}
}

func (l *lives) hasAgent(name string) (cloud.Thing, bool) {
	t, err := l.cloud.Thing(l.t.Context(), protocol.AgentThing(name))
	return t, err == nil
}

func (l *lives) decide(r *rapid.T) {
	d := l.any(r)
	before, known := l.request(d)
	var after enrollment.Request
	var err error
	approve := rapid.Bool().Draw(r, "approve")
	if approve {
		how := enrollment.Creation{ProvisioningTemplate: rapid.SampledFrom([]string{"", "broken", "refused"}).Draw(r, "template")}
		after, err = l.Approve(l.t.Context(), l.id(d), enrollment.Approval{By: "ada", Create: how})
	} else {
		after, err = l.Deny(l.t.Context(), l.id(d), "ada", "")
	}
	if !known {
		require.ErrorIs(r, err, fault.NotFound)
		return
	}
	if errors.Is(err, fault.Exhausted) { // it cannot be created, and there is no place to wait
		return
	}
	require.NoError(r, err)
	if !approve {
		require.Equal(r, enrollment.Denied, after.Status)
		require.False(r, before.Status == enrollment.Enrolled && l.active(d), "denied is revoked")
	}
}

func (l *lives) changeRule(r *rapid.T) {
	l.rule = rapid.SampledFrom([]enrollment.Action{"", enrollment.ActionApprove, enrollment.ActionDeny, enrollment.ActionWait}).Draw(r, "action")
	if l.rule == "" {
		if err := l.DeleteRule(l.t.Context(), "rule", "ada", 0); !errors.Is(err, fault.NotFound) {
			require.NoError(r, err)
		}
		return
	}
	_, err := l.PutRule(l.t.Context(), "rule", enrollment.NewRule{Action: l.rule, Names: []string{"*"}}, "ada", 0)
	require.NoError(r, err)
}

func (l *lives) check(r *rapid.T) {
	ctx := l.t.Context()
	// What counts as waiting waits.
	all, _, err := l.Requests(ctx, enrollment.RequestFilter{}, "", 100)
	require.NoError(r, err)
	n, from := 0, map[string]int{}
	for _, q := range all {
		require.Equal(r, q.Status == enrollment.Waiting, q.Queued != "", "%+v", q)
		if q.Queued != "" {
			n++
			from[q.Queued]++
		}
		require.False(r, q.Revoke, "nothing is left to revoke")
	}
	require.LessOrEqual(r, n, mostWaiting)
	counted := 0
	require.NoError(r, state.All(ctx, l.store, state.Root+"enrollment/waiting", func(key string, rec state.Record[struct{ Count int }]) error {
		if !strings.Contains(key, "waiting-from") {
			counted = rec.Value.Count
			return nil
		}
		for a, has := range from {
			if strings.HasSuffix(key, a) {
				require.Equal(r, has, rec.Value.Count)
			}
		}
		return nil
	}))
	require.Equal(r, n, counted)
	// Each name has at most one agent that may connect, and who holds a certificate
	// that may has a request that is enrolled.
	in := map[string]int{}
	for _, d := range l.devices {
		if !l.active(d) {
			continue
		}
		in[d.Name]++
		if q, known := l.request(d); known {
			require.Equal(r, enrollment.Enrolled, q.Status, d.Name)
		}
	}
	for name, n := range in {
		require.Equal(r, 1, n, name)
	}
}

func TestTheLifeOfARequest(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		l := newLives(t)
		r.Repeat(map[string]func(*rapid.T){
			"ask":    l.ask,
			"decide": l.decide,
			"rule":   l.changeRule,
			"work":   func(*rapid.T) { l.work() },
			"forget": func(r *rapid.T) { require.NoError(r, l.DeleteRequest(t.Context(), l.id(l.any(r)), "ada")) },
			"week": func(r *rapid.T) {
				l.now.Add(int64(8 * 24 * time.Hour / time.Second))
				require.NoError(r, l.Sweep(t.Context()))
			},
			"": l.check,
		})
	})
}
