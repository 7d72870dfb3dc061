package patching_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/patching"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func take(run string) protocol.PatchTake { return protocol.PatchTake{Attempt: 1, Run: run} }

func TestAPatchFromRequestToResult(t *testing.T) {
	k := newKit(t)
	k.template("tpl", map[string]string{"a": "template", "b": "template"})
	p := k.task(patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl", ExtraVars: map[string]string{"b": "patch"}})[0]
	assert.Regexp(t, uuid, p.ID)
	assert.Regexp(t, uuid, p.TaskID)
	assert.Equal(t, patching.AgentBased, p.PatchType, "the template's")
	assert.Equal(t, patching.Created, p.Status)
	assert.Equal(t, map[string]string{"b": "patch"}, p.ExtraVars, "as submitted")
	assert.Empty(t, p.AssociationID)
	task, err := k.Task(k.ctx, p.TaskID)
	require.NoError(t, err)
	assert.Equal(t, 1, task.Patches)
	assert.Equal(t, k.clock(), task.CreatedAt)

	k.pass(time.Minute)
	order, err := k.Take(k.ctx, "gw-1", p.ID, take("run"))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "template", "b": "patch"}, order.ExtraVars)
	assert.Equal(t, 3600, order.TimeoutSeconds)
	assert.Equal(t, patching.Pending, k.patch(p.ID).Status)
	assert.Equal(t, "run", k.patch(p.ID).AssociationID)
	again, err := k.Take(k.ctx, "gw-1", p.ID, take("run"))
	require.NoError(t, err, "the answer may have been lost")
	assert.Equal(t, order, again)
	r, info, err := k.Playbook(k.ctx, "gw-1", p.ID)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	assert.EqualValues(t, len(playbook), info.Size)

	k.pass(time.Minute)
	result := protocol.PatchResult{Attempt: 1, Run: "run", Success: true, Message: "ok=1"}
	require.NoError(t, k.Report(k.ctx, "gw-1", p.ID, result))
	got := k.patch(p.ID)
	assert.Equal(t, patching.Success, got.Status)
	assert.Equal(t, "ok=1", got.StatusMessage)
	assert.Equal(t, k.clock(), got.UpdatedAt)
	assert.Empty(t, k.waiting("gw-1"))
	result.Success = false
	require.NoError(t, k.Report(k.ctx, "gw-1", p.ID, result), "a late or repeated report changes nothing")
	assert.Equal(t, got, k.patch(p.ID))
	_, err = k.Take(k.ctx, "gw-1", p.ID, take("run"))
	kind(t, err, fault.Conflict, "over")

	require.NoError(t, k.DeletePatch(k.ctx, p.ID))
	_, err = k.Patch(k.ctx, p.ID)
	kind(t, err, fault.NotFound, "does not exist")
	kind(t, k.DeletePatch(k.ctx, p.ID), fault.NotFound, "does not exist")
	left, _, err := k.TaskPatches(k.ctx, p.TaskID, patching.Page{})
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestHowAPatchBegins(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	p := k.task(
		patching.NewPatch{DeviceID: "never", PatchTemplateName: "tpl", ExtraVars: map[string]string{"a": "1", "b": "2"}},
		patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "none"},
		patching.NewPatch{DeviceID: "waiting", PatchTemplateName: "tpl"},
	)
	assert.Equal(t, patching.Failed, p[0].Status, "A-41: a device that was never activated")
	assert.Equal(t, "DEVICE_ACTIVATION_NOT_FOUND", p[0].StatusMessage)
	assert.Equal(t, patching.AgentBased, p[0].PatchType)
	assert.Equal(t, patching.Failed, p[1].Status, "W-109: a template that does not exist")
	assert.Equal(t, "TEMPLATE_NOT_FOUND", p[1].StatusMessage)
	assert.Equal(t, patching.Created, p[2].Status, "W-112: a device that has not enrolled")
	assert.Contains(t, p[2].StatusMessage, "TARGET_INSTANCE_NOT_FOUND: waits until 2026-05-08T09:30:00Z")
	assert.Empty(t, k.waiting("never"))
	assert.Equal(t, []string{p[2].ID}, k.waiting("waiting"), "there when it enrols")
	k.pass(6 * 24 * time.Hour)
	k.run("waiting", true, "done")
	assert.Equal(t, patching.Success, k.patch(p[2].ID).Status)
	assert.Equal(t, "done", k.patch(p[2].ID).StatusMessage)
}

