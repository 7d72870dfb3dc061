package deviceapi

import (
	"net/http"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// enroll lets agents in. A client certificate, if there is one, is a thing's or a
// claim, and is looked up anew as for every other call.
func (a *API) enroll(w http.ResponseWriter, r *http.Request, in protocol.EnrollRequest) error {
	c := enrollment.Caller{Address: remote(r)}
	if leaf := presented(r); leaf != nil {
		id, err := a.cfg.Claims.Identify(r.Context(), leaf)
		switch {
		case fault.Permanent(err):
			return fault.New(fault.Denied, "the client certificate is not accepted")
		case err != nil:
			return err
		}
		c.Certificate, c.Thing, c.Attributes = id.CertificateID, id.Thing, id.Attributes
	}
	out, err := a.cfg.Agents.Enroll(r.Context(), c, in)
	if err != nil {
		return err
	}
	if out.Pending != nil {
		return answerWith(w, http.StatusAccepted, out.Pending)
	}
	return answer(w, out.EnrollResponse)
}
