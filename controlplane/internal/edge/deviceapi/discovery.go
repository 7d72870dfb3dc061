package deviceapi

import (
	"encoding/pem"
	"errors"
	"net/http"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// discover is Discover (nucleus-contract §4.4): a client device asks, with its own
// certificate, which cores it may connect to and where they are.
//
// The CAs are those of this server: how a core hands over the CA of its own broker
// is not public. A core whose broker has a certificate of another CA must give it to
// its devices in another way.
func (a *API) discover(w http.ResponseWriter, r *http.Request, id gateway.Identity) error {
	thing := r.PathValue("thing")
	if thing != id.Thing {
		return fault.New(fault.Denied, "certificate %s is not of thing %s", id.CertificateID, thing)
	}
	if err := a.allowed(r, id, "greengrass:Discover", a.cfg.Realm.Thing(thing)); err != nil {
		return err
	}
	out := protocol.Discovery{Groups: []protocol.DiscoveredGroup{}}
	err := a.cfg.Cores.CoresOf(r.Context(), thing, func(core string) error {
		list, err := a.cfg.Cores.Connectivity(r.Context(), core)
		if errors.Is(err, fault.NotFound) { // its core was deleted in this moment
			return nil
		}
		if err != nil {
			return err
		}
		c := protocol.DiscoveredCore{ThingARN: a.cfg.Realm.Thing(core), Connectivity: make([]protocol.DiscoveredEndpoint, len(list))}
		for i, e := range list {
			c.Connectivity[i] = protocol.DiscoveredEndpoint{ID: e.ID, Host: e.Host, Port: e.Port, Metadata: e.Metadata}
		}
		out.Groups = append(out.Groups, protocol.DiscoveredGroup{ID: "greengrassV2-coreDevice-" + core, Cores: []protocol.DiscoveredCore{c}, CAs: certificates(a.cfg.CAPEM)})
		return nil
	})
	if err != nil {
		return err
	}
	if len(out.Groups) == 0 {
		return fault.New(fault.NotFound, "thing %s is no client device of any core", thing)
	}
	return answer(w, out)
}

// certificates are those of a PEM bundle, one by one.
func certificates(bundle string) []string {
	out := []string{}
	for block, rest := pem.Decode([]byte(bundle)); block != nil; block, rest = pem.Decode(rest) {
		out = append(out, string(pem.EncodeToMemory(block)))
	}
	return out
}
