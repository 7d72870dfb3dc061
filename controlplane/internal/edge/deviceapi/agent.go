package deviceapi

import (
	"net/http"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

func (a *API) assignment(w http.ResponseWriter, r *http.Request, core string) error {
	out, err := a.cfg.Agents.Assignment(r.Context(), core, protocol.ParseAssignmentQuery(r.URL.Query()))
	if err != nil {
		return err
	}
	out.Agent = a.release(r, protocol.Subject{Role: protocol.RoleCore, Name: core})
	return answer(w, out)
}

func (a *API) certificate(w http.ResponseWriter, r *http.Request, core string) error {
	var in protocol.CSRRequest
	if err := decode(r, &in); err != nil {
		return err
	}
	out, err := a.cfg.Agents.Certificate(r.Context(), core, in.CSR)
	if err != nil {
		return err
	}
	return answer(w, out)
}

func (a *API) certs(w http.ResponseWriter, r *http.Request, core string) error {
	f, info, err := a.cfg.Agents.Certs(r.Context(), core)
	return send(w, r, "application/zip", f, info, err)
}

func (a *API) config(w http.ResponseWriter, r *http.Request, core string) error {
	f, info, err := a.cfg.Agents.Config(r.Context(), core)
	return send(w, r, "application/yaml", f, info, err)
}

func (a *API) distribution(w http.ResponseWriter, r *http.Request, _ string) error {
	f, info, err := a.cfg.Agents.Distribution(r.Context(), r.PathValue("digest"))
	return send(w, r, "application/octet-stream", f, info, err)
}
