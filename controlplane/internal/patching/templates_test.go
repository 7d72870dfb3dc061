package patching_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/patching"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestTemplatesKeepTheirVersions(t *testing.T) {
	k := newKit(t)
	t1, err := k.CreateTemplate(k.ctx, patching.NewTemplate{
		Name: "gg-installer", PatchType: "agentbased", PlaybookFileContents: encoded(playbook), Description: "first",
		ExtraVars: map[string]string{"a": "1", "b": "2"}, Options: json.RawMessage(`[{"x":1}]`),
	})
	require.NoError(t, err)
	assert.Equal(t, 1, t1.Version)
	assert.True(t, t1.Enabled)
	assert.Equal(t, "gg-installer", t1.PlaybookName, "the default")
	assert.Equal(t, bucket, t1.Playbook.Bucket)
	assert.True(t, strings.HasPrefix(t1.Playbook.Key, "device-patcher/playbooks/"), t1.Playbook.Key)
	assert.Equal(t, playbook, k.object(t1.Playbook.Key))
	_, err = k.CreateTemplate(k.ctx, patching.NewTemplate{Name: "gg-installer", PatchType: "agentbased", PlaybookFileContents: encoded("x")})
	kind(t, err, fault.Exists, "gg-installer")

	k.pass(time.Hour)
	t2, err := k.UpdateTemplate(k.ctx, "gg-installer", patching.TemplateChange{
		Description: ptr("second"), ExtraVars: map[string]*string{"b": ptr("3"), "a": nil, "c": ptr("4")},
	}, 1)
	require.NoError(t, err)
	assert.Equal(t, 2, t2.Version)
	assert.Equal(t, "second", t2.Description)
	assert.Equal(t, map[string]string{"b": "3", "c": "4"}, t2.ExtraVars, "merged key by key, null removes")
	assert.Equal(t, t1.CreatedAt, t2.CreatedAt)
	assert.Equal(t, t1.UpdatedAt.Add(time.Hour), t2.UpdatedAt)
	assert.Equal(t, t1.Playbook, t2.Playbook)

	t3, err := k.UpdateTemplate(k.ctx, "gg-installer", patching.TemplateChange{PlaybookFileContents: ptr(encoded("other"))}, 0)
	require.NoError(t, err)
	assert.Equal(t, 3, t3.Version)
	assert.Equal(t, "other", k.object(t3.Playbook.Key))
	assert.Equal(t, playbook, k.object(t1.Playbook.Key), "contents of older versions are kept")
	_, err = k.UpdateTemplate(k.ctx, "gg-installer", patching.TemplateChange{Description: ptr("x")}, 2)
	kind(t, err, fault.Stale, "version 3")

	got, err := k.Template(k.ctx, "gg-installer")
	require.NoError(t, err)
	assert.Equal(t, t3, got)
	kind(t, k.DeleteTemplate(k.ctx, "gg-installer", 1), fault.Stale, "version 3")
	require.NoError(t, k.DeleteTemplate(k.ctx, "gg-installer", 3))
	_, err = k.Template(k.ctx, "gg-installer")
	kind(t, err, fault.NotFound, "gg-installer")
	kind(t, k.DeleteTemplate(k.ctx, "gg-installer", 0), fault.NotFound, "gg-installer")
	_, err = k.UpdateTemplate(k.ctx, "gg-installer", patching.TemplateChange{}, 0)
	kind(t, err, fault.NotFound, "gg-installer")
	assert.Empty(t, k.keys(), "nothing is left")
	left, err := k.objects.List(k.ctx, "", "", 0)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestW104RenamingThePlaybookWithoutContentsBreaksNothing(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	t2, err := k.UpdateTemplate(k.ctx, "tpl", patching.TemplateChange{PlaybookName: ptr("renamed.yml")}, 0)
	require.NoError(t, err)
	assert.Equal(t, "renamed.yml", t2.PlaybookName)
	k.task(patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"})
	w, err := k.Waiting(k.ctx, "gw-1")
	require.NoError(t, err)
	id := w.Patches[0].ID
	_, err = k.Take(k.ctx, "gw-1", id, take("run"))
	require.NoError(t, err)
	r, _, err := k.Playbook(k.ctx, "gw-1", id)
	require.NoError(t, err)
	require.NoError(t, r.Close())
}

func TestW105TemplatesArePagedByName(t *testing.T) {
	k := newKit(t)
	var want []string
	for i := range 7 {
		want = append(want, fmt.Sprintf("tpl %d/ü", i))
		k.template(want[i], nil)
	}
	var got []string
	for after := ""; ; {
		list, next, err := k.Templates(k.ctx, patching.Page{After: after, Count: 3})
		require.NoError(t, err)
		for _, x := range list {
			got = append(got, x.Name)
		}
		if after = next; next == "" {
			break
		}
	}
	assert.Equal(t, want, got)
}

func TestW103ADisabledTemplateIsRefused(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	p := k.task(patching.NewPatch{DeviceID: "gw-1", PatchTemplateName: "tpl"}, patching.NewPatch{DeviceID: "gw-2", PatchTemplateName: "tpl"})
	k.run("gw-2", false, "failed")
	_, err := k.UpdateTemplate(k.ctx, "tpl", patching.TemplateChange{Enabled: ptr(false)}, 0)
	require.NoError(t, err)
	_, err = k.CreateTask(k.ctx, patching.NewTask{Patches: []patching.NewPatch{{DeviceID: "gw-1", PatchTemplateName: "tpl"}}}, "")
	kind(t, err, fault.Conflict, `"tpl" is disabled`)
	err = k.RetryPatch(k.ctx, p[1].ID, patching.Retry{})
	kind(t, err, fault.Conflict, `"tpl" is disabled`)
	_, err = k.Take(k.ctx, "gw-1", p[0].ID, take("run"))
	kind(t, err, fault.Conflict, "over")
	assert.Equal(t, patching.Failed, k.patch(p[0].ID).Status)
	assert.Equal(t, patching.TemplateDisabled, k.patch(p[0].ID).StatusMessage)
	_, err = k.UpdateTemplate(k.ctx, "tpl", patching.TemplateChange{Enabled: ptr(true)}, 0)
	require.NoError(t, err)
	err = k.RetryPatch(k.ctx, p[0].ID, patching.Retry{})
	require.NoError(t, err)
}

func TestWrongTemplatesAreRefusedByMember(t *testing.T) {
	k := newKit(t)
	good := patching.NewTemplate{Name: "tpl", PatchType: "agentbased", PlaybookFileContents: encoded(playbook)}
	for name, c := range map[string]struct {
		change func(*patching.NewTemplate)
		kind   fault.Kind
		text   string
	}{
		"no name":                         {func(n *patching.NewTemplate) { n.Name = "" }, fault.Invalid, "name: "},
		"a name with a line break":        {func(n *patching.NewTemplate) { n.Name = "a\nb" }, fault.Invalid, "name: "},
		"a name too long":                 {func(n *patching.NewTemplate) { n.Name = strings.Repeat("x", 2049) }, fault.Invalid, "2048"},
		"no type":                         {func(n *patching.NewTemplate) { n.PatchType = "" }, fault.Invalid, "patchType: "},
		"W-100: agentless does not exist": {func(n *patching.NewTemplate) { n.PatchType = "agentless" }, fault.Invalid, "patchType: agentless"},
		"an unknown type":                 {func(n *patching.NewTemplate) { n.PatchType = "magic" }, fault.Invalid, `patchType: "magic"`},
		"no contents":                     {func(n *patching.NewTemplate) { n.PlaybookFileContents = "" }, fault.Invalid, "playbookFileContents: "},
		"contents that are not base64":    {func(n *patching.NewTemplate) { n.PlaybookFileContents = "- hosts: all" }, fault.Invalid, "playbookFileContents: is not base64"},
		"contents too large":              {func(n *patching.NewTemplate) { n.PlaybookFileContents = encoded(strings.Repeat("x", 1<<20+1)) }, fault.TooLarge, "1048576"},
		"a playbook name with a tab":      {func(n *patching.NewTemplate) { n.PlaybookName = "a\tb" }, fault.Invalid, "playbookName: "},
		"options that are no array":       {func(n *patching.NewTemplate) { n.Options = json.RawMessage(`{}`) }, fault.Invalid, "options: "},
		"a variable's name with a space":  {func(n *patching.NewTemplate) { n.ExtraVars = map[string]string{"a b": ""} }, fault.Invalid, "extraVars: "},
		"variables too large":             {func(n *patching.NewTemplate) { n.ExtraVars = map[string]string{"a": strings.Repeat("x", 40<<10)} }, fault.Invalid, "extraVars: "},
		"W-114: a link to another bucket": {func(n *patching.NewTemplate) {
			n.ExtraVars = map[string]string{"a": "${aws:s3:presign:https://other/k}"}
		}, fault.Invalid, "extraVars.a: "},
		"an expression that does not end":  {func(n *patching.NewTemplate) { n.ExtraVars = map[string]string{"a": "${aws:s3:presign:https://x/k"} }, fault.Invalid, "closing brace"},
		"a description that is a book":     {func(n *patching.NewTemplate) { n.Description = strings.Repeat("x", 5000) }, fault.Invalid, "description: "},
		"a playbook name that is too long": {func(n *patching.NewTemplate) { n.PlaybookName = strings.Repeat("x", 2049) }, fault.Invalid, "playbookName: "},
	} {
		t.Run(name, func(t *testing.T) {
			n := good
			c.change(&n)
			_, err := k.CreateTemplate(k.ctx, n)
			kind(t, err, c.kind, c.text)
		})
	}
	assert.Empty(t, k.keys(), "nothing partial is stored")
	_, err := k.CreateTemplate(k.ctx, good)
	require.NoError(t, err)
	before := k.keys()
	_, err = k.UpdateTemplate(k.ctx, "tpl", patching.TemplateChange{PatchType: ptr("agentless"), PlaybookFileContents: ptr(encoded("new"))}, 0)
	kind(t, err, fault.Invalid, "patchType")
	assert.Equal(t, before, k.keys())
}

func TestATemplateDiesWholeWhereverTheProcessDoes(t *testing.T) {
	for n := 1; n < 6; n++ {
		k := newKit(t)
		k.store.dieAfter(n)
		_, err := k.CreateTemplate(k.ctx, patching.NewTemplate{Name: "tpl", PatchType: "agentbased", PlaybookFileContents: encoded(playbook)})
		if err == nil {
			_ = k.DeleteTemplate(k.ctx, "tpl", 0) // the death may come here
		}
		k.store.dieAfter(0)
		k.restart()
		k.pass(time.Hour)
		require.NoError(t, k.Sweep(k.ctx))
		if _, err := k.Template(k.ctx, "tpl"); err == nil {
			require.NoError(t, k.DeleteTemplate(k.ctx, "tpl", 0))
		}
		assert.Empty(t, k.keys(), "after the death at commit %d", n)
		left, err := k.objects.List(k.ctx, "", "", 0)
		require.NoError(t, err)
		assert.Empty(t, left, "after the death at commit %d", n)
	}
}

// meddled is an object store in which something happens before a Put.
type meddled struct {
	object.Store
	first func()
}

func (m *meddled) Put(ctx context.Context, step state.Step, key string, r io.Reader, size int64, contentType string) error {
	m.first()
	return m.Store.Put(ctx, step, key, r, size, contentType)
}

func TestAPlaybookOfATemplateThatWasDeletedMeanwhileDoesNotStay(t *testing.T) {
	k := newKit(t)
	k.template("tpl", nil)
	objects := &meddled{Store: k.cfg.Objects, first: func() { require.NoError(t, k.DeleteTemplate(k.ctx, "tpl", 0)) }}
	k.cfg.Objects = objects
	k.restart()
	_, err := k.UpdateTemplate(k.ctx, "tpl", patching.TemplateChange{PlaybookFileContents: ptr(encoded("- hosts: none\n"))}, 0)
	kind(t, err, fault.NotFound, "tpl")
	assert.Empty(t, k.keys())
	left, err := k.objects.List(k.ctx, "", "", 0)
	require.NoError(t, err)
	assert.Empty(t, left)
}
