package deviceapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/deviceapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// patches notes who asked for what.
type patches struct{ calls []string }

func (p *patches) note(device, id string) error {
	p.calls = append(p.calls, device+" "+id)
	if id == "over" {
		return fault.New(fault.Conflict, "this attempt of patch over is over")
	}
	return nil
}

func (p *patches) Waiting(_ context.Context, device string) (protocol.PatchList, error) {
	return protocol.PatchList{Patches: []protocol.PatchOffer{{ID: "one", Attempt: 2}}}, p.note(device, "")
}

func (p *patches) Take(_ context.Context, device, id string, t protocol.PatchTake) (protocol.PatchOrder, error) {
	return protocol.PatchOrder{ID: id, PlaybookDigest: t.Run}, p.note(device, id)
}

func (p *patches) Playbook(_ context.Context, device, id string) (object.Reader, object.Info, error) {
	if err := p.note(device, id); err != nil {
		return nil, object.Info{}, err
	}
	return open("- hosts: all")
}

func (p *patches) Report(_ context.Context, device, id string, r protocol.PatchResult) error {
	return p.note(device, id+" "+r.Message)
}

func TestAgentsAskForTheirOwnPatches(t *testing.T) {
	fake := &patches{}
	k := newKit(t, func(c *deviceapi.Config) {
		c.Patches = fake
		c.Downloads = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	})
	cert, _ := k.world.Client(t, protocol.AgentThing("core"), map[string]string{"core": "core"})
	agent := k.client(cert)
	res, v := k.do(agent, http.MethodGet, protocol.PathPatches, "", "")
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, map[string]any{"patches": []any{map[string]any{"patchId": "one", "attempt": 2.0}}}, v)
	res, v = k.do(agent, http.MethodPost, protocol.PatchPath("one", protocol.PatchTakePath), `{"attempt":2,"run":"r"}`, "")
	assert.Equal(t, "r", v["playbookDigest"])
	assert.Equal(t, "no-store", res.Header.Get("Cache-Control"), "it holds links")
	res, v = k.do(agent, http.MethodPost, protocol.PatchPath("over", protocol.PatchTakePath), `{"attempt":2,"run":"r"}`, "")
	assert.Equal(t, http.StatusConflict, res.StatusCode)
	assert.Contains(t, v["message"], "is over")
	res, _ = k.do(agent, http.MethodGet, protocol.PatchPath("one", protocol.PatchPlaybookPath), "", "")
	assert.Equal(t, "application/yaml", res.Header.Get("Content-Type"))
	res, _ = k.do(agent, http.MethodPost, protocol.PatchPath("one", protocol.PatchResultPath), `{"message":"`+strings.Repeat("x", 48<<10)+`"}`, "")
	assert.Equal(t, http.StatusOK, res.StatusCode, "the largest report of an agent")
	for _, call := range []string{protocol.PatchTakePath, protocol.PatchResultPath} {
		res, _ = k.do(agent, http.MethodPost, protocol.PatchPath("one", call), `{`, "")
		assert.Equal(t, http.StatusBadRequest, res.StatusCode)
	}
	for _, c := range fake.calls {
		assert.True(t, strings.HasPrefix(c, "core "), "bound to the certificate's core")
	}

	asked := len(fake.calls)
	for path, method := range map[string]string{
		protocol.PathPatches: http.MethodGet, protocol.PatchPath("one", protocol.PatchTakePath): http.MethodPost,
		protocol.PatchPath("one", protocol.PatchPlaybookPath): http.MethodGet, protocol.PatchPath("one", protocol.PatchResultPath): http.MethodPost,
	} {
		for _, c := range []*http.Client{k.core(), k.client()} {
			res, _ = k.do(c, method, path, `{}`, "")
			assert.Equal(t, http.StatusForbidden, res.StatusCode, path)
		}
	}
	assert.Len(t, fake.calls, asked)
	res, _ = k.do(k.client(), http.MethodGet, "/a/token/file", "", "")
	assert.Equal(t, http.StatusTeapot, res.StatusCode, "links need no certificate")
}