func TestW112AWaitingPatchEndsInTime(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	p := k.task(patching.NewPatch{DeviceID: "waiting", PatchTemplateName: "tpl"}, patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"})
	k.pass(time.Hour)
	_, err := k.Take(k.ctx, "gw-1", p[1].ID, take("run"))
	require.NoError(t, err)
	k.pass(7*24*time.Hour - time.Hour - time.Second)
	require.NoError(t, k.Sweep(k.ctx))
	assert.Equal(t, patching.Created, k.patch(p[0].ID).Status)
	k.pass(time.Second)
	assert.Empty(t, k.waiting("waiting"))
	_, err = k.Take(k.ctx, "waiting", p[0].ID, take("run"))
	kind(t, err, fault.Conflict, "over")
	require.NoError(t, k.Sweep(k.ctx))
	for i, want := range []string{"EXPIRED: the device did not take the patch within 168h0m0s", "EXPIRED: the device took the patch at 2026-05-01T10:30:00Z and has not reported"} {
		assert.Equal(t, patching.Failed, k.patch(p[i].ID).Status)
		assert.Equal(t, want, k.patch(p[i].ID).StatusMessage)
	}
	assert.NotContains(t, strings.Join(k.keys(), "\n"), "/queue/")
}

func TestW106PatchesAreStoredBeforeTheyAreQueuedWhereverTheProcessDies(t *testing.T) {
	const patches = 100
	for n := 1; n < 20; n++ {
		k := newKit(t)
		k.template("tpl", nil)
		var list []patching.NewPatch
		for range patches {
			list = append(list, patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"})
		}
		k.store.dieAfter(n)
		_, err := k.CreateTask(k.ctx, patching.NewTask{Patches: list}, "key")
		k.store.dieAfter(0)
		for _, waits := range k.waiting("gw-1") {
			assert.Equal(t, patching.Created, k.patch(waits).Status, "what is queued is stored and belongs to a task")
		}
		// Some devices are faster than the restart.
		var began []string
		for range min(3, len(k.waiting("gw-1"))) {
			began = append(began, k.waiting("gw-1")[0])
			k.run("gw-1", true, "done")
		}
		k.restart()
		k.pass(time.Hour)
		require.NoError(t, k.Sweep(k.ctx))
		if err != nil {
			all, _, err := k.DevicePatches(k.ctx, "gw-1", patching.Filter{}, patching.Page{})
			require.NoError(t, err)
			assert.Empty(t, all, "death at commit %d: nothing of a task that was refused", n)
			assert.NotContains(t, strings.Join(k.keys(), "\n"), "/open/")
			assert.NotContains(t, strings.Join(k.keys(), "\n"), "/patch/")
			_, err = k.CreateTask(k.ctx, patching.NewTask{Patches: list}, "key")
			require.NoError(t, err)
		}
		for len(k.waiting("gw-1")) > 0 {
			began = append(began, k.waiting("gw-1")[0])
			k.run("gw-1", true, "done")
		}
		assert.Len(t, began, patches, "death at commit %d: each ran once", n)
		ended, _, err := k.DevicePatches(k.ctx, "gw-1", patching.Filter{Status: patching.Success}, patching.Page{})
		require.NoError(t, err)
		assert.Len(t, ended, patches, "a result is never overwritten")
	}
}

func TestARepeatedKeyMakesNoSecondTask(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	n := patching.NewTask{Patches: []patching.NewPatch{{DeviceID: "gw-1", PatchTemplateName: "tpl"}}}
	id, err := k.CreateTask(k.ctx, n, "key")
	require.NoError(t, err)
	again, err := k.CreateTask(k.ctx, n, "key")
	require.NoError(t, err)
	assert.Equal(t, id, again)
	assert.Len(t, k.waiting("gw-1"), 1)
	n.Patches[0].DeviceID = "gw-2"
	_, err = k.CreateTask(k.ctx, n, "key")
	kind(t, err, fault.Conflict, id)
}

func TestWrongTasksAreRefusedByMember(t *testing.T) {
	k := newKit(t)
	k.template("tpl", map[string]string{"theirs": "${aws:s3:presign:https://acme-artifacts/greengrass2/artifacts/gw-2/gw-2/certs.zip}"})
	k.template("plain", nil)
	before := k.keys()
	for name, c := range map[string]struct {
		patch patching.NewPatch
		text  string
	}{
		"no device":                             {patching.NewPatch{PatchTemplateName: "plain"}, "patches[0].deviceId: is required"},
		"no template":                           {patching.NewPatch{DeviceID: "gw-1"}, "patches[0].patchTemplateName: is required"},
		"W-100: agentless does not exist":       {patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "plain", PatchType: "agentless"}, "patches[0].patchType: agentless"},
		"a variable without a name":             {patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "plain", ExtraVars: map[string]string{"": "x"}}, "patches[0].extraVars: "},
		"W-114: the keys of another device":     {patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "plain", ExtraVars: map[string]string{"u": "${aws:s3:presign:https://acme-artifacts/greengrass2/artifacts/gw-10/gw-10/certs.zip}"}}, "patches[0].extraVars.u: object"},
		"W-114: the same by way of a template":  {patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"}, "patches[0].extraVars.theirs: object"},
		"W-114: anything else in our bucket":    {patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "plain", ExtraVars: map[string]string{"u": "${aws:s3:presign:https://acme-artifacts/templates/default.json}"}}, "patches[0].extraVars.u: object"},
		"W-114: a way out of the own artifacts": {patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "plain", ExtraVars: map[string]string{"u": "${aws:s3:presign:https://acme-artifacts/greengrass2/artifacts/gw-1/../gw-2/x}"}}, "patches[0].extraVars.u: "},
		"a link that lives for ever":            {patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "plain", ExtraVars: map[string]string{"u": "${aws:s3:presign:https://acme-artifacts/" + certsZip + "?expiresIn=604801}"}}, "expiresIn"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.CreateTask(k.ctx, patching.NewTask{Patches: []patching.NewPatch{c.patch}}, "")
			kind(t, err, fault.Invalid, c.text)
		})
	}
	_, err := k.CreateTask(k.ctx, patching.NewTask{}, "")
	kind(t, err, fault.Invalid, "patches: is empty")
	_, err = k.CreateTask(k.ctx, patching.NewTask{Patches: make([]patching.NewPatch, patching.MaxPatches+1)}, "")
	kind(t, err, fault.Invalid, "10001")
	assert.Equal(t, before, k.keys(), "nothing partial is stored")
}

