package app

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/deviceapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/once"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
)

// openEdges puts the HTTP servers on the listeners.
func (a *App) openEdges(context.Context) error {
	api, err := a.fleetAPI()
	if err != nil {
		return err
	}
	ids := selfhosted.Identities{Registry: a.registry}
	claims := selfhosted.Clients{Identities: ids, Claims: a.claims} // enrol, and nothing else
	devices, err := deviceapi.New(deviceapi.Config{
		Identities: ids, Claims: claims, Components: a.components, Cores: a.greengrass, RoleAliases: a.registry, Sessions: a.sessions, URLs: a.signer, Agents: a.enrollment,
		Realm: a.cfg.realm(), CAPEM: string(a.registry.CA().Bundle()), Patches: a.patching, Help: a.help, Releases: a.releases, Renewals: a.enrollment, Downloads: a.patchDownloads, Log: a.log,
	})
	if err != nil {
		return err
	}
	aws, err := a.awsServer()
	if err != nil {
		return err
	}
	cert := a.serverCertificate()
	deviceTLS := gateway.HTTPConfig(claims, cert.get)
	newCalm(a.notifying).before(deviceTLS)
	turns := gateway.NewTurns(gateway.DefaultHandshakes)
	downloads := a.httpServer(a.downloads)
	gateway.BoundConnections(downloads, gateway.DefaultHTTPConnections)
	a.servers = []server{
		{"fleet API", a.httpServer(api), a.peopleTLS(a.cfg.HTTPAddr, a.listeners.api, cert)},
		{"aws endpoint", aws, a.peopleTLS(a.cfg.AWSAddr, a.listeners.aws, cert)},
		{"device HTTPS", a.deviceServer(devices, deviceTLS), turns.Listen(a.listeners.device, deviceTLS)},
		{"artifact downloads", downloads, a.listeners.artifact},
	}
	if a.listeners.alpn != nil {
		a.door = gateway.NewDoor(a.listeners.alpn, a.log)
		a.servers = append(a.servers, server{"device HTTPS by ALPN", a.deviceServer(devices, deviceTLS), turns.Listen(a.door.HTTPS, deviceTLS)})
	}
	return nil
}

// manyBehind is when devices' connections wait for notifications.
const manyBehind = 32

// notifying reports whether many devices are still to be told of a deployment.
func (a *App) notifying() bool { return a.devices.Behind() > manyBehind || a.greengrass.Handing() }

// peopleTLS serves TLS on every address but loopback.
func (a *App) peopleTLS(addr string, l net.Listener, cert *serverCertificate) net.Listener {
	if loopback(addr) {
		return l
	}
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get, NextProtos: []string{"http/1.1"}})
}

// httpServer has limits on all that a caller can make wait, but none on whole
// requests: uploads and downloads are large, and their handlers watch for stalls.
func (a *App) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
}

// deviceServer speaks HTTP/2 as well, which lite negotiates.
func (a *App) deviceServer(h http.Handler, cfg *tls.Config) *http.Server {
	s := a.httpServer(h)
	s.TLSConfig = cfg
	s.ReadTimeout = time.Minute
	gateway.BoundConnections(s, gateway.DefaultHTTPConnections)
	return s
}

func (a *App) fleetAPI() (http.Handler, error) {
	var err error
	if a.once, err = once.New(once.Config{Store: a.hub, Sealer: a.sealer, Alone: len(a.cfg.EtcdEndpoints) == 0, Log: a.log}); err != nil {
		return nil, err
	}
	cfg := fleetapi.Config{
		Templates: a.fleet, Cores: a.fleet, Deployments: a.fleet,
		Components: componentsPort{a.components}, ProvisioningTemplates: provisioningPort{a.templates},
		Distributions: distributionsPort{a}, Activations: activationsPort{a}, Tokens: a.tokens, AccessKeys: a.keys, Patches: a.patching, Help: a.help, Releases: a.releases, Enrollments: a.enrollment,
		Devices: a.fleet, Things: a.things, Once: a.once, BasePath: a.cfg.BasePath, CORSOrigin: a.cfg.CORSOrigin,
		System: systemPort{a}, Auth: a.tokens, Events: a.eventLog, Webhooks: a.eventLog, Metrics: a.metrics(), Log: a.log,
	}
	if a.cfg.InsecureNoAuth {
		cfg.Anonymous = &access.Principal{Name: "anonymous", Role: access.Admin}
	}
	return fleetapi.New(cfg)
}
