package enrollment_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestOfTwoThatARuleLetsInUnderOneNewNameOnlyOneGetsIn(t *testing.T) {
	k := newKit(t)
	_, err := k.PutRule(t.Context(), "all", enrollment.NewRule{Action: enrollment.ActionApprove, Names: []string{"new-*"}}, "ada", 0)
	require.NoError(t, err)
	first, second := k.device("new-1"), k.device("new-1")
	first.waits()
	second.waits() // approved as well: neither has an agent yet
	k.work()
	got := first.enters()
	assert.Contains(t, second.waitsFor(), "another device got in as new-1 since")
	assert.Equal(t, got, first.enters(), "the first one stays in")

	_, err = k.Approve(t.Context(), second.waits(), enrollment.Approval{By: "ada"})
	require.NoError(t, err)
	second.enters()
}

func TestAnApprovalIsAboutTheAgentThatWasThere(t *testing.T) {
	k := newKit(t)
	late := k.device("gw")
	id := late.waits()
	_, err := k.Approve(t.Context(), id, enrollment.Approval{By: "ada"})
	require.NoError(t, err)
	k.now.Add(60)
	a, code := k.activate(enrollment.NewActivation{DeviceID: "gw"})
	_, err = k.enroll(a, code, csr(t))
	require.NoError(t, err)
	assert.Contains(t, late.waitsFor(), "another device got in as gw since", "whoever approved it did not see that one")
	k.now.Add(60)
	_, err = k.Approve(t.Context(), id, enrollment.Approval{By: "ada"})
	require.NoError(t, err)
	late.enters()
}

func TestOneAgentCannotCollectCertificates(t *testing.T) {
	k, old := renewing(t, func(c *enrollment.Config) { c.Certificates, _ = c.Things.(enrollment.Certificates) })
	for range 150 { // more than a thing may have
		_, csr := request(t)
		_, err := k.Renew(t.Context(), gw, old.leaf, csr)
		require.NoError(t, err)
	}
	active := 0
	for _, status := range k.statuses(t) {
		if status == cloud.Active {
			active++
		}
	}
	assert.LessOrEqual(t, active, 10)
	key, csr := request(t)
	out, err := k.Renew(t.Context(), gw, old.leaf, csr)
	require.NoError(t, err)
	last := owned(t, key, out.CertificatePEM)
	require.NoError(t, k.ConfirmRenewal(t.Context(), gw, last.id))
	assert.Equal(t, cloud.Active, k.statuses(t)[last.id])
	assert.NotEqual(t, cloud.Active, k.statuses(t)[old.id])
}

func TestADeletedDeviceLeavesNoRenewal(t *testing.T) {
	k, old := renewing(t)
	_, csr := request(t)
	_, err := k.Renew(t.Context(), gw, old.leaf, csr)
	require.NoError(t, err)
	require.NoError(t, k.Forget(t.Context(), "gw"))
	page, err := k.store.List(t.Context(), "/ggfleet/v1/enrollment/renewal/", "", 10)
	require.NoError(t, err)
	assert.Empty(t, page.Entries)
}

func TestNoTextPassesForAnother(t *testing.T) {
	k := newKit(t)
	for what, serial := range map[string]string{
		"turned by a bidi override": "GW-\u202e1402", "with a space of no width": "GW\u200b-1", "with a mark of the byte order": "\ufeffGW-1",
		"with a newline": "GW-1\nGW-2", "with an escape sequence": "\x1b[2JGW", "of a private character": "\ue000",
	} {
		d := k.device("gw")
		d.Serial = serial
		_, err := d.ask()
		require.ErrorIs(t, err, fault.Invalid, what)
	}
	for _, name := range []string{"gw\u0430", "GW\u200b", "gw/../gw", "gw:agent", "gw%2f", "ＧＷ"} {
		_, err := k.device(name).ask()
		require.ErrorIs(t, err, fault.Invalid, name)
	}
	_, err := k.PutRule(t.Context(), "r", enrollment.NewRule{Action: enrollment.ActionApprove, Names: []string{"gw"}}, "ada", 0)
	require.NoError(t, err)
	k.device("GW").waits() // another name than gw
}

func TestAnExpressionIsAboutTheWholeName(t *testing.T) {
	k := newKit(t)
	put := func(pattern string) error {
		_, err := k.PutRule(t.Context(), "r", enrollment.NewRule{Action: enrollment.ActionApprove, Names: []string{pattern}}, "ada", 0)
		return err
	}
	for _, bad := range []string{"re:gw)|(?:other", "re:(", "re:(?:(?:(?:a{100}){100}){100})", "re:a{1001}", "re:" + strings.Repeat("a", 300)} {
		require.ErrorIs(t, put(bad), fault.Invalid, bad)
	}
	require.NoError(t, put("re:g|w"))
	k.device("gw").waits()
	require.NoError(t, put("re:(?i)GW"))
	assert.Equal(t, protocol.AgentThing("gw"), k.device("gw").enters().AgentThing)
}