func TestW101ARetryIsQueuedAndKeepsTheErrors(t *testing.T) {
	k := newKit(t)
	k.template("tpl", map[string]string{"v": "1"})
	p := k.task(patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"})[0]
	require.NoError(t, k.RetryPatch(k.ctx, p.ID, patching.Retry{}))
	assert.Equal(t, p, k.patch(p.ID), "it waits already")
	err := k.RetryPatch(k.ctx, p.ID, patching.Retry{ExtraVars: map[string]string{"v": "2"}})
	kind(t, err, fault.Conflict, "is created")
	k.run("gw-1", false, "first error")
	_, err = k.UpdateTemplate(k.ctx, "tpl", patching.TemplateChange{ExtraVars: map[string]*string{"v": ptr("2")}}, 0)
	require.NoError(t, err)

	require.NoError(t, k.RetryPatch(k.ctx, p.ID, patching.Retry{}))
	again := k.patch(p.ID)
	assert.Equal(t, patching.Created, again.Status)
	assert.Empty(t, again.AssociationID)
	require.Len(t, again.Earlier, 1)
	assert.Equal(t, patching.Run{Attempt: 1, Status: patching.Failed, StatusMessage: "first error", EndedAt: k.clock()}, again.Earlier[0])
	assert.Equal(t, []string{p.ID}, k.waiting("gw-1"))
	_, err = k.Take(k.ctx, "gw-1", p.ID, take("run"))
	kind(t, err, fault.Conflict, "over")
	order := k.run("gw-1", true, "fine")
	assert.Equal(t, "2", order.ExtraVars["v"], "the current version of the template")
	assert.Equal(t, patching.Success, k.patch(p.ID).Status)

	for range 15 {
		err = k.RetryPatch(k.ctx, p.ID, patching.Retry{PatchTemplateName: "none", ExtraVars: map[string]string{"v": "3"}})
		require.NoError(t, err)
	}
	got := k.patch(p.ID)
	assert.Equal(t, patching.Failed, got.Status)
	assert.Equal(t, "TEMPLATE_NOT_FOUND", got.StatusMessage)
	assert.Equal(t, map[string]string{"v": "3"}, got.ExtraVars)
	assert.Equal(t, 17, got.Attempt)
	assert.Len(t, got.Earlier, 10, "bounded")
	assert.Equal(t, 16, got.Earlier[9].Attempt)
	err = k.RetryPatch(k.ctx, "none", patching.Retry{})
	kind(t, err, fault.NotFound, "does not exist")
}

func TestADeletedTemplateRunsNothingMore(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	p := k.task(patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"})[0]
	require.NoError(t, k.DeleteTemplate(k.ctx, "tpl", 0))
	k.template("tpl", nil) // of the same name, with its own version 1
	_, err := k.Take(k.ctx, "gw-1", p.ID, take("run"))
	kind(t, err, fault.Conflict, "over")
	assert.Equal(t, "TEMPLATE_NOT_FOUND", k.patch(p.ID).StatusMessage)
}

func TestW107UnknownIsNotFound(t *testing.T) {
	k := newKit(t)
	_, err := k.Patch(k.ctx, "0f8fad5b-d9cb-469f-a165-70867728950e")
	kind(t, err, fault.NotFound, "0f8fad5b")
	_, err = k.Task(k.ctx, "../x")
	kind(t, err, fault.NotFound, "../x")
	_, _, err = k.TaskPatches(k.ctx, "none", patching.Page{})
	kind(t, err, fault.NotFound, "none")
	list, next, err := k.DevicePatches(k.ctx, "nobody", patching.Filter{}, patching.Page{})
	require.NoError(t, err)
	assert.Empty(t, next)
	assert.NotNil(t, list)
	assert.Empty(t, list)
}

func TestW108PatchesAreFilteredAndPaged(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	for range 9 {
		k.task(patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"}, patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "none"})
		k.pass(time.Minute)
	}
	k.run("gw-1", true, "")
	all := func(f patching.Filter, count int) (out []patching.Patch) {
		for after := ""; ; {
			list, next, err := k.DevicePatches(k.ctx, "gw-1", f, patching.Page{After: after, Count: count})
			require.NoError(t, err)
			assert.LessOrEqual(t, len(list), count)
			out = append(out, list...)
			if after = next; after == "" {
				return out
			}
		}
	}
	for _, count := range []int{1, 4, 18, 1000} {
		list := all(patching.Filter{}, count)
		require.Len(t, list, 18)
		for i := range list[1:] {
			assert.False(t, list[i+1].CreatedAt.After(list[i].CreatedAt), "newest first")
		}
		assert.Len(t, all(patching.Filter{Status: patching.Failed}, count), 9)
		assert.Len(t, all(patching.Filter{Status: patching.Created}, count), 8)
		done := all(patching.Filter{Status: patching.Success}, count)
		require.Len(t, done, 1)
		assert.Equal(t, list[17].CreatedAt, done[0].CreatedAt, "the oldest ran first")
	}
	_, _, err := k.DevicePatches(k.ctx, "gw-1", patching.Filter{Status: "skipped"}, patching.Page{})
	kind(t, err, fault.Invalid, "patchStatus: ")
	_, _, err = k.DevicePatches(k.ctx, "gw-1", patching.Filter{}, patching.Page{After: "../../x"})
	kind(t, err, fault.Invalid, "exclusiveStartToken: ")
}

func TestALostAnswerCostsNothing(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	p := k.task(patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"})[0]
	k.store.fates = []byte("a")
	_, err := k.Take(k.ctx, "gw-1", p.ID, take("run"))
	require.ErrorIs(t, err, fault.Unavailable)
	_, err = k.Take(k.ctx, "gw-1", p.ID, take("run"))
	require.NoError(t, err)
	k.store.fates = []byte("xa")
	result := protocol.PatchResult{Attempt: 1, Run: "run", Success: true}
	require.Error(t, k.Report(k.ctx, "gw-1", p.ID, result))
	require.Error(t, k.Report(k.ctx, "gw-1", p.ID, result))
	require.NoError(t, k.Report(k.ctx, "gw-1", p.ID, result))
	assert.Equal(t, patching.Success, k.patch(p.ID).Status)
}

func TestDevicesAreToldAndTimeRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.cfg.Now = time.Now
		k.restart()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.Run(ctx) }()
		synctest.Wait()
		k.template("tpl", nil)
		p := k.task(patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"}, patching.NewPatch{DeviceID: "never", PatchTemplateName: "tpl"})
		synctest.Wait()
		assert.Equal(t, []string{"gw-1"}, k.noticed)
		time.Sleep(7*24*time.Hour + 6*time.Minute)
		synctest.Wait()
		assert.Contains(t, k.patch(p[0].ID).StatusMessage, "EXPIRED: ")
		err := k.RetryPatch(k.ctx, p[0].ID, patching.Retry{})
		require.NoError(t, err)
		synctest.Wait()
		assert.Equal(t, []string{"gw-1", "gw-1"}, k.noticed, "a retry is told too")
		cancel()
		require.NoError(t, <-done)
	})
}

func TestTenThousandPatches(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	list := make([]patching.NewPatch, patching.MaxPatches)
	for i := range list {
		list[i] = patching.NewPatch{DeviceID: fmt.Sprintf("d-%05d", i), PatchTemplateName: "tpl"}
		k.devices[list[i].DeviceID] = true
	}
	id, err := k.CreateTask(k.ctx, patching.NewTask{Patches: list}, "")
	require.NoError(t, err)
	page, next, err := k.TaskPatches(k.ctx, id, patching.Page{})
	require.NoError(t, err)
	assert.Len(t, page, patching.MaxPage)
	assert.NotEmpty(t, next)
	assert.Equal(t, "d-00999", page[999].DeviceID, "in the order submitted")
	assert.Len(t, k.waiting("d-09999"), 1)
}
