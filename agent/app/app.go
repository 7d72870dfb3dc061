package app

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/enroll"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
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
	Health     time.Duration // between health reports
	Components time.Duration // between looks at what the nucleus runs
	Patches    time.Duration // between looks at what patches wait, beside notices
	SpoolBytes int64         // of reports that wait to be sent
	UpFor      time.Duration // after which a nucleus without ready file is proven
	Gate       time.Duration // in which a new nucleus must be proven
	Stop       time.Duration // between asking the nucleus to stop and killing it
	MinWait    time.Duration // before whatever failed is tried again the first time

	Around localstate.Around // nil outside tests
}

func (c Config) withDefaults() Config {
	if c.Root == "" {
		c.Root = DefaultRoot
	}
	if c.Log == nil {
		c.Log = logx.Discard()
	}
	return c
}

// Enrolled is who the agent is after Enroll.
type Enrolled struct {
	AgentThing string
	Core       string
	URL        string
	Fresh      bool // false: it was so before
}

// Enroll enrols the agent with the string of an activation (package enroll).
func Enroll(ctx context.Context, cfg Config, text string) (Enrolled, error) {
	cfg = cfg.withDefaults()
	dir, err := localstate.Open(cfg.Root, cfg.Around)
	if errors.Is(err, fault.Exists) {
		if id, ok := sameEnrollment(cfg.Root, text); ok { // by the agent that runs there
			return Enrolled{AgentThing: id.AgentThing, Core: id.Core, URL: id.URL}, nil
		}
	}
	if err != nil {
		return Enrolled{}, err
	}
	defer dir.Close() //nolint:errcheck // only the lock is left
	id, fresh, err := enroll.Run(ctx, enroll.Config{Dir: dir, Log: cfg.Log}, text)
	if err != nil {
		return Enrolled{}, err
	}
	return Enrolled{AgentThing: id.AgentThing, Core: id.Core, URL: id.URL, Fresh: fresh}, nil
}

// sameEnrollment returns the identity in root when the string text gave it.
func sameEnrollment(root, text string) (id identity.Identity, ok bool) {
	e, err := protocol.ParseEnrollment(text)
	if err != nil || readJSON(filepath.Join(root, "agent", "identity.json"), &id) != nil {
		return id, false
	}
	return id, id.ActivationID == e.ActivationID && id.CAFingerprint == e.CAFingerprint
}
