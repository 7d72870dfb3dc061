package agenttest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Help is something that is asked of the device, and what became of it.
type Help struct {
	ID  string
	Ask protocol.HelpAsk

	Runs   []string                  // that took it, each once
	Parts  map[string]map[int]string // by run
	Result *protocol.HelpResult
}

// AskHelp asks something of the device and tells its agent.
func (c *Cloud) AskHelp(t testing.TB, device protocol.Subject, h Help) *Help {
	t.Helper()
	h.Parts = map[string]map[int]string{}
	c.Change(func(s *State) { s.Help = append(s.Help, &h) })
	require.NoError(t, c.broker.server.Publish(protocol.HelpTopic(device), []byte("{}"), false, 1))
	return &h
}

// HelpResult returns how a request ended, with the content of the run that
// reported. The parts and the digest must be right.
func (c *Cloud) HelpResult(t testing.TB, h *Help) (r protocol.HelpResult, content string, ok bool) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.Result == nil {
		return r, "", false
	}
	r = *h.Result
	parts := h.Parts[r.Run]
	for n := range len(parts) {
		content += parts[n]
	}
	if r.Outcome == protocol.HelpDone {
		require.Len(t, content, int(r.Size))
		if r.Size > 0 {
			sum := sha256.Sum256([]byte(content))
			require.Equal(t, r.Digest, hex.EncodeToString(sum[:]))
		}
	}
	return r, content, true
}

// help is as strict as the control plane: a restart belongs to one run.
func (c *Cloud) help(w http.ResponseWriter, r *http.Request) {
	rest := strings.Split(strings.Trim(strings.TrimPrefix(r.URL.Path, protocol.PathHelp), "/"), "/")
	if len(rest) == 1 {
		list := protocol.HelpList{Requests: []protocol.HelpOffer{}}
		for _, h := range c.s.Help {
			if h.Result == nil {
				list.Requests = append(list.Requests, protocol.HelpOffer{ID: h.ID})
			}
		}
		c.answer(w, r, list)
		return
	}
	i := slices.IndexFunc(c.s.Help, func(h *Help) bool { return h.ID == rest[0] })
	if i < 0 {
		fail(w, http.StatusNotFound, "no such request")
		return
	}
	c.helped(w, r, c.s.Help[i], rest[1])
}

func (c *Cloud) helped(w http.ResponseWriter, r *http.Request, h *Help, call string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, protocol.HelpPart+1))
	run := r.URL.Query().Get("run")
	var take protocol.HelpTake
	var result protocol.HelpResult
	switch {
	case err != nil || len(body) > protocol.HelpPart:
		fail(w, http.StatusRequestEntityTooLarge, "too large")
	case call == protocol.HelpTakePath && json.Unmarshal(body, &take) == nil:
		again := len(h.Runs) > 0 && h.Runs[len(h.Runs)-1] == take.Run
		if h.Result == nil && !again && len(h.Runs) > 0 && h.Ask.Kind == protocol.HelpRestart {
			h.Result = &protocol.HelpResult{Outcome: protocol.HelpFailed, Message: "INTERRUPTED"}
		}
		if h.Result != nil {
			fail(w, http.StatusConflict, "over")
			return
		}
		if !again {
			h.Runs = append(h.Runs, take.Run)
		}
		c.answer(w, r, protocol.HelpOrder{ID: h.ID, HelpAsk: h.Ask})
	case h.Result != nil || len(h.Runs) == 0:
		fail(w, http.StatusConflict, "over")
	case call == protocol.HelpContentPath && run == h.Runs[len(h.Runs)-1]:
		n, _ := strconv.Atoi(r.URL.Query().Get("part"))
		if h.Parts[run] == nil {
			h.Parts[run] = map[int]string{}
		}
		h.Parts[run][n] = string(body)
		c.answer(w, r, struct{}{})
	case call == protocol.HelpResultPath && json.Unmarshal(body, &result) == nil:
		if result.Run == h.Runs[len(h.Runs)-1] {
			h.Result = &result
		}
		c.answer(w, r, struct{}{})
	default:
		fail(w, http.StatusBadRequest, "not understood")
	}
}
