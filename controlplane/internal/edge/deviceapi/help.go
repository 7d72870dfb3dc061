package deviceapi

import (
	"context"
	"io"
	"net/http"
	"strconv"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Help serves agents that are asked things. Every call is bound to the device.
type Help interface {
	Open(ctx context.Context, device string) (protocol.HelpList, error)
	Take(ctx context.Context, device, id string, t protocol.HelpTake) (protocol.HelpOrder, error)
	Part(ctx context.Context, device, id, run string, n int, size int64, content io.Reader) error
	Report(ctx context.Context, device, id string, r protocol.HelpResult) error
}

func (a *API) helpRoutes(device *http.ServeMux) {
	device.Handle("GET "+protocol.PathHelp, a.agents(a.help))
	device.Handle("POST "+protocol.HelpPathOf("{id}", protocol.HelpTakePath), a.agents(a.takeHelp))
	device.Handle("PUT "+protocol.HelpPathOf("{id}", protocol.HelpContentPath), a.agents(a.helpPart))
	device.Handle("POST "+protocol.HelpPathOf("{id}", protocol.HelpResultPath), a.agents(a.helpResult))
}

func (a *API) help(w http.ResponseWriter, r *http.Request, s protocol.Subject) error {
	out, err := a.cfg.Help.Open(r.Context(), s.Name)
	if err != nil {
		return err
	}
	return answer(w, out)
}

func (a *API) takeHelp(w http.ResponseWriter, r *http.Request, s protocol.Subject) error {
	var in protocol.HelpTake
	if err := decode(r, &in); err != nil {
		return err
	}
	out, err := a.cfg.Help.Take(r.Context(), s.Name, r.PathValue("id"), in)
	if err != nil {
		return err
	}
	return answer(w, out)
}

// helpPart hands the body on as it comes; maxBody is as large as a part.
func (a *API) helpPart(w http.ResponseWriter, r *http.Request, s protocol.Subject) error {
	n, err := strconv.Atoi(r.URL.Query().Get("part"))
	if err != nil {
		return fault.Field("part", "is no number")
	}
	if r.ContentLength < 0 {
		return fault.New(fault.Invalid, "the length of a part must be told before it (Content-Length)")
	}
	err = a.cfg.Help.Part(r.Context(), s.Name, r.PathValue("id"), r.URL.Query().Get("run"), n, r.ContentLength, r.Body)
	if err != nil {
		return err
	}
	return answer(w, struct{}{})
}

func (a *API) helpResult(w http.ResponseWriter, r *http.Request, s protocol.Subject) error {
	var in protocol.HelpResult
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := a.cfg.Help.Report(r.Context(), s.Name, r.PathValue("id"), in); err != nil {
		return err
	}
	return answer(w, struct{}{})
}
