package app

import (
	"log/slog"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// DefaultRoot is where the agent lives unless told otherwise.
const DefaultRoot = localstate.DefaultRoot

// lastWords is how long a stopping agent tries to send what it still has to say.
const lastWords = 2 * time.Second

// A loop of which nothing is heard for so long hangs (svc.Watchdog).
const (
	passStall   = 15 * time.Minute // more than the longest single step of an installation
	reportStall = 3 * time.Minute  // more than a slow disk takes for one report
)

// Config is what the agent needs. Zero times and sizes get the defaults of the
// parts that they belong to.
type Config struct {
	Root string // default DefaultRoot
	Log  *slog.Logger

	Poll       time.Duration // between looks at the assignment
	Rest       time.Duration // between looks at everything that notices tell of, while they come
	Health     time.Duration // between health reports
	Components time.Duration // between looks at what the nucleus runs
	Patches    time.Duration // between looks at what patches wait, beside notices
	SpoolBytes int64         // of reports that wait to be sent
	UpFor      time.Duration // after which a nucleus without ready file is proven
	Gate       time.Duration // in which a new nucleus must be proven
	Settle     time.Duration // in which a crash loop of a new nucleus makes the agent go back
	Stop       time.Duration // between asking the nucleus to stop and killing it
	Renewal    time.Duration // between looks at certificates
	MinWait    time.Duration // before whatever failed is tried again the first time

	// A release of the agent on trial: how long, how long at least, and how long
	// before it is tried again (package selfupdate).
	UpdateTrial, UpdateSettle, UpdateRetry time.Duration

	Version string // of this program; default the build's

	Enroll Enrollment // how to enrol, for Enroll alone

	System nucleus.System    // the host; default the one that this process runs on
	Around localstate.Around // nil outside tests
}

func (c Config) withDefaults() Config {
	if c.Root == "" {
		c.Root = DefaultRoot
	}
	if c.Log == nil {
		c.Log = logx.Discard()
	}
	if c.System == nil {
		c.System = nucleus.NewHost()
	}
	if c.Version == "" {
		c.Version = buildinfo.Version
	}
	c.fromBuild()
	return c
}
