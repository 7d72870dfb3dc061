package deviceapi

import (
	"crypto/x509"
	"net/http"
	"net/netip"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/pace"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// What is called without certificate. How often one address may call: a factory
// behind one address has hundreds of devices that ask every half minute.
const (
	paceRate  = 20 // a second
	paceBurst = 200
	paceKeep  = 10_000 // addresses that are remembered at least
	// maxOpen is how many such calls are carried out at once.
	maxOpen = 64
	// openBody is how long the body of one may take.
	openBody = 10 * time.Second
)

// open answers whoever calls, with or without certificate.
func (a *API) open(h func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			a.refuse(w, r, gateway.Identity{}, err)
		}
	})
}

// paced is open for what one address may call so often and no oftener.
func (a *API) paced(h func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return a.open(func(w http.ResponseWriter, r *http.Request) error {
		if !a.pace.Allow(pace.Network(remote(r)), a.now()) {
			return fault.New(fault.Exhausted, "too many calls from this address; try again in a minute")
		}
		w.Header().Set("Cache-Control", "no-store")
		return h(w, r)
	})
}

// gate is paced for calls that cost something: so many are carried out at once. The
// body is read before a call gets its place: who sends slowly takes none.
func gate[T any](a *API, h func(w http.ResponseWriter, r *http.Request, in T) error) http.Handler {
	return a.paced(func(w http.ResponseWriter, r *http.Request) error {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(openBody)) // a test's recorder knows none
		var in T
		if err := decode(r, &in); err != nil {
			return err
		}
		select {
		case a.places <- struct{}{}:
			defer func() { <-a.places }()
		default:
			return fault.New(fault.Exhausted, "too many enrolments at once; try again")
		}
		return h(w, r, in)
	})
}

func presented(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}

// remote is the address that a request comes from; the zero one if it has none.
func remote(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
