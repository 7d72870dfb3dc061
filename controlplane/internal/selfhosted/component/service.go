package component

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/clienttoken"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/recipe/semver"
	"github.com/ggfleet/ggfleet/shared/run"
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
	// MaxComponents and MaxVersions are the quotas for components of the account
	// and for versions of one; 0: AWS's 5,000. Creations at the same moment may
	// pass a quota by their number.
	MaxComponents, MaxVersions int
	Now                        func() time.Time // nil: time.Now
	Log                        *slog.Logger     // nil: none
}

// Service keeps component versions. All methods are safe for concurrent use,
// and work before and without Run, only slower; but for the checks of artifacts,
// which Run does.
type Service struct {
	cfg     Config
	mirror  *state.Mirror[indexed]
	catalog *catalog
	due     *queue
	tokens  *clienttoken.Tokens
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
	if cfg.MaxComponents == 0 {
		cfg.MaxComponents = 5000
	}
	if cfg.MaxVersions == 0 {
		cfg.MaxVersions = 5000
	}
	tokens, err := clienttoken.New(clienttoken.Config{Store: cfg.Store, Now: cfg.Now, Log: cfg.Log})
	if err != nil {
		return nil, fmt.Errorf("component service: %w", err)
	}
	s := &Service{cfg: cfg, catalog: newCatalog(), due: newQueue(), tokens: tokens}
	s.mirror = state.NewMirror(cfg.Store, prefix, func(key string, before, after *indexed) {
		s.catalog.change(before, after)
		s.due.change(key, after)
	})
	return s, nil
}

// Run keeps the index of versions in memory until ctx is done, and checks the
// artifacts of new versions: of all replicas one does.
func (s *Service) Run(ctx context.Context) error {
	return run.All(ctx,
		run.Loop{Name: "component index", Run: s.mirror.Run},
		run.Loop{Name: "component checks", Run: s.stand},
	)
}

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

// GetByARN is Get for the ARN of a component version: the whole ARN must be its
// own, region and account included.
func (s *Service) GetByARN(ctx context.Context, arn string) (Version, error) {
	name, version, err := names.ParseComponentVersionARN(arn)
	if err != nil {
		return Version{}, err
	}
	v, err := s.Get(ctx, name, version)
	if err == nil && v.ARN != arn {
		return Version{}, fault.New(fault.NotFound, "there is no component version %s", arn)
	}
	return v, err
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
	all, err := s.index(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("list components: %w", err)
	}
	latest := all.latest(func(v *indexed) bool {
		return v.Name > after && (scope == ScopeAll || v.Public == (scope == ScopePublic))
	})
	slices.SortFunc(latest, func(a, b *indexed) int { return strings.Compare(a.Name, b.Name) })
	if more = limit > 0 && len(latest) > limit; more {
		latest = latest[:limit]
	}
	for _, v := range latest {
		arn, _, _ := strings.Cut(v.ARN, ":versions:")
		list = append(list, Component{Name: v.Name, ARN: arn, Latest: v.Version})
	}
	return list, more, nil
}

// ListVersions returns the versions of a component, the highest first.
// fault.NotFound if it has none.
func (s *Service) ListVersions(ctx context.Context, name string) ([]Version, error) {
	all, err := s.index(ctx)
	if err != nil {
		return nil, fmt.Errorf("list versions of component %s: %w", name, err)
	}
	versions := all.of(name)
	if len(versions) == 0 {
		return nil, fault.New(fault.NotFound, "there is no component %s", name)
	}
	list := make([]Version, len(versions))
	for i, v := range versions {
		list[i] = v.Version
	}
	return list, nil
}

// ListVersionsOf is ListVersions for the ARN of a component (without a version):
// the versions below after ("": all), at most limit. more tells whether there are
// further ones. A component that is not there has none.
func (s *Service) ListVersionsOf(ctx context.Context, arn, after string, limit int) (list []Version, more bool, err error) {
	_, name, _ := strings.Cut(arn, ":components:")
	if err := names.CheckComponent(name); err != nil {
		return nil, false, fault.New(fault.Invalid, "%q is not the ARN of a component", arn)
	}
	var last indexed
	if last.Version.Version = after; after != "" {
		if last.number, err = semver.Parse(after); err != nil {
			return nil, false, err
		}
	}
	all, err := s.index(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("list versions of component %s: %w", name, err)
	}
	for _, v := range all.of(name) {
		if !strings.HasPrefix(v.ARN, arn+":versions:") {
			continue // the same name, provided by somebody else
		}
		if after != "" && byVersion(v, &last) <= 0 {
			continue
		}
		if len(list) == limit {
			return list, true, nil
		}
		list = append(list, v.Version)
	}
	return list, false, nil
}
