package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/credential"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Names below the folder of the device.
const (
	Folder     = "device" // below the agent's root
	ConfigName = "client.json"
	CertName   = identityLink + "/cert.pem"
	KeyName    = identityLink + "/private.key"
	caName     = "ca.pem"
	coresDir   = "cores"

	// Certificate and key change together: they lie in a folder of their own, and
	// the link to it is what changes.
	identityLink  = "identity"
	identitiesDir = "identities"

	maxFile = 1 << 20
)

// ControlPlane is the control plane as this package needs it.
type ControlPlane interface {
	Device(ctx context.Context) (protocol.DeviceAssignment, error)
	DeviceCertificate(ctx context.Context, csr string) (certificatePEM string, err error)
	DeviceCerts(ctx context.Context) ([]byte, error)
	// Discover asks as the device where its cores are; fault.NotFound: it has none.
	Discover(ctx context.Context, thing string, as tls.Certificate) (protocol.Discovery, error)
}

// LoopConfig is what a Loop needs.
type LoopConfig struct {
	Device string          // the name of the client device; an assignment for another is refused; required
	Dir    *localstate.Dir // required
	Cloud  ControlPlane    // required
	Group  string          // of the operating system, that may read the key; empty: nobody but the agent's user

	Every   time.Duration // between passes, spread by a fifth; default 5 min. Wake makes one begin at once
	MinWait time.Duration // after the first failed pass, doubling up to Every; default 1 s
	OnPass  func()        // called after each pass; nil: nobody is told
	Log     *slog.Logger
}

// Loop is the agent's main work on a client device.
type Loop struct {
	cfg  LoopConfig
	log  *slog.Logger
	root *os.Root // the device's folder
	path string
	wake run.Bell
	mu   sync.Mutex // held while certificate and key are changed or must fit
}

// New checks cfg and makes the device's folder. The caller closes the loop.
func New(cfg LoopConfig) (*Loop, error) {
	if cfg.Device == "" || cfg.Dir == nil || cfg.Cloud == nil {
		return nil, fault.New(fault.Invalid, "the loop of a client device needs a device, a folder and a control plane")
	}
	if cfg.Every <= 0 {
		cfg.Every = 5 * time.Minute
	}
	if cfg.MinWait <= 0 {
		cfg.MinWait = time.Second
	}
	if cfg.OnPass == nil {
		cfg.OnPass = func() {}
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	l := &Loop{cfg: cfg, log: cfg.Log, path: filepath.Join(cfg.Dir.Site(), Folder), wake: run.NewBell()}
	// The application is another user: it may pass through, and read what is for
	// it.
	for _, dir := range []string{coresDir, identitiesDir} {
		if err := os.MkdirAll(filepath.Join(l.path, dir), 0o755); err != nil { //nolint:gosec // so
			return nil, err
		}
	}
	if err := os.Chmod(cfg.Dir.Site(), 0o711); err != nil { //nolint:gosec // names in it stay unknown
		return nil, err
	}
	var err error
	if l.root, err = os.OpenRoot(l.path); err != nil {
		return nil, err
	}
	return l, nil
}

// Close releases the folder.
func (l *Loop) Close() error { return l.root.Close() }

// Wake makes a pass begin at once. It never blocks.
func (l *Loop) Wake() { l.wake.Ring() }

// Run keeps the device as assigned until ctx is done. A pass that fails is logged
// and tried again.
func (l *Loop) Run(ctx context.Context) error {
	for _, dir := range []string{".", coresDir, identitiesDir} {
		if err := durable.Sweep(l.root, dir); err != nil {
			return fmt.Errorf("clearing up: %w", err)
		}
	}
	backoff := run.Backoff{Min: l.cfg.MinWait, Max: l.cfg.Every}
	for ctx.Err() == nil {
		wait := run.Spread(l.cfg.Every)
		if err := l.Pass(ctx); err != nil {
			wait = backoff.Next()
			if ctx.Err() == nil {
				l.log.WarnContext(ctx, "pass failed, will try again", "after", wait, logx.Err, err)
			}
		} else {
			backoff.Reset()
		}
		l.cfg.OnPass()
		l.wake.Wait(ctx, wait)
	}
	return nil
}

// Pass makes one assignment true.
func (l *Loop) Pass(ctx context.Context) error {
	a, err := l.cfg.Cloud.Device(ctx)
	if err != nil {
		return fmt.Errorf("asking for the assignment: %w", err)
	}
	if a.Device != l.cfg.Device {
		return fault.New(fault.Invalid, "the control plane assigns device %q to the agent of %q", a.Device, l.cfg.Device)
	}
	if err := l.credential(ctx, a); err != nil {
		return err
	}
	if a.CAPEM != "" {
		if err := l.write(localstate.ClientTrust, caName, []byte(a.CAPEM), 0o644); err != nil {
			return err
		}
	}
	cores, err := l.discover(ctx)
	if err != nil {
		return err
	}
	return l.tell(a, cores)
}

func (l *Loop) credential(ctx context.Context, a protocol.DeviceAssignment) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.root.Stat(identityLink); errors.Is(err, fs.ErrNotExist) {
		if err := l.place("first"); err != nil {
			return err
		}
	}
	err := credential.Ensure(ctx, credential.Want{
		Name: a.Device, HasCertificate: a.HasCertificate, CertsZip: a.CertsZip, CertFile: CertName, KeyFile: KeyName,
		Key: localstate.ClientKey, Call: localstate.ClientCertCall, Certificate: localstate.ClientCertificate,
		Read: l.read, Write: l.write, Do: l.cfg.Dir.Do, Sign: l.cfg.Cloud.DeviceCertificate, Fetch: l.cfg.Cloud.DeviceCerts,
	})
	if err != nil {
		return err
	}
	return l.share(KeyName)
}

