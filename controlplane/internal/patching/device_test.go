package patching_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/patching"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestLinksAreFreshAtEachTake(t *testing.T) {
	k := newKit(t)
	k.template("tpl", map[string]string{"config": "${aws:s3:presign:https://acme-artifacts/public/x.yml}"})
	p := k.task(patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl", ExtraVars: map[string]string{
		"certs": "${aws:s3:presign:https://Acme-Artifacts.s3.eu-west-1.amazonaws.com/" + certsZip + "?expiresIn=604800}",
		"two":   "curl ${aws:s3:presign:https://acme-artifacts/public/a} ${aws:s3:presign:https://acme-artifacts/public/b}; ${HOME} $x",
	}})[0]
	first, err := k.Take(k.ctx, "gw-1", p.ID, take("run"))
	require.NoError(t, err)
	at := k.clock().Unix()
	assert.Equal(t, map[string]string{
		"certs":  fmt.Sprintf("https://link/%s?at=%d&for=604800", certsZip, at),
		"config": fmt.Sprintf("https://link/public/x.yml?at=%d&for=3600", at), // W-113: without a query
		"two":    fmt.Sprintf("curl https://link/public/a?at=%d&for=3600 https://link/public/b?at=%[1]d&for=3600; ${HOME} $x", at),
	}, first.ExtraVars)
	k.pass(time.Hour)
	second, err := k.Take(k.ctx, "gw-1", p.ID, take("run"))
	require.NoError(t, err)
	assert.NotEqual(t, first.ExtraVars["certs"], second.ExtraVars["certs"])
	entries, err := k.store.List(k.ctx, "", "", 0)
	require.NoError(t, err)
	for _, e := range entries.Entries {
		assert.NotContains(t, string(e.Value), "https://link/", "%s: links are credentials and never stored", e.Key)
	}

	gone := k.task(patching.NewPatch{DeviceID: "gw-2", PatchTemplateName: "tpl", ExtraVars: map[string]string{"x": "${aws:s3:presign:https://acme-artifacts/public/missing}"}})[0]
	_, err = k.Take(k.ctx, "gw-2", gone.ID, take("run"))
	kind(t, err, fault.Conflict, "over")
	assert.Contains(t, k.patch(gone.ID).StatusMessage, "INVALID_EXTRA_VARS: extraVars.x: object public/missing does not exist")
}

func TestADeviceReachesItsOwnPatchesOnly(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	p := k.task(patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"})[0]
	_, err := k.Take(k.ctx, "gw-2", p.ID, take("run"))
	kind(t, err, fault.NotFound, "does not exist")
	_, err = k.Take(k.ctx, "gw-1", p.ID, take("run"))
	require.NoError(t, err)
	_, _, err = k.Playbook(k.ctx, "gw-2", p.ID)
	kind(t, err, fault.NotFound, "does not exist")
	require.NoError(t, k.Report(k.ctx, "gw-2", p.ID, protocol.PatchResult{Attempt: 1, Run: "run", Success: true}))
	assert.Equal(t, patching.Pending, k.patch(p.ID).Status)
}

func TestW110W111ReportsThatMeanNothingStopNobody(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	p := k.task(patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"})[0]
	_, err := k.Take(k.ctx, "gw-1", p.ID, take("run"))
	require.NoError(t, err)
	for name, r := range map[string]protocol.PatchResult{
		"of another run":     {Attempt: 1, Run: "other", Success: true},
		"of another attempt": {Attempt: 2, Run: "run", Success: true},
	} {
		require.NoError(t, k.Report(k.ctx, "gw-1", p.ID, r), name)
		assert.Equal(t, patching.Pending, k.patch(p.ID).Status, name)
	}
	for _, id := range []string{"none", "", "a/b%2F", strings.Repeat("x", 5000)} {
		require.NoError(t, k.Report(k.ctx, "gw-1", id, protocol.PatchResult{Attempt: 1, Run: "run"}), "unknown patch")
	}
	require.NoError(t, k.Report(k.ctx, "gw-1", p.ID, protocol.PatchResult{Attempt: 1, Run: "run", Message: strings.Repeat("é", 50_000) + "end"}))
	got := k.patch(p.ID)
	assert.Equal(t, patching.Failed, got.Status)
	assert.LessOrEqual(t, len(got.StatusMessage), 18<<10)
	assert.True(t, strings.HasSuffix(got.StatusMessage, "éend"))
}

func TestARunIsNeverTakenTwice(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	p := k.task(patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"})[0]
	_, err := k.Take(k.ctx, "gw-1", p.ID, take("run"))
	require.NoError(t, err)
	_, err = k.Take(k.ctx, "gw-1", p.ID, take("another run, after the device lost its memory"))
	kind(t, err, fault.Conflict, "over")
	assert.Equal(t, patching.Failed, k.patch(p.ID).Status)
	assert.Contains(t, k.patch(p.ID).StatusMessage, "INTERRUPTED: ")
	assert.Empty(t, k.waiting("gw-1"))
}

func TestAPatchThatWaitsForADeletedDeviceIsNotForItsNamesake(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	p := k.task(patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"}, patching.NewPatch{DeviceID: "gw-2", PatchTemplateName: "tpl"})
	require.NoError(t, k.Forget(k.ctx, "gw-1"))
	require.NoError(t, k.Forget(k.ctx, "gw-1"))
	require.NoError(t, k.Forget(k.ctx, "nobody"))
	assert.Equal(t, patching.Failed, k.patch(p[0].ID).Status)
	assert.Contains(t, k.patch(p[0].ID).StatusMessage, patching.DeviceDeleted)
	_, err := k.Take(k.ctx, "gw-1", p[0].ID, take("run"))
	kind(t, err, fault.Conflict, "over")
	assert.NotEqual(t, patching.Failed, k.patch(p[1].ID).Status)
}
