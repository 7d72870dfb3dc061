package reconcile

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/ggfleet/ggfleet/agent/internal/credential"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/installer/nucleus"
)

// Words of a distribution's runtime.
const (
	runtimeClassic = config.RuntimeClassic
	runtimeLite    = config.RuntimeLite
)

func runtimeOf(layout nucleus.Layout) string {
	switch layout {
	case nucleus.LayoutClassic:
		return runtimeClassic
	case nucleus.LayoutLitePackage, nucleus.LayoutLiteFiles:
		return runtimeLite
	case nucleus.LayoutProgram:
	}
	return ""
}

// LiteSite is where the versions of nucleus lite lie: its daemons, which are not
// root, must be able to read them and must not write them. The agent's own folder
// is closed to them.
const LiteSite = "/var/lib/ggfleet-nucleus"

// site returns the folder that the versions of a layout lie in.
func (l *Loop) site(layout nucleus.Layout) (*nucleus.Site, error) {
	if runtimeOf(layout) != "" && l.cfg.Broken != nil {
		return nil, l.cfg.Broken
	}
	switch runtimeOf(layout) {
	case runtimeClassic:
		return l.open(l.cfg.Settings.Root)
	case runtimeLite:
		return l.open(LiteSite)
	}
	return l.cfg.Site, nil
}

func (l *Loop) open(root string) (*nucleus.Site, error) {
	if s := l.others[root]; s != nil {
		return s, nil
	}
	for dir := root; dir != "/"; dir = path.Dir(dir) {
		if _, err := l.sys.Lstat(dir); err == nil {
			break
		}
		l.made = append(l.made, dir)
	}
	if len(l.made) > 0 {
		if err := l.sys.MkdirAll(root, 0o755); err != nil {
			return nil, err
		}
	}
	s, err := nucleus.OpenSite(l.sys.Path(root), nucleus.Limits{})
	if err == nil {
		l.others[root] = s
	}
	return s, err
}

// sites are the folders that versions may lie in, as far as they are in use.
func (l *Loop) sites() []*nucleus.Site {
	return slices.AppendSeq([]*nucleus.Site{l.cfg.Site}, maps.Values(l.others))
}

// closeSites closes all but the agent's own folder.
func (l *Loop) closeSites() (err error) {
	for root, s := range l.others {
		err = errors.Join(err, s.Close())
		delete(l.others, root)
	}
	return err
}

// asksFor is the runtime that the stored configuration is for.
func (l *Loop) asksFor() string {
	doc, err := l.cfg.Site.ReadFile(nucleus.ConfigFile, config.MaxDocument)
	if err != nil {
		return ""
	}
	return config.Runtime(doc)
}

// options are what the plan of a nucleus of this layout is told. For classic and
// lite the configuration is the stored one with the paths of their own root, and
// the core's files are brought there. A nucleus that was adopted keeps its own.
func (l *Loop) options(ctx context.Context, r Record, layout nucleus.Layout) (nucleus.Options, error) {
	o := nucleus.Options{Classic: l.cfg.Settings.Classic, Lite: l.cfg.Settings.Lite}
	var err error
	if o.Config, err = l.document(r, layout); err != nil || o.Config == nil {
		return o, err
	}
	if l.dry {
		o.Brought = l.atHand()
		return o, nil
	}
	stored, err := l.cfg.Site.ReadFile(nucleus.ConfigFile, config.MaxDocument)
	if err != nil {
		return o, err
	}
	return o, l.deliver(ctx, stored, o.Config)
}