// share lets the application's group read a key.
func (l *Loop) share(name string) error {
	if l.cfg.Group == "" {
		return nil
	}
	if err := giveToGroup(l.root, name, l.cfg.Group); err != nil {
		return fmt.Errorf("letting group %s read the key: %w", l.cfg.Group, err)
	}
	return nil
}

// discover asks, as the device, where its cores are.
func (l *Loop) discover(ctx context.Context) ([]found, error) {
	cert, err := l.read(CertName)
	if err != nil {
		return nil, err
	}
	key, err := l.read(KeyName)
	if err != nil {
		return nil, err
	}
	as, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the device's certificate: %w", err)
	}
	d, err := l.cfg.Cloud.Discover(ctx, l.cfg.Device, as)
	if errors.Is(err, fault.NotFound) {
		return nil, nil // a device without a core
	}
	if err != nil {
		return nil, fmt.Errorf("asking where the cores are: %w", err)
	}
	cores, err := read(d)
	if err != nil {
		return nil, fmt.Errorf("where the cores are: %w", err)
	}
	return cores, nil
}

// tell writes what cores are trusted by and then the file for the application:
// what it names is there. Files of cores that are gone go last.
func (l *Loop) tell(a protocol.DeviceAssignment, cores []found) error {
	c := Config{
		Version: ConfigVersion, ThingName: a.Device, CertificateFilePath: filepath.Join(l.path, CertName), PrivateKeyPath: filepath.Join(l.path, KeyName),
		Cloud: Cloud{MQTTAddress: a.MQTTAddress, HTTPSURL: a.HTTPSURL, CAFilePath: filepath.Join(l.path, caName)}, Cores: []Core{},
	}
	// The control plane may name them in any order, and an order that changes
	// would rewrite the file.
	slices.SortStableFunc(cores, func(x, y found) int { return order(a.Core, x.core.ThingName, y.core.ThingName) })
	var keep []string
	for _, f := range cores {
		name := path.Join(coresDir, f.core.ThingName+".pem")
		if err := l.write(localstate.ClientTrust, name, []byte(f.cas), 0o644); err != nil {
			return err
		}
		f.core.CAFilePath = filepath.Join(l.path, filepath.FromSlash(name))
		c.Cores = append(c.Cores, f.core)
		keep = append(keep, path.Base(name))
	}
	b, err := c.encode()
	if err != nil {
		return err
	}
	if err := l.write(localstate.ClientConfig, ConfigName, b, 0o644); err != nil {
		return err
	}
	return l.prune(keep)
}

// order puts own first, then by name.
func order(own, x, y string) int {
	switch {
	case x == y:
		return 0
	case x == own:
		return -1
	case y == own:
		return 1
	case x < y:
		return -1
	}
	return 1
}

func (l *Loop) prune(keep []string) error {
	entries, err := fs.ReadDir(l.root.FS(), coresDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if slices.Contains(keep, e.Name()) {
			continue
		}
		name := path.Join(coresDir, e.Name())
		if err := l.cfg.Dir.Do(localstate.ClientPrune, func() error { return l.root.RemoveAll(name) }); err != nil {
			return err
		}
	}
	return nil
}

// read returns a file, nil when it is not there.
func (l *Loop) read(name string) ([]byte, error) {
	f, err := l.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// write makes the file so unless it is.
func (l *Loop) write(p localstate.Point, name string, data []byte, mode fs.FileMode) error {
	if old, err := l.read(name); err == nil && old != nil && bytes.Equal(old, data) {
		return nil
	}
	return l.cfg.Dir.Do(p, func() error { return durable.WriteFile(l.root, name, data, mode) })
}

// ReadConfig returns the file for the application in root, the agent's.
func ReadConfig(root string) (Config, error) {
	var c Config
	b, err := os.ReadFile(filepath.Join(root, Folder, ConfigName))
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(b, &c)
}
