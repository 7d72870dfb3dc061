package deviceapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/problem"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/pace"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/policy"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Components resolves components and finds their artifacts.
type Components interface {
	Resolve(ctx context.Context, candidates []component.Candidate, platform component.Platform) ([]component.Resolved, error)
	Locate(ctx context.Context, arn, artifact string) (component.Artifact, error)
}

// Cores tells which groups a core is in, what runtime it has, and keeps which client
// devices it has and where they reach it.
type Cores interface {
	GroupsOf(ctx context.Context, thing string) ([]string, error)
	IsLite(ctx context.Context, thing string) (lite, ok bool, err error)
	Connectivity(ctx context.Context, thing string) ([]greengrass.Endpoint, error)
	// CoresOf calls each with the cores that the thing is a client device of.
	CoresOf(ctx context.Context, device string, each func(core string) error) error
	SetConnectivity(ctx context.Context, thing string, list []greengrass.Endpoint) (version string, err error)
}

// RoleAliases finds role aliases.
type RoleAliases interface {
	RoleAlias(ctx context.Context, name string) (iot.RoleAlias, error)
}

// Sessions hands out temporary credentials.
type Sessions interface {
	Issue(ctx context.Context, thing, roleAlias string, d time.Duration) (access.Session, error)
}

// URLs makes download URLs for artifacts.
type URLs interface {
	URL(key, digest, file string) (string, error)
}

// Agents serves ggfleet's own agent.
type Agents interface {
	Enroll(ctx context.Context, c enrollment.Caller, r protocol.EnrollRequest) (enrollment.Answer, error)
	Assignment(ctx context.Context, core string, q protocol.AssignmentQuery) (protocol.CoreAssignment, error)
	Certificate(ctx context.Context, core, csr string) (protocol.CSRResponse, error)
	Certs(ctx context.Context, core string) (object.Reader, object.Info, error)
	Config(ctx context.Context, core string) (object.Reader, object.Info, error)
	DeviceAssignment(ctx context.Context, device string) (protocol.DeviceAssignment, error)
	DeviceCertificate(ctx context.Context, device, csr string) (protocol.CSRResponse, error)
	DeviceCerts(ctx context.Context, device string) (object.Reader, object.Info, error)
	Distribution(ctx context.Context, digest string) (object.Reader, object.Info, error)
}

// Config is what New needs. All up to Realm are required.
type Config struct {
	Identities gateway.Identities
	// Claims also knows the certificates that can only be traded for one of the
	// device's own. They enrol, and nothing else.
	Claims      gateway.Identities
	Components  Components
	Cores       Cores
	RoleAliases RoleAliases
	Sessions    Sessions
	URLs        URLs
	Agents      Agents
	Realm       names.Realm

	Renewals Renewals // nil: certificates of agents are not renewed

	CAPEM   string  // what client devices trust
	Patches Patches // nil: there are none
	Help    Help    // nil: nothing is asked of devices

	Releases Releases // nil: no releases of the agent

	// Downloads serves links that carry their own permission, below /a/ and
	// without certificate; nil: none.
	Downloads http.Handler

	Log *slog.Logger
	Now func() time.Time
}

// API answers devices.
type API struct {
	cfg Config
	log *slog.Logger
	now func() time.Time
	// pace bounds what one address calls without certificate, places how many such
	// calls are carried out at once.
	pace   *pace.Rate[netip.Prefix]
	places chan struct{}

	refusals *pace.Rate[string] // that are logged, of each thing and of all who are none
}

// maxBody bounds the body of a request; the largest is a CSR in JSON.
const maxBody = 64 << 10

