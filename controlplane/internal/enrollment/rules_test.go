package enrollment_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestWhomARuleIsAbout(t *testing.T) {
	const approve, deny, wait = enrollment.ActionApprove, enrollment.ActionDeny, enrollment.ActionWait
	all := []string{"*"}
	for _, c := range []struct {
		name  string
		rules []enrollment.NewRule
		edit  func(*device)
		want  enrollment.Status // of the request; empty: refused and not kept
	}{
		{name: "no rule", want: enrollment.Waiting},
		{name: "a glob", rules: []enrollment.NewRule{{Action: approve, Names: []string{"x", "g?"}}}, want: enrollment.Enrolled},
		{name: "another name", rules: []enrollment.NewRule{{Action: approve, Names: []string{"gw-*"}}}, want: enrollment.Waiting},
		{name: "an expression for the whole name", rules: []enrollment.NewRule{{Action: approve, Names: []string{"re:g|w"}}}, want: enrollment.Waiting},
		{name: "an expression", rules: []enrollment.NewRule{{Action: approve, Names: []string{"re:[a-g]w"}}}, want: enrollment.Enrolled},
		{name: "its network", rules: []enrollment.NewRule{{Action: approve, Networks: []string{"10.0.0.0/8", "192.0.2.0/24"}}}, want: enrollment.Enrolled},
		{name: "its network, of version 6", rules: []enrollment.NewRule{{Action: approve, Networks: []string{"2001:db8::/32"}}}, edit: func(d *device) { d.Address = netip.MustParseAddr("2001:db8::7") }, want: enrollment.Enrolled},
		{name: "another network", rules: []enrollment.NewRule{{Action: approve, Networks: []string{"198.51.100.0/24"}}}, want: enrollment.Waiting},
		{name: "an address that nobody knows", rules: []enrollment.NewRule{{Action: approve, Networks: []string{"0.0.0.0/0"}}}, edit: func(d *device) { d.Address = netip.Addr{} }, want: enrollment.Waiting},
		{name: "its role", rules: []enrollment.NewRule{{Action: approve, Names: all, Roles: []protocol.Role{protocol.RoleCore}}}, want: enrollment.Enrolled},
		{name: "another role", rules: []enrollment.NewRule{{Action: approve, Names: all, Roles: []protocol.Role{protocol.RoleClient}}}, want: enrollment.Waiting},
		{name: "its way", rules: []enrollment.NewRule{{Action: approve, Names: all, Ways: []enrollment.Way{enrollment.WayClaim}}}, edit: func(d *device) { d.Certificate = "claim" }, want: enrollment.Enrolled},
		{name: "another way", rules: []enrollment.NewRule{{Action: approve, Names: all, Ways: []enrollment.Way{enrollment.WayClaim}}}, want: enrollment.Waiting},
		{name: "not all of the conditions", rules: []enrollment.NewRule{{Action: approve, Names: all, Networks: []string{"10.0.0.0/8"}}}, want: enrollment.Waiting},
		{name: "the first decides", rules: []enrollment.NewRule{{Action: deny, Names: all, Priority: 2}, {Action: approve, Names: all, Priority: 1}}, want: enrollment.Enrolled},
		{name: "waiting ends the search", rules: []enrollment.NewRule{{Action: wait, Names: all, Priority: 1}, {Action: approve, Names: all, Priority: 2}}, want: enrollment.Waiting},
		{name: "denied", rules: []enrollment.NewRule{{Action: deny, Names: all}}},
		{name: "everybody without a name", rules: []enrollment.NewRule{{Action: approve, Networks: []string{"0.0.0.0/0"}}}, edit: func(d *device) { d.Name = "" }, want: enrollment.Waiting},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t)
			for i, r := range c.rules {
				_, err := k.PutRule(t.Context(), "rule-"+string(rune('a'+i)), r, "ada", 0)
				require.NoError(t, err)
			}
			d := k.device("gw")
			if c.edit != nil {
				c.edit(d)
			}
			_, err := d.ask()
			list, _, lerr := k.Requests(t.Context(), enrollment.RequestFilter{}, "", 10)
			require.NoError(t, lerr)
			if c.want == "" {
				require.ErrorIs(t, err, fault.Denied)
				assert.Empty(t, list, "whoever a rule denies leaves nothing")
				return
			}
			require.NoError(t, err)
			require.Len(t, list, 1)
			assert.Equal(t, c.want, list[0].Status, list[0].Message)
		})
	}
}

func TestNoRuleGivesAnAgentsPlaceAway(t *testing.T) {
	k := newKit(t)
	_, err := k.PutRule(t.Context(), "all", enrollment.NewRule{Action: enrollment.ActionApprove, Names: []string{"*"}}, "ada", 0)
	require.NoError(t, err)
	first, second := k.device("gw"), k.device("gw")
	first.enters()
	id := second.waits()
	r, err := k.Request(t.Context(), id)
	require.NoError(t, err)
	assert.Contains(t, r.Message, "gw has an agent already")
	_, err = k.Approve(t.Context(), id, enrollment.Approval{By: "ada"})
	require.NoError(t, err)
	second.enters()
	assert.Contains(t, first.waitsFor(), "another device took its place")
}

