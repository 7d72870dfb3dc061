package deviceapi

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/shared/fault"
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
	maxReleases = 64
	maxInstalls = 16 // without certificate
	// A transfer that takes nothing for so long is ended.
	transferStall = 30 * time.Second
)

func (a *API) releaseRoutes(device, all *http.ServeMux) {
	releases, installs := make(chan struct{}, maxReleases), make(chan struct{}, maxInstalls)
	device.Handle("GET "+protocol.PathReleases+"{digest}", a.agents(func(w http.ResponseWriter, r *http.Request, _ protocol.Subject) error {
		return transfer(releases, w, r, "application/octet-stream", func() (object.Reader, object.Info, error) {
			return a.cfg.Releases.Open(r.Context(), r.PathValue("digest"))
		})
	}))
	install := a.open(func(w http.ResponseWriter, r *http.Request) error {
		return transfer(installs, w, r, contentType(r.PathValue("file")), func() (object.Reader, object.Info, error) {
			return a.cfg.Releases.Install(r.Context(), r.PathValue("version"), r.PathValue("file"))
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

func contentType(file string) string {
	switch file {
	case "install.sh", "install.ps1", "SHA256SUMS":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// transfer sends a file, or the range of it that was asked for, when there is a
// place for it.
func transfer(places chan struct{}, w http.ResponseWriter, r *http.Request, contentType string, open func() (object.Reader, object.Info, error)) error {
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	default:
		return fault.New(fault.Exhausted, "too many downloads at once; try again")
	}
	f, info, err := open()
	return send(&impatient{ResponseWriter: w, deadline: http.NewResponseController(w)}, r, contentType, f, info, err)
}

// impatient is an answer that is given up when nobody reads it.
type impatient struct {
	http.ResponseWriter
	deadline *http.ResponseController
}

func (w *impatient) Write(b []byte) (int, error) {
	_ = w.deadline.SetWriteDeadline(time.Now().Add(transferStall)) // a test's recorder knows none
	n, err := w.ResponseWriter.Write(b)
	_ = w.deadline.SetWriteDeadline(time.Time{})
	return n, err
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
