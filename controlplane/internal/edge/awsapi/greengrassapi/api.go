package greengrassapi

import (
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/shared/names"
)

// URLs makes links under which anybody can download an artifact for a while.
type URLs interface {
	URL(key, sha256, fileName string) (string, error)
}

// Config is what New needs; all but Rate, Observe and Log is required.
type Config struct {
	Greengrass *greengrass.Service
	Components *component.Service
	Registry   *iot.Registry
	URLs       URLs
	Realm      names.Realm
	Auth       rest.Authenticator

	Rate    float64 // requests a second for one access key; 0: no limit
	Observe func(service, operation string, status int, took time.Duration)
	Log     *slog.Logger
}

type api struct{ cfg Config }

// maxBody leaves room for a merge of the largest size that the API knows, so that
// its refusal names it.
const maxBody = 16 << 20

// New returns the handler of the API.
func New(cfg Config) (http.Handler, error) {
	if cfg.Greengrass == nil || cfg.Components == nil || cfg.Registry == nil || cfg.URLs == nil || cfg.Realm.Account == "" {
		return nil, errors.New("greengrassapi: Greengrass, Components, Registry, URLs and Realm are required")
	}
	a := &api{cfg}
	return rest.New(rest.Config{
		Name: "greengrass", Operations: a.operations(), Patterns: patterns(), Error: awsError, Internal: internal(),
		Auth: cfg.Auth, Rate: cfg.Rate, MaxBody: maxBody, Observe: cfg.Observe, Log: cfg.Log,
	})
}

// operations is the table of the API.
func (a *api) operations() []rest.Operation {
	return slices.Concat(a.deploymentOperations(), a.componentOperations(), a.coreOperations(), a.deviceOperations(), a.accountOperations(), a.tagOperations())
}

// patterns are those of the API's model (greengrassv2-api §1.6), by the names that
// checks use.
func patterns() map[string]*regexp.Regexp {
	return map[string]*regexp.Regexp{
		"target":           regexp.MustCompile(`^arn:[^:]*:iot:[^:]*:[0-9]+:(thing|thinggroup)/.+$`),
		"thingGroup":       regexp.MustCompile(`^arn:[^:]*:iot:[^:]*:[0-9]+:thinggroup/.+$`),
		"component":        regexp.MustCompile(`^arn:[^:]*:greengrass:[^:]*:(aws|[0-9]+):components:[^:]+$`),
		"componentVersion": regexp.MustCompile(`^arn:[^:]*:greengrass:[^:]*:(aws|[0-9]+):components:[^:]+:versions:[^:]+$`),
		"resource":         regexp.MustCompile(`^arn:[^:]*:greengrass:[^:]*:(aws|[0-9]+):(components|deployments|coreDevices):.*$`),
		"clientToken":      regexp.MustCompile(`^[a-zA-Z0-9-]+$`),
		"pointer":          regexp.MustCompile(`^(/.*)?$`),
	}
}
