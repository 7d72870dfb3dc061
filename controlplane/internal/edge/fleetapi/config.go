package fleetapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// Config is what New needs. The ports are required, the rest has defaults that
// work.
type Config struct {
	Templates             Templates
	Cores                 Cores
	Devices               Devices
	Deployments           Deployments
	Components            Components
	ProvisioningTemplates ProvisioningTemplates
	Things                Things
	Patches               Patches
	Help                  Help
	Releases              Releases
	Enrollments           Enrollments
	Events                Events
	Webhooks              Webhooks
	Once                  Once
	Distributions         Distributions
	Activations           Activations
	Tokens                Tokens
	AccessKeys            AccessKeys
	System                System
	Auth                  Authenticator
	Metrics               http.Handler // answers GET /metrics

	Log *slog.Logger // nil: nothing is logged

	// Anonymous is who a request without a token is. Nil: it is refused.
	Anonymous *access.Principal

	MaxBody   int64 // bytes of a JSON or YAML body; 0: 16 MiB, some 40,000 cores in one task
	MaxUpload int64 // bytes of an artifact or archive; 0: 2 GiB, the limit of Greengrass

	// StallTimeout is how long a body may yield nothing. 0: 30 s.
	StallTimeout time.Duration

	// Rate and Burst bound the requests of one principal. 0: 500/s and 1,000.
	Rate  float64
	Burst int

	// BasePath is a path under which a proxy publishes the API, such as /fleet; it
	// is removed from the front of requests' paths. Empty: none.
	BasePath string

	// Heartbeat is how often a stream of events says that it is there and looks
	// whether its token still is, and SlowReader how long its reader may take for
	// what was sent. 0: 15 s each.
	Heartbeat  time.Duration
	SlowReader time.Duration
	MaxStreams int // of events, open at once; 0: 1,000

	// CORSOrigin is the one origin whose pages may call the API, or *. Empty:
	// none may.
	CORSOrigin string
}

func (c *Config) complete() error {
	var missing []error
	for _, p := range []struct {
		name  string
		value any
	}{
		{"Templates", c.Templates},
		{"Cores", c.Cores},
		{"Devices", c.Devices},
		{"Deployments", c.Deployments},
		{"Components", c.Components},
		{"ProvisioningTemplates", c.ProvisioningTemplates},
		{"Things", c.Things},
		{"Patches", c.Patches},
		{"Help", c.Help},
		{"Releases", c.Releases},
		{"Enrollments", c.Enrollments},
		{"Events", c.Events},
		{"Webhooks", c.Webhooks},
		{"Once", c.Once},
		{"Distributions", c.Distributions},
		{"Activations", c.Activations},
		{"Tokens", c.Tokens},
		{"AccessKeys", c.AccessKeys},
		{"System", c.System},
		{"Auth", c.Auth},
		{"Metrics", c.Metrics},
	} {
		if p.value == nil {
			missing = append(missing, fmt.Errorf("%s is required", p.name))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("fleetapi: %w", errors.Join(missing...))
	}
	if c.Log == nil {
		c.Log = logx.Discard()
	}
	if c.MaxBody == 0 {
		c.MaxBody = 16 << 20
	}
	if c.MaxUpload == 0 {
		c.MaxUpload = 2 << 30
	}
	if c.StallTimeout == 0 {
		c.StallTimeout = 30 * time.Second
	}
	if c.Rate == 0 {
		c.Rate = 500
	}
	if c.Burst == 0 {
		c.Burst = 1000
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.SlowReader == 0 {
		c.SlowReader = 15 * time.Second
	}
	if c.MaxStreams == 0 {
		c.MaxStreams = 1000
	}
	if c.BasePath = strings.Trim(c.BasePath, "/"); c.BasePath != "" {
		c.BasePath = "/" + c.BasePath
	}
	if c.Heartbeat < 0 || c.SlowReader < 0 || c.MaxStreams < 0 || c.MaxBody < 0 || c.MaxUpload < 0 || c.StallTimeout < 0 || c.Rate < 0 || c.Burst < 0 {
		return errors.New("fleetapi: limits must not be negative")
	}
	return nil
}
