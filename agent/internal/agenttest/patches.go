package agenttest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Patch is a patch for the core, and what became of it.
type Patch struct {
	ID       string
	Playbook string
	Vars     map[string]string
	Timeout  int    // seconds
	Digest   string // announced instead of the right one

	Runs    []string // that took it, each once
	Results []protocol.PatchResult
}

// AddPatch queues a patch.
func (c *Cloud) AddPatch(p Patch) *Patch {
	c.Change(func(s *State) { s.Patches = append(s.Patches, &p) })
	return &p
}

// Result returns how a patch ended.
func (c *Cloud) Result(p *Patch) (r protocol.PatchResult, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(p.Results) == 0 {
		return r, false
	}
	return p.Results[0], true
}

// patches is as strict as the control plane: a patch is run once.
func (c *Cloud) patches(w http.ResponseWriter, r *http.Request) {
	rest := strings.Split(strings.Trim(strings.TrimPrefix(r.URL.Path, protocol.PathPatches), "/"), "/")
	if len(rest) == 1 {
		list := protocol.PatchList{Patches: []protocol.PatchOffer{}}
		for _, p := range c.s.Patches {
			if len(p.Results) == 0 {
				list.Patches = append(list.Patches, protocol.PatchOffer{ID: p.ID, Attempt: 1})
			}
		}
		c.answer(w, r, list)
		return
	}
	for _, p := range c.s.Patches {
		if p.ID == rest[0] {
			c.patch(w, r, p, rest[1])
			return
		}
	}
	fail(w, http.StatusNotFound, "no such patch")
}

func (c *Cloud) patch(w http.ResponseWriter, r *http.Request, p *Patch, call string) {
	body := json.NewDecoder(io.LimitReader(r.Body, 64<<10))
	switch call {
	case protocol.PatchTakePath:
		var in protocol.PatchTake
		if body.Decode(&in) != nil {
			fail(w, http.StatusBadRequest, "no JSON")
			return
		}
		if len(p.Runs) == 0 {
			p.Runs = append(p.Runs, in.Run)
		}
		if len(p.Results) > 0 || p.Runs[0] != in.Run {
			p.Results = append(p.Results, protocol.PatchResult{Message: "taken twice"})
			fail(w, http.StatusConflict, "over")
			return
		}
		sum := sha256.Sum256([]byte(p.Playbook))
		o := protocol.PatchOrder{ID: p.ID, PlaybookDigest: hex.EncodeToString(sum[:]), ExtraVars: p.Vars, TimeoutSeconds: p.Timeout}
		if p.Digest != "" {
			o.PlaybookDigest = p.Digest
		}
		c.answer(w, r, o)
	case protocol.PatchPlaybookPath:
		_, _ = w.Write([]byte(p.Playbook))
	case protocol.PatchResultPath:
		var in protocol.PatchResult
		if body.Decode(&in) != nil {
			fail(w, http.StatusBadRequest, "no JSON")
			return
		}
		if len(p.Results) == 0 || p.Results[0] != in { // sent again when the answer was lost
			p.Results = append(p.Results, in)
		}
		c.answer(w, r, struct{}{})
	}
}