// New checks cfg and returns the handler of the device HTTPS listener.
func New(cfg Config) (http.Handler, error) {
	if cfg.Identities == nil || cfg.Claims == nil || cfg.Components == nil || cfg.Cores == nil || cfg.RoleAliases == nil || cfg.Sessions == nil || cfg.URLs == nil || cfg.Agents == nil {
		return nil, errors.New("deviceapi: Identities, Claims, Components, Cores, RoleAliases, Sessions, URLs and Agents are required")
	}
	a := &API{cfg: cfg, log: cfg.Log, now: cfg.Now, places: make(chan struct{}, maxOpen), pace: pace.NewRate[netip.Prefix](paceRate, paceBurst, paceKeep), refusals: pace.NewRate[string](1, 50, deviceKeep)}
	if a.log == nil {
		a.log = logx.Discard()
	}
	if a.now == nil {
		a.now = time.Now
	}
	device := http.NewServeMux()
	device.Handle("POST /greengrass/v2/resolveComponentCandidates", a.greengrass(a.resolve))
	device.Handle("GET /greengrass/v2/components/{arn}/artifacts/{name...}", a.greengrass(a.artifact))
	device.Handle("GET /greengrass/v2/coreDevices/{thing}/thingGroups", a.greengrass(a.thingGroups))
	device.Handle("GET /greengrass/things/{thing}/connectivityInfo", a.greengrass(a.connectivity))
	device.Handle("PUT /greengrass/things/{thing}/connectivityInfo", a.greengrass(a.setConnectivity))
	device.Handle("GET /role-aliases/{alias}/credentials", a.greengrass(a.credentials))
	device.Handle("GET "+protocol.PathDiscover+"{thing}", a.greengrass(a.discover))
	a.clientRoutes(device)
	device.Handle("GET "+protocol.PathAgentCore, a.agent(a.assignment))
	device.Handle("POST "+protocol.PathCoreCertificate, a.agent(a.certificate))
	device.Handle("GET "+protocol.PathCoreCerts, a.agent(a.certs))
	device.Handle("GET "+protocol.PathCoreConfig, a.agent(a.config))
	device.Handle("GET "+protocol.PathDistributions+"{digest}", a.agent(a.distribution))
	if cfg.Patches != nil {
		a.patchRoutes(device)
	}
	if cfg.Help != nil {
		a.helpRoutes(device)
	}
	all := http.NewServeMux()
	if cfg.Releases != nil {
		a.releaseRoutes(device, all)
	}
	device.Handle("/", a.greengrass(func(http.ResponseWriter, *http.Request, gateway.Identity) error {
		return fault.New(fault.NotFound, "no operation of the device API has this method and path")
	}))

	if cfg.Renewals != nil {
		a.renewRoutes(device, all)
	}
	all.Handle("POST "+protocol.PathEnroll, gate(a, a.enroll))
	if cfg.Downloads != nil {
		all.Handle("/a/", cfg.Downloads)
	}
	all.Handle("/", gateway.AdmitHTTP(cfg.Identities, a.log)(a.bounded(device)))
	return http.MaxBytesHandler(all, maxBody), nil
}

// How often one certificate calls, and how many of its calls are under way at once: a
// nucleus and an agent have a few, and one each for what a deployment downloads.
const (
	deviceRate  = 50 // a second
	deviceBurst = 1000
	deviceKeep  = 20_000 // certificates that are remembered at least
	maxOfOne    = 32
)

// bounded keeps one device from taking what all the others need.
func (a *API) bounded(next http.Handler) http.Handler {
	rate := pace.NewRate[string](deviceRate, deviceBurst, deviceKeep)
	places := pace.NewPlaces[string]("calls", math.MaxInt, maxOfOne)
	return a.greengrass(func(w http.ResponseWriter, r *http.Request, id gateway.Identity) error {
		if !rate.Allow(id.CertificateID, a.now()) {
			return fault.New(fault.Exhausted, "too many calls with this certificate; try again in a minute")
		}
		return placed(places, id.CertificateID, w, func() error {
			next.ServeHTTP(w, r)
			return nil
		})
	})
}

