package deviceapi

import (
	"crypto/x509"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// enroll lets agents in. A client certificate, if there is one, is a thing's or a
// claim, and is looked up anew as for every other call.
func (a *API) enroll(w http.ResponseWriter, r *http.Request) error {
	from := remote(r)
	if !a.pace.allow(from, a.now()) {
		return fault.New(fault.Exhausted, "too many enrolments from this address; try again in a minute")
	}
	var in protocol.EnrollRequest
	if err := decodeOpen(w, r, &in); err != nil {
		return err
	}
	select {
	case a.enrolling <- struct{}{}:
		defer func() { <-a.enrolling }()
	default:
		return fault.New(fault.Exhausted, "too many enrolments at once; try again")
	}
	c := enrollment.Caller{Address: from}
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
	w.Header().Set("Cache-Control", "no-store")
	if out.Pending != nil {
		return answerWith(w, http.StatusAccepted, out.Pending)
	}
	return answer(w, out.EnrollResponse)
}

// openBody is how long the body of a call without certificate may take.
const openBody = 10 * time.Second

// decodeOpen is decode for calls without certificate. It comes before the call gets
// its place: who sends slowly takes none.
func decodeOpen(w http.ResponseWriter, r *http.Request, v any) error {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(openBody)) // a test's recorder knows none
	return decode(r, v)
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

// How often one address may ask to be enrolled: a factory behind one address has
// hundreds of devices that ask every half minute.
const (
	paceRate  = 20 // a second
	paceBurst = 200
	// paceKeep is how many addresses are remembered; with more, all begin anew.
	paceKeep = 10_000
)

// pace bounds what each address may do.
type pace struct {
	mu   sync.Mutex
	from map[netip.Prefix]*rate.Limiter
}

func newPace() *pace { return &pace{from: map[netip.Prefix]*rate.Limiter{}} }

// allow counts one call from an address. Those of one /64 are one.
func (p *pace) allow(a netip.Addr, now time.Time) bool {
	bits := 64
	if a.Is4() {
		bits = 32
	}
	network, _ := a.Prefix(bits) // the zero prefix for the zero address
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.from[network]
	if l == nil {
		if len(p.from) >= paceKeep {
			clear(p.from)
		}
		l = rate.NewLimiter(paceRate, paceBurst)
		p.from[network] = l
	}
	return l.AllowN(now, 1)
}
