package deviceapi

import (
	"context"
	"io"
	"net/http"
	"net/netip"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/pace"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Releases serves releases of the agent, to agents and to technicians.
type Releases interface {
	// Offer keeps what the agent of a device says of itself and returns what it is
	// offered, nil for nothing.
	Offer(ctx context.Context, s protocol.Subject, q protocol.AssignmentQuery) (*protocol.AgentRelease, error)
	Open(ctx context.Context, digest string) (object.Reader, object.Info, error)
	// Install opens a file of a version, of the current one if that is empty.
	Install(ctx context.Context, version, name string) (object.Reader, object.Info, error)
}

// Transfers at once: a release that a whole fleet is offered must leave the
// server its breath. Who finds no place comes again later.
const (
	maxReleases, maxReleasesOfOne = 64, 4
	maxInstalls, maxInstallsOfOne = 16, 4 // without certificate: of one address
)

func (a *API) releaseRoutes(device, all *http.ServeMux) {
	releases := pace.NewPlaces[string]("downloads", maxReleases, maxReleasesOfOne)
	installs := pace.NewPlaces[netip.Prefix]("downloads", maxInstalls, maxInstallsOfOne)
	device.Handle("GET "+protocol.PathReleases+"{digest}", a.agents(func(w http.ResponseWriter, r *http.Request, s protocol.Subject) error {
		return placed(releases, s.Name, w, func() error {
			f, info, err := a.cfg.Releases.Open(r.Context(), r.PathValue("digest"))
			return send(w, r, "application/octet-stream", f, info, err)
		})
	}))
	install := a.open(func(w http.ResponseWriter, r *http.Request) error {
		return placed(installs, pace.Network(remote(r)), w, func() error {
			f, info, err := a.cfg.Releases.Install(r.Context(), r.PathValue("version"), r.PathValue("file"))
			return sendSoon(w, r, contentType(r.PathValue("file")), f, info, err)
		})
	})
	// What a technician pins by the fingerprint of the enrolment string, before
	// anything else is fetched.
	all.HandleFunc("GET "+protocol.PathInstall+"ca.pem", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-pem-file")
		_, _ = io.WriteString(w, a.cfg.CAPEM) // the device may be gone
	})
	all.Handle("GET "+protocol.PathInstall+"{file}", install)
	all.Handle("GET "+protocol.PathInstall+"{version}/{file}", install)
}

// placed carries out do when there is a place for k, and says when to try again if
// there is none.
func placed[K comparable](p *pace.Places[K], k K, w http.ResponseWriter, do func() error) error {
	leave, err := p.Take(k)
	if err != nil {
		w.Header().Set("Retry-After", "5")
		return err
	}
	defer leave()
	return do()
}

func contentType(file string) string {
	switch file {
	case "install.sh", "install.ps1", "SHA256SUMS":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// release is what the agent of s is offered. That it cannot be found out keeps no
// agent from its other work.
func (a *API) release(r *http.Request, s protocol.Subject) *protocol.AgentRelease {
	if a.cfg.Releases == nil {
		return nil
	}
	o, err := a.cfg.Releases.Offer(r.Context(), s, protocol.ParseAssignmentQuery(r.URL.Query()))
	if err != nil {
		a.log.WarnContext(r.Context(), "no release can be offered", logx.Thing, s.Name, logx.Err, err)
		return nil
	}
	return o
}
