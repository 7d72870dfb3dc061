package deviceapi

import (
	"net/http"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// connectivityInfo has the capitals of the first Greengrass (greengrassv2-api §1.1).
type connectivityInfo struct {
	ID       string `json:"Id"`
	Host     string `json:"HostAddress"`
	Port     int32  `json:"PortNumber"`
	Metadata string `json:"Metadata"`
}

type connectivity struct {
	List *[]connectivityInfo `json:"ConnectivityInfo"`
}

// ownConnectivity lets a core ask for or say where its client devices reach it,
// and no other core's.
func (a *API) ownConnectivity(r *http.Request, id gateway.Identity, action string) (thing string, err error) {
	thing = r.PathValue("thing")
	if thing != id.Thing {
		return thing, fault.New(fault.Denied, "certificate %s is not of thing %s", id.CertificateID, thing)
	}
	return thing, a.allowed(r, id, action, a.cfg.Realm.Thing(thing))
}

// connectivity is GetConnectivityInfo, as a core's own certificate may call it.
func (a *API) connectivity(w http.ResponseWriter, r *http.Request, id gateway.Identity) error {
	thing, err := a.ownConnectivity(r, id, "greengrass:GetConnectivityInfo")
	if err != nil {
		return err
	}
	list, err := a.cfg.Cores.Connectivity(r.Context(), thing)
	if err != nil {
		return err
	}
	out := make([]connectivityInfo, len(list))
	for i, e := range list {
		out[i] = connectivityInfo{ID: e.ID, Host: e.Host, Port: e.Port, Metadata: e.Metadata}
	}
	return answer(w, connectivity{List: &out})
}

// setConnectivity is UpdateConnectivityInfo: what the IP detector of a core calls
// whenever its addresses change.
func (a *API) setConnectivity(w http.ResponseWriter, r *http.Request, id gateway.Identity) error {
	thing, err := a.ownConnectivity(r, id, "greengrass:UpdateConnectivityInfo")
	if err != nil {
		return err
	}
	var in connectivity
	if err := decode(r, &in); err != nil {
		return err
	}
	if in.List == nil {
		return fault.Field("ConnectivityInfo", "is required")
	}
	list := make([]greengrass.Endpoint, len(*in.List))
	for i, e := range *in.List {
		list[i] = greengrass.Endpoint{ID: e.ID, Host: e.Host, Port: e.Port, Metadata: e.Metadata}
	}
	version, err := a.cfg.Cores.SetConnectivity(r.Context(), thing, list)
	if err != nil {
		return err
	}
	return answer(w, map[string]string{"Version": version})
}