func TestWhoeverDecidesIsToldThatAnotherDeviceIsThere(t *testing.T) {
	for name, rule := range map[string]enrollment.NewRule{
		"no rule": {Action: enrollment.ActionDeny, Names: []string{"other"}}, "a rule that waits": {Action: enrollment.ActionWait, Names: []string{"*"}},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			_, err := k.PutRule(t.Context(), "r", rule, "ada", 0)
			require.NoError(t, err)
			first, second := k.device("gw"), k.device("gw")
			assert.Empty(t, first.waitsFor())
			_, err = k.Approve(t.Context(), first.waits(), enrollment.Approval{By: "ada"})
			require.NoError(t, err)
			first.enters()
			assert.Equal(t, "gw has an agent already; approving this gives its place to another device", second.waitsFor())
			id := second.waits()
			_, err = k.Approve(t.Context(), id, enrollment.Approval{By: "ada"})
			require.NoError(t, err)
			second.enters()
			r, err := k.Request(t.Context(), id)
			require.NoError(t, err)
			assert.Empty(t, r.Message)
		})
	}
}

func (d *device) waitsFor() string {
	d.k.t.Helper()
	r, err := d.k.Request(d.k.t.Context(), d.waits())
	require.NoError(d.k.t, err)
	return r.Message
}

func TestSerialsGiveDevicesTheirNames(t *testing.T) {
	k := newKit(t)
	_, err := k.PutSerials(t.Context(), "none", nil, "ada", 0)
	require.ErrorIs(t, err, fault.NotFound)
	_, err = k.PutRule(t.Context(), "s", enrollment.NewRule{Action: enrollment.ActionApprove, Serials: true}, "ada", 0)
	require.NoError(t, err)
	d := k.device("")
	d.Serial = "GW-1"
	d.waits()
	_, err = k.PutSerials(t.Context(), "s", []byte("GW-1,gw\n"), "ada", 7)
	require.ErrorIs(t, err, fault.Stale)
	r, err := k.PutSerials(t.Context(), "s", []byte("\ufeff# a list\r\n\r\n GW-1 , gw \nGW-2\n"), "ada", 1)
	require.NoError(t, err)
	assert.Equal(t, 2, r.SerialCount)
	assert.Equal(t, "gw", d.enters().Core)
	liar := k.device("other")
	liar.Serial = "GW-1"
	liar.waits()

	for text, says := range map[string]string{
		",gw":                                   "line 1: has no serial",
		"a\nb\na":                               "line 3: has the serial",
		"a,gw\nb,gw":                            "line 2: has the name",
		"a,g w":                                 "line 1:",
		"a,gw:agent":                            "line 1:",
		"a\x00":                                 "line 1:",
		strings.Repeat("x", 129):                "line 1:",
		strings.Repeat("x", 70_000):             "longer than",
		strings.Repeat("x", 9<<20):              "at most",
		strings.Repeat("0123456789abcdef\n", 2): "line 2",
	} {
		_, err := k.PutSerials(t.Context(), "s", []byte(text), "ada", 0)
		require.Error(t, err)
		assert.Contains(t, fault.Message(err), says)
	}
	again, err := k.Rule(t.Context(), "s")
	require.NoError(t, err)
	assert.Equal(t, r, again, "a list that is refused changes nothing")
}

func TestARuleThatCannotBe(t *testing.T) {
	k := newKit(t)
	const approve = enrollment.ActionApprove
	many := strings.Split(strings.Repeat("x ", 101), " ")
	for says, r := range map[string]enrollment.NewRule{
		"action":               {Action: "let in", Names: []string{"*"}},
		"priority":             {Action: approve, Names: []string{"*"}, Priority: -1},
		"names[1]":             {Action: approve, Names: []string{"a", "["}},
		"names[0]":             {Action: approve, Names: []string{"re:("}},
		"names: has":           {Action: approve, Names: many},
		"networks: has":        {Action: approve, Networks: many},
		"networks[0]":          {Action: approve, Networks: []string{"10.0.0.1/8"}},
		"roles[0]":             {Action: approve, Names: []string{"*"}, Roles: []protocol.Role{"king"}},
		"ways[0]":              {Action: approve, Names: []string{"*"}, Ways: []enrollment.Way{enrollment.WayActivation}},
		"the name * is every":  {Action: approve, Ways: []enrollment.Way{enrollment.WayNone}},
		"provisioningTemplate": {Action: approve, Names: []string{"*"}, Create: enrollment.Creation{ProvisioningTemplate: "a/b"}},
		"create.coreName":      {Action: approve, Names: []string{"*"}, Create: enrollment.Creation{Core: "a b"}},
		"description":          {Action: approve, Names: []string{"*"}, Description: "a\nb"},
	} {
		_, err := k.PutRule(t.Context(), "rule", r, "ada", 0)
		require.ErrorIs(t, err, fault.Invalid)
		assert.Contains(t, fault.Message(err), says)
	}
	_, err := k.PutRule(t.Context(), "../x", enrollment.NewRule{Action: enrollment.ActionWait}, "ada", 0)
	require.ErrorIs(t, err, fault.Invalid)
	r, err := k.PutRule(t.Context(), "rule", enrollment.NewRule{Action: enrollment.ActionWait}, "ada", 0)
	require.NoError(t, err)
	_, err = k.PutRule(t.Context(), "rule", r.NewRule, "ada", 7)
	require.ErrorIs(t, err, fault.Stale)
	require.ErrorIs(t, k.DeleteRule(t.Context(), "rule", "ada", 7), fault.Stale)
	require.NoError(t, k.DeleteRule(t.Context(), "rule", "ada", 1))
	require.ErrorIs(t, k.DeleteRule(t.Context(), "rule", "ada", 0), fault.NotFound)
}

