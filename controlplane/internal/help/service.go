package help

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// DefaultPrefix is where contents lie in the bucket.
const DefaultPrefix = "help/"

// Config is what New needs. Store, Objects and Devices are required.
type Config struct {
	Store   state.Store
	Objects object.Store
	Devices Devices
	Notices Notices // nil: devices find out when they ask
	Prefix  string  // of contents in the bucket, with a slash at its end; default DefaultPrefix
	Log     *slog.Logger
	Now     func() time.Time
}

// Service keeps requests and serves the agents that carry them out. Safe for
// concurrent use.
type Service struct {
	cfg   Config
	store state.Store
	log   *slog.Logger
}

// NewService checks cfg; it starts nothing.
func NewService(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Objects == nil || cfg.Devices == nil {
		return nil, errors.New("help: Store, Objects and Devices are required")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	if !strings.HasSuffix(cfg.Prefix, "/") || object.CheckKey(cfg.Prefix+"x") != nil {
		return nil, fmt.Errorf("help: prefix %q must be a folder of the bucket: no slash before it, one after it", cfg.Prefix)
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
	prefix        = state.Root + "help/"
	requestPrefix = prefix + "request/"
	waitingPrefix = prefix + "waiting/" // one record for each device that has open requests
	duePrefix     = prefix + "due/"     // when something is to happen to a request
)

func requestKey(id string) string     { return requestPrefix + url.PathEscape(id) }
func waitingKey(device string) string { return waitingPrefix + url.PathEscape(device) }
func ofDevice(device string) string   { return prefix + "of/" + url.PathEscape(device) + "/" }
func dueAt(t time.Time) string        { return fmt.Sprintf("%s%015d", duePrefix, t.UnixMilli()) }

// index orders the requests of a device, the newest first.
func (r Request) index() string {
	return fmt.Sprintf("%s%019d-%s", ofDevice(r.Device), math.MaxInt64-r.CreatedAt.UnixMilli(), r.ID)
}

// record is a request as it is stored.
type record struct {
	Request
	Run string `json:"run,omitempty"` // that has taken it
	Due string `json:"due"`           // key of its entry below duePrefix
}

// due makes at the time when something is to happen to r, in b.
func (r *record) due(b *state.Batch, at time.Time) {
	if r.Due != "" {
		b.Delete(r.Due)
	}
	r.ExpiresAt = at
	r.Due = dueAt(at) + "-" + r.ID
	b.Put(r.Due, r.ID)
}

// open is the requests of one device that have not ended, the oldest first.
type open struct {
	Role     string   `json:"role"`
	Requests []string `json:"requests"`
}

func missing(id string) error {
	return fault.New(fault.NotFound, "help request %q does not exist", fault.Brief(id))
}

// Request returns a request, or fault.NotFound.
func (s *Service) Request(ctx context.Context, id string) (Request, error) {
	r, err := s.read(ctx, id)
	return r.Value.Request, err
}

func (s *Service) read(ctx context.Context, id string) (state.Record[record], error) {
	r, err := state.Read[record](ctx, s.store, requestKey(id))
	if errors.Is(err, fault.NotFound) {
		return r, missing(id)
	}
	return r, err
}

// Requests lists the requests of a device, the newest first. next is the After
// of the following page, "" on the last.
func (s *Service) Requests(ctx context.Context, device string, p Page) (_ []Request, next string, _ error) {
	if strings.ContainsAny(p.After, "/%") || len(p.After) > 128 {
		return nil, "", fault.Field("exclusiveStartToken", "%q is no token of a page before", fault.Brief(p.After))
	}
	if p.Count <= 0 || p.Count > MaxPage {
		p.Count = MaxPage
	}
	at, after := ofDevice(device), ""
	if p.After != "" {
		after = at + p.After
	}
	page, err := s.store.List(ctx, at, after, p.Count)
	if err != nil {
		return nil, "", fmt.Errorf("list help requests of %s: %w", device, err)
	}
	out := []Request{}
	for _, e := range page.Entries {
		id, err := state.Decode[string](e)
		if err != nil {
			return nil, "", err
		}
		next = strings.TrimPrefix(e.Key, at)
		r, err := s.Request(ctx, id.Value)
		if errors.Is(err, fault.NotFound) {
			continue // removed in this moment
		}
		if err != nil {
			return nil, "", err
		}
		out = append(out, r)
	}
	if !page.More {
		next = ""
	}
	return out, next, nil
}
