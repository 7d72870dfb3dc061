package patching

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// Defaults of Config.
const (
	DefaultPrefix  = "device-patcher/"
	DefaultExpiry  = 7 * 24 * time.Hour
	DefaultTimeout = time.Hour
)

// Config is what New needs. Store, Objects, Devices, Links and ArtifactPrefix
// are required.
type Config struct {
	Store   state.Store
	Objects object.Store
	Devices Devices
	Links   Links
	Notices Notices // nil: devices find out when they ask

	// ArtifactPrefix begins the keys of devices' artifacts: a patch may link to
	// those of its own device.
	ArtifactPrefix string
	// AllowPrefixes begin the keys that patches of every device may link to.
	AllowPrefixes []string

	Prefix  string        // of playbooks in the bucket; default DefaultPrefix
	Expiry  time.Duration // of a patch that no device takes and reports; default DefaultExpiry
	Timeout time.Duration // of one run on the device; default DefaultTimeout

	Log *slog.Logger
	Now func() time.Time
}

// Service keeps patch templates and patches, and serves the agents that run
// them. Safe for concurrent use.
type Service struct {
	cfg   Config
	store state.Store
	log   *slog.Logger
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Objects == nil || cfg.Devices == nil || cfg.Links == nil || cfg.ArtifactPrefix == "" {
		return nil, errors.New("patching: Store, Objects, Devices, Links and ArtifactPrefix are required")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	if cfg.Expiry <= 0 {
		cfg.Expiry = DefaultExpiry
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	for _, p := range append([]string{cfg.Prefix, cfg.ArtifactPrefix}, cfg.AllowPrefixes...) {
		if p == "" || !strings.HasSuffix(p, "/") || object.CheckKey(p+"x") != nil {
			return nil, fmt.Errorf("patching: prefix %q must be a folder of the bucket: not empty, no slash before it, one after it", p)
		}
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg: cfg, store: cfg.Store, log: cfg.Log}, nil
}

func (s *Service) stamp() time.Time { return s.cfg.Now().UTC().Truncate(time.Millisecond) }

// Keys.
const (
	prefix         = state.Root + "patching/"
	templatePrefix = prefix + "template/"
	gonePrefix     = prefix + "template-gone/" // ids whose versions and playbooks are to be removed
	taskPrefix     = prefix + "task/"
	openPrefix     = prefix + "open/" // tasks whose creation is under way
	patchPrefix    = prefix + "patch/"
	queuePrefix    = prefix + "queue/"
)

func templateKey(name string) string { return templatePrefix + url.PathEscape(name) }
func versionsOf(id string) string    { return prefix + "template-version/" + id + "/" }
func versionKey(id string, n int) string {
	return fmt.Sprintf("%s%08d", versionsOf(id), n)
}
func goneKey(id string) string      { return gonePrefix + id }
func taskKey(id string) string      { return taskPrefix + url.PathEscape(id) }
func openKey(id string) string      { return openPrefix + id }
func patchKey(id string) string     { return patchPrefix + url.PathEscape(id) }
func byTask(id string) string       { return prefix + "by-task/" + url.PathEscape(id) + "/" }
func byDevice(device string) string { return prefix + "by-device/" + url.PathEscape(device) + "/" }
func queueOf(device string) string  { return queuePrefix + url.PathEscape(device) + "/" }

func onceKey(idem string) string {
	h := sha256.Sum256([]byte(idem))
	return prefix + "once/" + hex.EncodeToString(h[:])
}

// taskIndex orders the patches of a task as they were submitted.
func (p Patch) taskIndex() string { return fmt.Sprintf("%s%06d", byTask(p.TaskID), p.Seq) }

// deviceIndex orders the patches of a device, the newest first.
func (p Patch) deviceIndex() string {
	return fmt.Sprintf("%s%019d-%06d-%s", byDevice(p.DeviceID), math.MaxInt64-p.CreatedAt.UnixMilli(), MaxPatches-p.Seq, p.ID)
}

// queueKey orders what waits for a device, the oldest first.
func (p Patch) queueKey(at time.Time) string {
	return fmt.Sprintf("%s%019d-%06d-%s", queueOf(p.DeviceID), at.UnixMilli(), p.Seq, p.ID)
}

// record is a patch as it is stored.
type record struct {
	Patch
	Queue string `json:"queue,omitempty"` // key of its queue entry; empty once ended
}

// queued is an entry of a device's queue.
type queued struct {
	PatchID   string    `json:"patchId"`
	Attempt   int       `json:"attempt"`
	ExpiresAt time.Time `json:"expiresAt"`
}

func (p Page) count() int {
	if p.Count <= 0 || p.Count > MaxPage {
		return MaxPage
	}
	return p.Count
}

// list reads one page of keys below at.
func (s *Service) list(ctx context.Context, at string, p Page) (state.Page, error) {
	after := ""
	if p.After != "" {
		after = at + p.After
	}
	return s.store.List(ctx, at, after, p.count())
}
