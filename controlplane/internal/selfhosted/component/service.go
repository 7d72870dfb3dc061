package component

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/recipe/semver"
)

// Config is what New needs.
type Config struct {
	Store   state.Store // a state.Hub, so that what was just written is read
	Objects object.Store
	Realm   names.Realm
	// Prefix begins the key of every artifact, such as "components/". It ends
	// with a slash.
	Prefix string
	// Private begins keys that no recipe may name by s3:, because what lies there
	// is not for devices: the private keys of cores, above all.
	Private []string
	// TempDir takes an upload until its digest is known. "": the system's.
	TempDir string
	// InUse names what needs a version, or "" if nothing does. nil: nothing.
	InUse func(ctx context.Context, name, version string) (by string, err error)
	Now   func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: none
}

// Service keeps component versions. All methods are safe for concurrent use,
// and work before and without Run, only slower.
type Service struct {
	cfg    Config
	mirror *state.Mirror[indexed]
}

// indexed is a stored version with its number parsed once.
type indexed struct {
	Version
	number semver.Version
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *indexed) UnmarshalJSON(raw []byte) (err error) {
	if err := json.Unmarshal(raw, &v.Version); err != nil {
		return err
	}
	v.number, err = semver.Parse(v.Version.Version)
	return err
}

// New returns the service; Run keeps its index.
func New(cfg Config) (*Service, error) {
	switch {
	case cfg.Store == nil || cfg.Objects == nil:
		return nil, errors.New("component service: Store and Objects are required")
	case cfg.Realm.Region == "" || cfg.Realm.Account == "":
		return nil, errors.New("component service: Realm needs a region and an account")
	case !strings.HasSuffix(cfg.Prefix, "/"):
		return nil, fmt.Errorf("component service: Prefix %q must end with a slash", cfg.Prefix)
	}
	if cfg.InUse == nil {
		cfg.InUse = func(context.Context, string, string) (string, error) { return "", nil }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	return &Service{cfg: cfg, mirror: state.NewMirror[indexed](cfg.Store, prefix, nil)}, nil
}

// Run keeps the index of versions in memory until ctx is done.
func (s *Service) Run(ctx context.Context) error { return s.mirror.Run(ctx) }

// Ready is closed once the index is complete.
func (s *Service) Ready() <-chan struct{} { return s.mirror.Ready() }

// Get returns one version, as last committed. fault.NotFound if there is none.
func (s *Service) Get(ctx context.Context, name, version string) (Version, error) {
	r, err := state.Read[Version](ctx, s.cfg.Store, keyOf(name, version))
	if errors.Is(err, fault.NotFound) || err == nil && r.Value.Deleting {
		return Version{}, notFound(name, version)
	}
	if err != nil {
		return Version{}, fmt.Errorf("read component %s %s: %w", name, version, err)
	}
	return r.Value, nil
}

// GetByARN is Get for the ARN of a component version.
func (s *Service) GetByARN(ctx context.Context, arn string) (Version, error) {
	name, version, err := names.ParseComponentVersionARN(arn)
	if err != nil {
		return Version{}, err
	}
	return s.Get(ctx, name, version)
}

func notFound(name, version string) error {
	return fault.New(fault.NotFound, "component %s has no version %s", name, version)
}

// Scope selects components by who provides them.
type Scope string

// The scopes of the Greengrass V2 API.
const (
	ScopePrivate Scope = "PRIVATE" // made here
	ScopePublic  Scope = "PUBLIC"  // in the place of what AWS provides, stubs included
	ScopeAll     Scope = ""
)

// Component is a component with its latest version by semantic order.
type Component struct {
	Name   string
	ARN    string // without a version
	Latest Version
}

// List returns the components of scope by name, after the name after, at most
// limit (0: no limit). more tells whether there are further ones.
func (s *Service) List(ctx context.Context, scope Scope, after string, limit int) (list []Component, more bool, err error) {
	all, err := s.under(ctx, prefix)
	if err != nil {
		return nil, false, err
	}
	latest := map[string]*indexed{}
	for _, v := range all {
		if scope == ScopePublic && !v.Public || scope == ScopePrivate && v.Public || v.Name <= after {
			continue
		}
		if l := latest[v.Name]; l == nil || newer(v, l) > 0 {
			latest[v.Name] = v
		}
	}
	for _, v := range latest {
		arn, _, _ := strings.Cut(v.ARN, ":versions:")
		list = append(list, Component{Name: v.Name, ARN: arn, Latest: v.Version})
	}
	slices.SortFunc(list, func(a, b Component) int { return strings.Compare(a.Name, b.Name) })
	if limit > 0 && len(list) > limit {
		return list[:limit], true, nil
	}
	return list, false, nil
}

// ListVersions returns the versions of a component, the highest first.
// fault.NotFound if it has none.
func (s *Service) ListVersions(ctx context.Context, name string) ([]Version, error) {
	all, err := s.versionsOf(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fault.New(fault.NotFound, "there is no component %s", name)
	}
	list := make([]Version, len(all))
	for i, v := range all {
		list[i] = v.Version
	}
	return list, nil
}

// newer orders by semantic version; the text decides between two that differ
// only in their build part.
func newer(a, b *indexed) int {
	return cmp.Or(a.number.Compare(b.number), strings.Compare(a.Version.Version, b.Version.Version))
}

// versionsOf returns all versions of a component, the highest first.
func (s *Service) versionsOf(ctx context.Context, name string) ([]*indexed, error) {
	list, err := s.under(ctx, prefix+name+"/")
	slices.SortFunc(list, func(a, b *indexed) int { return newer(b, a) })
	return list, err
}

// under reads the index, or the store while the index is not complete.
func (s *Service) under(ctx context.Context, prefix string) ([]*indexed, error) {
	select {
	case <-s.mirror.Ready():
	default:
		return s.stored(ctx, prefix)
	}
	items, _ := s.mirror.RangeUnder(prefix, "", 0, func(_ string, v *indexed) bool { return !v.Deleting })
	list := make([]*indexed, len(items))
	for i, it := range items {
		list[i] = it.Value
	}
	return list, nil
}

func (s *Service) stored(ctx context.Context, prefix string) ([]*indexed, error) {
	var list []*indexed
	err := state.All(ctx, s.cfg.Store, prefix, func(_ string, r state.Record[indexed]) error {
		if !r.Value.Deleting {
			list = append(list, &r.Value)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list components: %w", err)
	}
	return list, nil
}
