package iotapi

import (
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/claims"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Config is what New needs; all but Rate, Observe and Log is required.
type Config struct {
	Registry   *iot.Registry
	Greengrass *greengrass.Service
	Jobs       *jobs.Service
	Claims     *claims.Service
	Registrar  claims.Registrar
	Realm      names.Realm
	Host       string // where devices reach this server, without port
	Auth       rest.Authenticator

	Rate    float64 // requests a second for one access key; 0: no limit
	Observe func(service, operation string, status int, took time.Duration)
	Log     *slog.Logger
}

type api struct{ cfg Config }

// New returns the handler of the API.
func New(cfg Config) (http.Handler, error) {
	if cfg.Registry == nil || cfg.Greengrass == nil || cfg.Jobs == nil || cfg.Claims == nil || cfg.Registrar == nil || cfg.Realm.Account == "" || cfg.Host == "" {
		return nil, errors.New("iotapi: Registry, Greengrass, Jobs, Claims, Registrar, Realm and Host are required")
	}
	a := &api{cfg}
	return rest.New(rest.Config{
		Name: "iot", Operations: a.operations(), Patterns: patterns(), Error: awsError, Internal: internal(),
		Auth: cfg.Auth, Rate: cfg.Rate, Observe: cfg.Observe, Log: cfg.Log,
	})
}

// operations is the table of the API.
func (a *api) operations() []rest.Operation {
	return slices.Concat(
		a.thingOperations(), a.typeOperations(), a.groupOperations(), a.tagOperations(),
		a.certificateOperations(), a.caOperations(), a.principalOperations(), a.policyOperations(), a.attachmentOperations(),
		a.provisioningOperations(), a.endpointOperations(), a.roleAliasOperations(), a.jobOperations(), a.executionOperations(),
	)
}

// patterns are those of the API's model, by the names that checks use.
func patterns() map[string]*regexp.Regexp {
	return map[string]*regexp.Regexp{
		"thing":          regexp.MustCompile(`^[a-zA-Z0-9:_-]+$`),
		"thingGroupId":   regexp.MustCompile(`^[a-zA-Z0-9-]+$`),
		"payloadVersion": regexp.MustCompile(`^[0-9-]+$`),
		"attributeName":  regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#-]+$`),
		"attributeValue": regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#=\[\]-]*$`),
		"description":    regexp.MustCompile(`^[\x20-\x7e]*$`),
		"tagKey":         regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`),
		"policy":         regexp.MustCompile(`^[\w+=,.@-]+$`),
		"versionId":      regexp.MustCompile(`^[0-9]+$`),
		"hex":            regexp.MustCompile(`^(0x)?[a-fA-F0-9]+$`),
		"template":       regexp.MustCompile(`^[0-9A-Za-z_-]+$`),
		"roleAlias":      regexp.MustCompile(`^[\w=,@-]+$`),
		"job":            regexp.MustCompile(`^[a-zA-Z0-9_-]+$`),
		"printable":      regexp.MustCompile(`^\P{C}*$`),
		"reasonCode":     regexp.MustCompile(`^[\p{Lu}\p{Nd}_]*$`),
	}
}