type handler func(w http.ResponseWriter, r *http.Request, id gateway.Identity) error

// greengrass answers a nucleus: errors in the form of restJson1, with the typed
// header that classic's SDK needs (nucleus-contract §4.1).
func (a *API) greengrass(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := gateway.FromContext(r.Context())
		if err := h(w, r, id); err != nil {
			a.refuse(w, r, id, err)
		}
	})
}

// agents answers ggfleet's agent, of a core or of a client device, for its own
// device and nobody else's.
func (a *API) agents(h func(w http.ResponseWriter, r *http.Request, s protocol.Subject) error) http.Handler {
	return a.greengrass(func(w http.ResponseWriter, r *http.Request, id gateway.Identity) error {
		s, is := protocol.AgentSubject(id.Thing, id.Attributes)
		if !is {
			return fault.New(fault.Denied, "the client certificate is not an agent's")
		}
		return h(w, r, s)
	})
}

// agent is agents for those of cores alone, client for those of client devices.
func (a *API) agent(h func(w http.ResponseWriter, r *http.Request, core string) error) http.Handler {
	return a.agents(only(protocol.RoleCore, h))
}

func (a *API) client(h func(w http.ResponseWriter, r *http.Request, device string) error) http.Handler {
	return a.agents(only(protocol.RoleClient, h))
}

func only(role protocol.Role, h func(w http.ResponseWriter, r *http.Request, name string) error) func(http.ResponseWriter, *http.Request, protocol.Subject) error {
	return func(w http.ResponseWriter, r *http.Request, s protocol.Subject) error {
		if s.Role != role {
			return fault.New(fault.Denied, "this call is for agents with role %s; the client certificate is of one with role %s", role, s.Role)
		}
		return h(w, r, s.Name)
	}
}

// refuse answers with the status of the error's kind in the form of restJson1.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, id gateway.Identity, err error) {
	p, log := problem.Of(err), a.log
	if !a.refusals.Allow(id.Thing, a.now()) { // who is refused all the time fills no disk
		log = logx.Discard()
	}
	p.Log(r.Context(), log, err, slog.String("path", r.URL.Path), slog.String(logx.Thing, id.Thing), slog.String(logx.Address, r.RemoteAddr))
	p.Headers(w.Header())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", exception(p.Status))
	w.WriteHeader(p.Status)
	body := map[string]string{"message": p.Message}
	if p.Status == http.StatusNotFound {
		body["resourceId"], body["resourceType"] = r.PathValue("arn"), "component"
	}
	_ = json.NewEncoder(w).Encode(body) // the device may be gone
}

func exception(status int) string {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return "ValidationException"
	case http.StatusForbidden, http.StatusUnauthorized:
		return "AccessDeniedException"
	case http.StatusNotFound:
		return "ResourceNotFoundException"
	case http.StatusConflict:
		return "ConflictException"
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return "ThrottlingException"
	}
	return "InternalServerException"
}

// allowed asks the certificate's policies.
func (a *API) allowed(r *http.Request, id gateway.Identity, action, resource string) error {
	v := policy.Vars{CertificateID: id.CertificateID, Certificate: r.TLS.PeerCertificates[0]}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		v.SourceIP, _ = netip.ParseAddr(host) // the zero address matches no condition
	}
	if policy.Decide(id.Policies, policy.Request{Action: action, Resource: resource, Vars: &v}) {
		return nil
	}
	return fault.New(fault.Denied, "the policies of certificate %s do not allow %s on %s", id.CertificateID, action, resource)
}

func answer(w http.ResponseWriter, v any) error { return answerWith(w, http.StatusOK, v) }

func answerWith(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // the device may be gone
	return nil
}

func decode(r *http.Request, v any) error {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		if _, big := errors.AsType[*http.MaxBytesError](err); big {
			return err
		}
		return fault.New(fault.Invalid, "the body is not the JSON expected: %v", err)
	}
	return nil
}
