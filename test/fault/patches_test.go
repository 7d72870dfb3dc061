package fault_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// tellPatches makes a patch template and a task of patches for a device that is
// activated, on a control plane that may be killed, and looks at what is there.
func tellPatches(t *testing.T, env []string, points ...string) *story {
	t.Helper()
	const patches = 100
	bin, err := faultBinary()
	require.NoError(t, err)
	s := newStory(t, world.Start(t, world.Options{Bin: bin, Later: true, Flags: []string{"--s3-fsync=false"}}))
	s.env, s.points = env, points
	s.begin()
	accepted := func(path, key string, body any, want ...int) (a world.Answer) {
		s.until(func() string {
			a = s.insist(http.MethodPost, path, key, body)
			for _, w := range want {
				if a.Status == w {
					return ""
				}
			}
			return fmt.Sprintf("POST %s: %d %s", path, a.Status, a.Body)
		})
		return a
	}
	// Without a key: a template that is there already is the one that was asked for.
	accepted("/patchTemplates", "", map[string]any{
		"name": "tpl", "patchType": "agentbased", "playbookFileContents": base64.StdEncoding.EncodeToString([]byte("- hosts: all\n")),
	}, http.StatusCreated, http.StatusConflict)
	accepted("/activations", "", map[string]any{"deviceId": "gw-1"}, http.StatusOK)
	var list []map[string]any
	for range patches {
		list = append(list, map[string]any{"deviceId": "gw-1", "patchTemplateName": "tpl"})
	}
	a := accepted("/patchTasks", "patch-them", map[string]any{"patches": list}, http.StatusAccepted)
	var page struct {
		Patches []struct{ PatchStatus string }
	}
	s.get("/patchTasks/"+a.Header.Get("x-taskid")+"/patches", &page)
	statuses := map[string]int{}
	for _, p := range page.Patches {
		statuses[p.PatchStatus]++
	}
	require.Equal(t, map[string]int{"created": patches}, statuses)
	s.get("/devices/gw-1/patches", &page)
	assert.Len(t, page.Patches, patches, "of that task, and of no other")
	return s
}

func TestPatchesAreThereOnceWhereverTheProcessIsKilled(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "steps")
	s := tellPatches(t, []string{"GGFLEET_FAULT_LOG=" + log})
	require.Zero(t, s.kills)
	for _, step := range []string{"patch", "put.playbook"} {
		for _, at := range []string{"before:1", "after:1", "before:2", "after:2", "before:4", "after:5", "before:6", "after:7", "before:8", "after:8"} {
			if step == "put.playbook" && !strings.HasSuffix(at, ":1") {
				continue
			}
			t.Run(step+":"+at, func(t *testing.T) {
				t.Parallel()
				s := tellPatches(t, nil, step+":"+at)
				assert.Equal(t, 1, s.kills, "the process was not killed")
			})
		}
	}
}