// document is the installer configuration with the paths of a classic or lite
// nucleus's own root; nil when it needs none, or there is none: the plan says
// whether it misses it.
func (l *Loop) document(r Record, layout nucleus.Layout) ([]byte, error) {
	if runtimeOf(layout) == "" || r.Adopted != nil && runtimeOf(r.Adopted.Layout) == runtimeOf(layout) {
		return nil, nil
	}
	if l.cfg.Broken != nil {
		return nil, l.cfg.Broken
	}
	stored, err := l.given, error(nil)
	if len(stored) == 0 {
		stored, err = l.cfg.Site.ReadFile(nucleus.ConfigFile, config.MaxDocument)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	home := l.cfg.Settings.Root
	if layout != nucleus.LayoutClassic {
		home = DefaultLiteRoot
	}
	return config.RewriteSystemPaths(stored, home)
}

// atHand reports whether the files that deliver brings are there.
func (l *Loop) atHand() bool {
	doc := l.given
	if len(doc) == 0 {
		doc, _ = l.cfg.Site.ReadFile(nucleus.ConfigFile, config.MaxDocument)
	}
	here, err := config.ReadSystem(doc)
	for _, name := range []string{here.PrivateKeyPath, here.CertificateFilePath, here.RootCAPath} {
		if err == nil && name != "" {
			_, err = l.readHost(name)
		}
	}
	return err == nil
}

// deliver copies the core's certificate, key and CA from where the document from
// has them to where the document to wants them. What is there and the same is left
// alone, with its owner.
func (l *Loop) deliver(ctx context.Context, from, to []byte) error {
	here, err := config.ReadSystem(from)
	if err != nil {
		return err
	}
	there, err := config.ReadSystem(to)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		point    localstate.Point
		from, to string
		mode     fs.FileMode
	}{
		{localstate.CoreKey, here.PrivateKeyPath, there.PrivateKeyPath, 0o600},
		{localstate.CoreCertificate, here.CertificateFilePath, there.CertificateFilePath, 0o644},
		{localstate.CoreCA, here.RootCAPath, there.RootCAPath, 0o644},
	} {
		if f.from == "" || f.from == f.to {
			continue
		}
		f.to = l.sys.Name(f.to) // the stored document names files as this process sees them
		want, err := l.readHost(f.from)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the plan says what it misses
		}
		if err != nil {
			return err
		}
		got, err := l.sys.ReadFile(f.to)
		if err == nil && bytes.Equal(got, want) {
			continue
		}
		err = l.cfg.Dir.Do(f.point, func() error { return l.put(f.to, want, f.mode) })
		if err != nil {
			return err
		}
		l.changed, l.ready = true, false
	}
	return ctx.Err()
}

// readHost reads a file that a document names. The paths of the stored document are
// those of this process, of all others those of the host.
func (l *Loop) readHost(name string) ([]byte, error) {
	if rel, err := filepath.Rel(l.cfg.Site.Path(), name); err == nil && filepath.IsLocal(rel) {
		return l.cfg.Site.ReadFile(path.Clean(filepath.ToSlash(rel)), credential.MaxPEM)
	}
	return l.sys.ReadFile(name)
}

// put writes a file of the host and leaves it to whom it belonged.
func (l *Loop) put(name string, data []byte, mode fs.FileMode) error {
	uid, gid, ownerErr := l.sys.Owner(name)
	if err := l.sys.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if info, err := l.sys.Lstat(name); err == nil {
		mode = info.Mode().Perm()
	}
	if err := l.sys.WriteFile(name, data, mode); err != nil {
		return err
	}
	if ownerErr == nil && (uid != os.Getuid() || gid != os.Getgid()) {
		return l.sys.Chown(name, uid, gid)
	}
	return nil
}

// prepared is a version with the plan that makes it ready and the step that
// switches to it.
type prepared struct {
	Installed
	site     *nucleus.Site
	manifest nucleus.Manifest
	options  nucleus.Options
	plan     nucleus.Plan
	change   nucleus.Step
}

// prepare makes the plan of a version that is unpacked, or of which m is known.
func (l *Loop) prepare(ctx context.Context, r Record, v Installed, m *nucleus.Manifest) (p prepared, err error) {
	p.Installed = v
	if p.site, err = l.site(v.Layout); err != nil {
		return p, err
	}
	if m == nil {
		found, err := p.site.Manifest(v.id())
		if err != nil {
			return p, err
		}
		m = &found
	}
	p.manifest, p.Layout = *m, m.Layout
	if p.options, err = l.options(ctx, r, m.Layout); err != nil {
		return p, err
	}
	p.plan, p.change, err = p.site.Plan(v.id(), *m, p.options, l.sys)
	return p, err
}

// spec is how a prepared version is run.
func (l *Loop) spec(p prepared, instead ...string) (process.Spec, error) {
	launch, err := p.site.Launch(p.id(), p.manifest, p.options, l.sys)
	s := process.Spec{Version: p.id(), Manifest: p.manifest, Launch: launch, Root: p.site.Path(), Instead: others(instead, launch.Unit)}
	if launch.Unit != "" {
		s.Intact = func(ctx context.Context) error { return intact(ctx, p) }
	}
	return s, err
}

func others(units []string, but string) (out []string) {
	for _, u := range units {
		if u != "" && u != but {
			out = append(out, u)
		}
	}
	return out
}