func TestARuleThatCannotBeCarriedOutIsTriedAgainWhenItChanges(t *testing.T) {
	k := newKit(t)
	put := func(template string) {
		_, err := k.PutRule(t.Context(), "rule", enrollment.NewRule{
			Action: enrollment.ActionApprove, Names: []string{"*"}, Create: enrollment.Creation{ProvisioningTemplate: template},
		}, "ada", 0)
		require.NoError(t, err)
	}
	put("broken")
	d := k.device("new")
	d.waits()
	assert.Contains(t, d.waitsFor(), "Failed provisioning: broken")
	for range 3 {
		d.waits()
	}
	assert.Len(t, k.tasks, 1, "not tried for ever")
	put("refused")
	assert.Contains(t, d.waitsFor(), "provisioningTemplate: is refused")
	put("good")
	d.waits()
	k.work()
	d.enters()
}

func TestWhatADeviceSaysWrong(t *testing.T) {
	k := newKit(t)
	for says, q := range map[string]protocol.EnrollRequest{
		"role":                  {Role: "king"},
		"name: ":                {Name: "a b"},
		"at most 122":           {Name: strings.Repeat("x", 123)},
		"is a name of agents":   {Name: "gw:agent"},
		"serial: has 129":       {Serial: strings.Repeat("x", 129)},
		"serial: holds control": {Serial: "a\x1b[2J"},
		"platform":              {Platform: strings.Repeat("x", 65)},
	} {
		d := k.device("")
		d.EnrollRequest = q
		_, err := d.ask()
		require.ErrorIs(t, err, fault.Invalid)
		assert.Contains(t, fault.Message(err), says)
	}
	d := k.device("gw")
	d.waits()
	d.Name = "other"
	_, err := d.ask()
	require.ErrorIs(t, err, fault.Exists, "what is approved is what was seen")
	assert.Contains(t, fault.Message(err), `asked as "gw" before and now asks as "other"`)
	d.Name, d.Role = "gw", protocol.RoleClient
	_, err = d.ask()
	require.ErrorIs(t, err, fault.Exists)
}

func FuzzWhateverADeviceSends(f *testing.F) {
	f.Add([]byte(`{"name":"gw","role":"core","serial":"GW-1","platform":"linux/arm64"}`), "", "")
	f.Add([]byte(`{"activationId":"../request/x","code":"y"}`), "thing", "")
	f.Add([]byte(`{"name":"gw:agent","role":"client"}`), "", "claim")
	f.Fuzz(func(t *testing.T, body []byte, thing, certificate string) {
		k := newKit(t)
		var q protocol.EnrollRequest
		if json.Unmarshal(body, &q) != nil {
			return
		}
		if len(q.CSR) == 0 {
			q.CSR = csr(t)
		}
		if thing != "" {
			certificate = "of a thing"
		}
		out, err := k.Enroll(t.Context(), enrollment.Caller{Thing: thing, Certificate: certificate}, q)
		if err != nil {
			require.NotEmpty(t, fault.KindOf(err), "%v", err)
			return
		}
		require.True(t, out.Pending != nil || thing == "gw", "nobody is let in who shows nothing")
	})
}

func FuzzLists(f *testing.F) {
	f.Add([]byte("GW-1\nGW-2,gw-2\n# x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := enrollment.ParseSerials(text)
		if err != nil {
			require.NotEmpty(t, fault.Message(err))
			return
		}
		for serial, name := range got {
			require.NotEmpty(t, serial)
			again, err := enrollment.ParseSerials([]byte(serial + "," + name + "\n"))
			require.NoError(t, err)
			require.Equal(t, map[string]string{serial: name}, again)
		}
	})
}
