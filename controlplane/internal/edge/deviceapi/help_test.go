package deviceapi_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/deviceapi"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// helper notes who asked for what.
type helper struct{ calls []string }

func (h *helper) note(device, id string) error {
	h.calls = append(h.calls, device+" "+id)
	if id == "over" {
		return fault.New(fault.Conflict, "help request over is over")
	}
	return nil
}

func (h *helper) Open(_ context.Context, device string) (protocol.HelpList, error) {
	return protocol.HelpList{Requests: []protocol.HelpOffer{{ID: "one"}}}, h.note(device, "")
}

func (h *helper) Take(_ context.Context, device, id string, _ protocol.HelpTake) (protocol.HelpOrder, error) {
	return protocol.HelpOrder{ID: id, HelpAsk: protocol.HelpAsk{Kind: protocol.HelpBundle}}, h.note(device, id)
}

func (h *helper) Part(_ context.Context, device, id, run string, n int, size int64, content io.Reader) error {
	b, err := io.ReadAll(content)
	if err != nil {
		return fmt.Errorf("read the part: %w", err)
	}
	return h.note(device, fmt.Sprintf("%s %s %d %d %d", id, run, n, size, len(b)))
}

func (h *helper) Report(_ context.Context, device, id string, r protocol.HelpResult) error {
	return h.note(device, id+" "+string(r.Outcome))
}

func TestAgentsAreHelpedOnTheirOwnDevice(t *testing.T) {
	fake := &helper{}
	k := newKit(t, func(c *deviceapi.Config) { c.Help = fake })
	cert, _ := k.world.Client(t, protocol.AgentThing("core"), map[string]string{protocol.AttributeCore: "core"})
	agent := k.client(cert)
	part := protocol.HelpPathOf("one", protocol.HelpContentPath)
	_, v := k.do(agent, http.MethodGet, protocol.PathHelp, "", "")
	assert.Equal(t, map[string]any{"requests": []any{map[string]any{"requestId": "one"}}}, v)
	_, v = k.do(agent, http.MethodPost, protocol.HelpPathOf("one", protocol.HelpTakePath), `{"run":"r"}`, "")
	assert.Equal(t, map[string]any{"requestId": "one", "kind": "bundle"}, v)
	res, _ := k.do(agent, http.MethodPost, protocol.HelpPathOf("over", protocol.HelpTakePath), `{"run":"r"}`, "")
	assert.Equal(t, http.StatusConflict, res.StatusCode)
	res, _ = k.do(agent, http.MethodPut, part+"?run=r&part=3", strings.Repeat("x", protocol.HelpPart), "")
	assert.Equal(t, http.StatusOK, res.StatusCode, "a whole part")
	res, _ = k.do(agent, http.MethodPut, part+"?run=r&part=3", strings.Repeat("x", protocol.HelpPart+1), "")
	assert.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
	res, _ = k.do(agent, http.MethodPut, part+"?run=r&part=x", "x", "")
	assert.Equal(t, http.StatusBadRequest, res.StatusCode)
	res, _ = k.do(agent, http.MethodPost, protocol.HelpPathOf("one", protocol.HelpResultPath), `{"run":"r","outcome":"done"}`, "")
	assert.Equal(t, http.StatusOK, res.StatusCode)
	for _, call := range []string{protocol.HelpTakePath, protocol.HelpResultPath} {
		res, _ = k.do(agent, http.MethodPost, protocol.HelpPathOf("one", call), `{`, "")
		assert.Equal(t, http.StatusBadRequest, res.StatusCode)
	}
	assert.Equal(t, []string{"core ", "core one", "core over", "core one r 3 65536 65536", "core one done"}, fake.calls)

	device, _ := k.world.Client(t, protocol.AgentThing("gauge"), map[string]string{protocol.AttributeDevice: "gauge"})
	_, _ = k.do(k.client(device), http.MethodGet, protocol.PathHelp, "", "")
	assert.Equal(t, "gauge ", fake.calls[len(fake.calls)-1], "a client device's agent as well")
	asked := len(fake.calls)
	for _, c := range []*http.Client{k.core(), k.client()} {
		for _, r := range [][2]string{{http.MethodGet, protocol.PathHelp}, {http.MethodPut, part + "?run=r&part=0"}, {http.MethodPost, protocol.HelpPathOf("one", protocol.HelpTakePath)}} {
			res, _ = k.do(c, r[0], r[1], `{}`, "")
			assert.Equal(t, http.StatusForbidden, res.StatusCode, r[1])
		}
	}
	assert.Len(t, fake.calls, asked)
}
