package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/ggfleet/ggfleet/agent/internal/credential"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// places are the names of the core's files below the site's root.
type places struct{ cert, key, ca string }

// provision brings certificate, CA and installer configuration to where the
// nucleus looks for them, the configuration last: once it is there, all is
// there. It reports whether there is a configuration.
func (l *Loop) provision(ctx context.Context, a protocol.CoreAssignment) (bool, error) {
	doc, err := l.configuration(ctx, a)
	if err != nil {
		return false, err
	}
	at, err := l.places(doc)
	if err != nil {
		return false, err
	}
	if err := l.certificate(ctx, a, at); err != nil {
		return false, err
	}
	if a.CAPEM != "" {
		if err := l.write(ctx, localstate.CoreCA, nucleus.File{Name: at.ca, Data: []byte(a.CAPEM), Mode: 0o644}); err != nil {
			return false, err
		}
	}
	if doc == nil {
		return false, nil
	}
	return true, l.write(ctx, localstate.CoreConfig, nucleus.File{Name: nucleus.ConfigFile, Data: doc, Mode: 0o644})
}

// configuration returns the installer configuration for this device, or nil when
// the core has none. It is fetched at the start and whenever the assignment
// changed; otherwise the stored one stands, so that a quiet fleet asks one
// question a minute.
func (l *Loop) configuration(ctx context.Context, a protocol.CoreAssignment) ([]byte, error) {
	stored, err := l.cfg.Site.ReadFile(nucleus.ConfigFile, config.MaxDocument)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if !a.Config || len(stored) > 0 && l.seen != nil && reflect.DeepEqual(*l.seen, a) {
		return stored, nil
	}
	doc, err := l.cfg.Cloud.CoreConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("fetching the installer configuration: %w", err)
	}
	doc, err = config.RewriteSystemPaths(doc, filepath.ToSlash(l.cfg.Site.Path()))
	if err != nil {
		return nil, fmt.Errorf("the installer configuration: %w", err)
	}
	return doc, nil
}

// places reads from the configuration where the files belong. It is outside
// input, so it must not name what is the agent's own.
func (l *Loop) places(doc []byte) (places, error) {
	p := places{cert: "cert.pem", key: "private.key", ca: "AmazonRootCA1.pem"}
	if doc == nil {
		return p, nil
	}
	sys, err := config.ReadSystem(doc)
	if err != nil {
		return p, err
	}
	if sys.ThingName != "" && sys.ThingName != l.cfg.Core {
		return p, fault.Field("system.thingName", "%q is not %q, the core of this agent", sys.ThingName, l.cfg.Core)
	}
	taken := map[string]bool{nucleus.ConfigFile: true}
	for _, f := range []struct {
		field, path string
		at          *string
	}{{"certificateFilePath", sys.CertificateFilePath, &p.cert}, {"privateKeyPath", sys.PrivateKeyPath, &p.key}, {"rootCaPath", sys.RootCAPath, &p.ca}} {
		if f.path != "" {
			rel, err := filepath.Rel(l.cfg.Site.Path(), f.path)
			if err != nil {
				return p, fault.Field("system."+f.field, "%q is not below %s", f.path, l.cfg.Site.Path())
			}
			*f.at = path.Clean(filepath.ToSlash(rel))
		}
		top, _, _ := strings.Cut(*f.at, "/")
		switch top {
		case "", ".", "..", "agent", "versions", "current", "logs", "alts", "deployments", "packages", "work", "plugins", "telemetry":
			return p, fault.Field("system."+f.field, "%q is a place of the agent's own", *f.at)
		}
		if taken[*f.at] {
			return p, fault.Field("system."+f.field, "%q is used for another file as well", *f.at)
		}
		taken[*f.at] = true
	}
	return p, nil
}

// certificate sees to a certificate with its key.
func (l *Loop) certificate(ctx context.Context, a protocol.CoreAssignment, at places) error {
	return credential.Ensure(ctx, credential.Want{
		Name: l.cfg.Core, HasCertificate: a.HasCertificate, CertsZip: a.CertsZip, CertFile: at.cert, KeyFile: at.key,
		Key: localstate.CoreKey, Call: localstate.CoreCertCall, Certificate: localstate.CoreCertificate,
		Read: l.readFile, Do: l.cfg.Dir.Do, Sign: l.cfg.Cloud.CoreCertificate, Fetch: l.cfg.Cloud.CoreCerts,
		Write: func(p localstate.Point, name string, data []byte, mode fs.FileMode) error {
			return l.write(ctx, p, nucleus.File{Name: name, Data: data, Mode: mode})
		},
	})
}

func (l *Loop) readFile(name string) ([]byte, error) {
	b, err := l.cfg.Site.ReadFile(name, credential.MaxPEM)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// write carries out the step that makes f so, and notes when it changed
// something that the nucleus has read.
func (l *Loop) write(ctx context.Context, p localstate.Point, f nucleus.File) error {
	return nucleus.Plan{l.cfg.Site.WriteStep(f)}.Run(ctx, func(_ string, do func() error) error {
		l.changed = true
		return l.cfg.Dir.Do(p, do)
	})
}
