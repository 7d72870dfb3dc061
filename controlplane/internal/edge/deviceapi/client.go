package deviceapi

import (
	"net/http"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// clientRoutes are the calls of the agents of client devices.
func (a *API) clientRoutes(device *http.ServeMux) {
	device.Handle("GET "+protocol.PathAgentDevice, a.client(a.deviceAssignment))
	device.Handle("POST "+protocol.PathDeviceCertificate, a.client(a.deviceCertificate))
	device.Handle("GET "+protocol.PathDeviceCerts, a.client(a.deviceCerts))
}

func (a *API) deviceAssignment(w http.ResponseWriter, r *http.Request, device string) error {
	out, err := a.cfg.Agents.DeviceAssignment(r.Context(), device)
	if err != nil {
		return err
	}
	out.Agent = a.release(r, protocol.Subject{Role: protocol.RoleClient, Name: device})
	return answer(w, out)
}

func (a *API) deviceCertificate(w http.ResponseWriter, r *http.Request, device string) error {
	var in protocol.CSRRequest
	if err := decode(r, &in); err != nil {
		return err
	}
	out, err := a.cfg.Agents.DeviceCertificate(r.Context(), device, in.CSR)
	if err != nil {
		return err
	}
	return answer(w, out)
}

func (a *API) deviceCerts(w http.ResponseWriter, r *http.Request, device string) error {
	f, info, err := a.cfg.Agents.DeviceCerts(r.Context(), device)
	return send(w, r, "application/zip", f, info, err)
}
