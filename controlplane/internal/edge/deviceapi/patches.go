package deviceapi

import (
	"context"
	"net/http"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Patches serves agents that run patches on their devices. Every call is bound
// to the device.
type Patches interface {
	Waiting(ctx context.Context, device string) (protocol.PatchList, error)
	Take(ctx context.Context, device, id string, t protocol.PatchTake) (protocol.PatchOrder, error)
	Playbook(ctx context.Context, device, id string) (object.Reader, object.Info, error)
	Report(ctx context.Context, device, id string, r protocol.PatchResult) error
}

func (a *API) patchRoutes(device *http.ServeMux) {
	device.Handle("GET "+protocol.PathPatches, a.agent(a.patches))
	device.Handle("POST "+protocol.PatchPath("{id}", protocol.PatchTakePath), a.agent(a.takePatch))
	device.Handle("GET "+protocol.PatchPath("{id}", protocol.PatchPlaybookPath), a.agent(a.playbook))
	device.Handle("POST "+protocol.PatchPath("{id}", protocol.PatchResultPath), a.agent(a.patchResult))
}

func (a *API) patches(w http.ResponseWriter, r *http.Request, core string) error {
	out, err := a.cfg.Patches.Waiting(r.Context(), core)
	if err != nil {
		return err
	}
	return answer(w, out)
}

func (a *API) takePatch(w http.ResponseWriter, r *http.Request, core string) error {
	var in protocol.PatchTake
	if err := decode(r, &in); err != nil {
		return err
	}
	out, err := a.cfg.Patches.Take(r.Context(), core, r.PathValue("id"), in)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store") // it holds links
	return answer(w, out)
}

func (a *API) playbook(w http.ResponseWriter, r *http.Request, core string) error {
	f, info, err := a.cfg.Patches.Playbook(r.Context(), core, r.PathValue("id"))
	return send(w, r, "application/yaml", f, info, err)
}

func (a *API) patchResult(w http.ResponseWriter, r *http.Request, core string) error {
	var in protocol.PatchResult
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := a.cfg.Patches.Report(r.Context(), core, r.PathValue("id"), in); err != nil {
		return err
	}
	return answer(w, struct{}{})
}
