package awsapi

import (
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/sigv4"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// The services as clients name them in their credential scope. IoT's control
// plane is "iot" for most operations and "execute-api" for some SDKs; its data
// plane has had both names.
const (
	ServiceS3               = "s3"
	ServiceGreengrass       = "greengrass"
	ServiceIoT              = "iot"
	ServiceExecuteAPI       = "execute-api"
	ServiceIoTData          = "iotdata"
	ServiceIoTDeviceGateway = "iotdevicegateway"
	ServiceIoTJobsData      = "iot-jobs-data"
	ServiceSTS              = "sts"
)

// Limits of the endpoint.
const (
	maxHeader     = 32 << 10 // bytes of all headers of one request
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	stallTimeout  = time.Minute // without one byte moving, in either direction
)

// Config is what the endpoint needs.
type Config struct {
	// Services by the name in the credential scope. A service that is not in
	// it is answered 501. Each handler verifies signatures and bounds bodies itself.
	Services map[string]http.Handler
	Log      *slog.Logger // nil: discarded
}

// New returns the handler of the endpoint.
func New(cfg Config) http.Handler {
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	services := maps.Clone(cfg.Services)
	return steady(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scope, err := sigv4.ParseScope(r)
		if errors.Is(err, sigv4.ErrAnonymous) && r.Method == http.MethodOptions && services[ServiceS3] != nil {
			services[ServiceS3].ServeHTTP(w, r) // a browser's preflight is never signed
			return
		}
		if h := byPath(services, r); err != nil && h != nil {
			h.ServeHTTP(w, r) // it says in its own protocol what is wrong
			return
		}
		if err != nil {
			cfg.Log.DebugContext(r.Context(), "request without a usable signature", logx.Err, err, logx.Address, r.RemoteAddr)
			refuse(w, r, err)
			return
		}
		h := services[scope.Service]
		if h == nil {
			cfg.Log.DebugContext(r.Context(), "service is not served", "service", scope.Service, logx.Address, r.RemoteAddr)
			notServed(w, r, scope.Service)
			return
		}
		h.ServeHTTP(w, r)
	}))
}

// byPath returns the service whose path a request has that names none; nil: S3 has
// all the others.
func byPath(services map[string]http.Handler, r *http.Request) http.Handler {
	if h := services[ServiceGreengrass]; h != nil && strings.HasPrefix(r.URL.Path, "/greengrass/") {
		return h
	}
	for _, name := range []string{ServiceGreengrass, ServiceIoT} {
		if h, ok := services[name].(interface {
			http.Handler
			Serves(*http.Request) bool
		}); ok && h.Serves(r) {
			return h
		}
	}
	return nil
}

// NewServer returns the HTTP server of the endpoint for handler h, with its
// limits; the caller binds and serves. Whole requests have no time limit,
// because objects are large: a connection on which nothing moves has.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	if log == nil {
		log = logx.Discard()
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// ExternalS3 returns the handler of service s3 when artifacts lie in an S3 of
// its own: signatures made for that one cannot be checked here.
func ExternalS3(endpoint string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s3Error(w, r, http.StatusNotImplemented, "NotImplemented",
			"Artifacts lie in the S3 at "+endpoint+"; send S3 requests there, with its credentials (--endpoint-url, AWS_ENDPOINT_URL_S3).")
	})
}
