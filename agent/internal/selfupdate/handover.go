package selfupdate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// releasesDir holds the slots, below the agent's folder; programName is the
// binary in each.
const (
	releasesDir = "releases"
	programName = "ggfleet-agent"
)

// releaseVar tells a release who it is: digest and the packaged agent's version.
const releaseVar = "GGFLEET_AGENT_RELEASE"

// Running is which program this process is.
type Running struct {
	Digest string // of a release; empty: the packaged agent
	Base   string // version of the packaged agent
}

// HandOverConfig is what HandOver needs.
type HandOverConfig struct {
	Root    string // of the agent
	Version string // of this program
	Around  localstate.Around
	Log     *slog.Logger

	// Exec turns this process into the program at path; nil: the system does.
	Exec func(path string, env []string) error
}

// HandOver turns this process into the program that is to be the agent. It
// returns when that is this one, also when the others cannot be run: a device
// without an agent is worse than one with an old agent.
func HandOver(ctx context.Context, cfg HandOverConfig) Running {
	if said, ok := os.LookupEnv(releaseVar); ok {
		_ = os.Unsetenv(releaseVar) // the agent's children are not releases
		if digest, base, ok := strings.Cut(said, " "); ok {
			return Running{Digest: digest, Base: base}
		}
	}
	own := Running{Base: cfg.Version}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	if cfg.Exec == nil {
		cfg.Exec = execute
	}
	if Supported() != nil {
		return own
	}
	agentDir := filepath.Join(cfg.Root, "agent")
	if _, err := os.Stat(filepath.Join(agentDir, RecordName)); err != nil {
		return own
	}
	h := handing{HandOverConfig: cfg, agentDir: agentDir}
	dir, err := localstate.Open(cfg.Root, cfg.Around)
	switch {
	case errors.Is(err, fault.Exists):
		return own // another agent runs here: Run will say so
	case err != nil:
		cfg.Log.WarnContext(ctx, "updates cannot be recorded", logx.Err, err)
	default:
		defer dir.Close() //nolint:errcheck // only the lock is left; exec releases it too
		h.dir = dir
	}
	h.run(ctx)
	return own
}

type handing struct {
	HandOverConfig
	agentDir string
	dir      *localstate.Dir // nil: nothing can be written
}

// run tries the programs that are to run, best first. It returns when none of
// them does.
func (h handing) run(ctx context.Context) {
	r, err := h.read()
	if err != nil {
		h.Log.ErrorContext(ctx, "record of updates cannot be read, the packaged agent runs", logx.Err, err)
		return
	}
	for range maxStarts { // trial, committed, and one for what cannot be thought of
		before := r.clone()
		slot, trial := r.next(h.Version, true)
		if err := h.store(before, r); err != nil {
			h.Log.WarnContext(ctx, "start of a release cannot be counted", logx.Err, err)
			r = before
			slot, trial = r.next(h.Version, false)
		}
		if slot == nil {
			return
		}
		s := *slot
		h.Log.InfoContext(ctx, "hands over", "version", s.Version, "trial", trial)
		err := h.become(s)
		h.Log.ErrorContext(ctx, "release cannot be run", "version", s.Version, logx.Err, err)
		before = r.clone()
		r.unusable(s.Digest, err.Error())
		if err := h.store(before, r); err != nil {
			h.Log.WarnContext(ctx, "broken release cannot be forgotten", logx.Err, err)
		}
	}
}

// become returns only with an error.
func (h handing) become(s Slot) error {
	path := program(h.agentDir, s)
	digest, _, err := digestOf(path)
	if err != nil {
		return err
	}
	if digest != s.Digest {
		return fault.New(fault.Invalid, "%s is damaged", path)
	}
	return h.Exec(path, append(os.Environ(), releaseVar+"="+s.Digest+" "+h.Version))
}

func (h handing) read() (r Record, err error) {
	b, err := os.ReadFile(filepath.Join(h.agentDir, RecordName))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(b, &r)
}

func (h handing) store(before, r Record) error {
	if reflect.DeepEqual(before, r) {
		return nil
	}
	if h.dir == nil {
		return errors.New("the agent's folder cannot be written")
	}
	return h.dir.Do(localstate.UpdateStart, func() error { return h.dir.WriteJSON(RecordName, r) })
}

func program(agentDir string, s Slot) string {
	return filepath.Join(agentDir, releasesDir, s.Name(), programName)
}

func digestOf(path string) (digest string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, fmt.Errorf("reading %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}
