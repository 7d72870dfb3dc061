package fault_test

import (
	"archive/zip"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
	"github.com/ggfleet/ggfleet/test/simulator"
)

// objects are all objects of an embedded artifact store by key, read from its
// files: that needs no server.
func objects(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	root := filepath.Join(dir, "s3", "objects", "ggfleet")
	all := map[string][]byte{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		key, err := filepath.Rel(root, path)
		if err == nil {
			all[filepath.ToSlash(key)], err = os.ReadFile(path)
		}
		return err
	}))
	return all
}

func artifactKey(core, file string) string {
	return "greengrass2/artifacts/" + core + "/" + core + "/" + file
}

// keyPair reads certs.zip.
func keyPair(archive []byte) (tls.Certificate, error) {
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return tls.Certificate{}, err
	}
	var parts [2][]byte
	for i, name := range []string{"certs/cert.pem", "certs/private.key"} {
		f, err := z.Open(name)
		if err != nil {
			return tls.Certificate{}, err
		}
		if parts[i], err = io.ReadAll(io.LimitReader(f, 1<<20)); err != nil {
			return tls.Certificate{}, err
		}
	}
	return tls.X509KeyPair(parts[0], parts[1])
}

// cores are simulated cores that run in this process.
type cores struct {
	fleets []*simulator.Fleet
	stops  []func()
	change func(*simulator.Config) // of each that is added; nil: nothing

	mu       sync.Mutex
	finished map[string]map[string][]string // core → deployment id → how it ended, each time
	events   map[string][]string            // core → all that happened on it, for who has to find out
}

// runCores runs simulated cores with what the artifact store holds for them.
func runCores(t *testing.T, w *world.World, names []string) *cores {
	t.Helper()
	c := &cores{finished: map[string]map[string][]string{}, events: map[string][]string{}}
	c.add(t, w, names...)
	return c
}

// add runs further cores.
func (c *cores) add(t *testing.T, w *world.World, names ...string) {
	t.Helper()
	have := objects(t, w.Dir)
	configs := make([]simulator.Config, len(names))
	for i, name := range names {
		cert, err := keyPair(have[artifactKey(name, "certs.zip")])
		require.NoError(t, err, name)
		cfg := simConfig(t, w, have[artifactKey(name, "installerConfig.yml")], cert)
		if i%2 == 1 {
			cfg.Runtime = simulator.Classic
		}
		if c.change != nil {
			c.change(&cfg)
		}
		cfg.OnEvent = c.record
		configs[i] = cfg
	}
	fleet, err := simulator.NewFleet(simulator.FleetConfig{Cores: configs})
	require.NoError(t, err)
	ctx, cancel := background(t)
	done := make(chan error, 1)
	go func() { done <- fleet.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	t.Cleanup(stop)
	c.fleets, c.stops = append(c.fleets, fleet), append(c.stops, stop)
}

// stop ends all cores.
func (c *cores) stop() {
	for _, stop := range c.stops {
		stop()
	}
}

// refusals tells what the cores did not understand.
func (c *cores) refusals() (n int64, first string) {
	for _, f := range c.fleets {
		s := f.Stats()
		if n += s.Refused; first == "" {
			first = s.FirstRefusal
		}
	}
	return n, first
}

func simConfig(t *testing.T, w *world.World, installer []byte, cert tls.Certificate) simulator.Config {
	t.Helper()
	cfg, _, err := simulator.ParseInstallerConfig(installer)
	require.NoError(t, err)
	cfg.Certificate, cfg.RootCAs, cfg.Version = cert, w.Roots, ""
	// The runtime gives up a download after some tries; a restart of ggfleet must fit between them.
	cfg.RetryBase, cfg.ReconnectMin, cfg.ReconnectMax = 500*time.Millisecond, 20*time.Millisecond, 200*time.Millisecond
	return cfg
}

func (c *cores) record(e simulator.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events[e.Thing] = append(c.events[e.Thing], fmt.Sprintf("%s %s %s %v", e.Kind, e.Job, e.Detail, e.Err))
	if e.Kind != simulator.EventFinished {
		return
	}
	if c.finished[e.Thing] == nil {
		c.finished[e.Thing] = map[string][]string{}
	}
	how := e.Detail
	if e.Err != nil {
		how = fmt.Sprintf("%s: %v", e.Detail, e.Err)
	}
	c.finished[e.Thing][e.Deployment] = append(c.finished[e.Thing][e.Deployment], how)
}

// history tells what happened on a core.
func (c *cores) history(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.events[name], "\n")
}

// times is how often a core carried out a deployment, to whatever end.
func (c *cores) times(name string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ends := range c.finished[name] {
		n += len(ends)
	}
	return n
}

// appliedOnce requires that each core carried out exactly these deployments, each
// once and with success.
func (c *cores) appliedOnce(t *testing.T, names []string, deployments ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	want := map[string][]string{}
	for _, d := range deployments {
		want[d] = []string{"SUCCEEDED"}
	}
	for _, name := range names {
		assert.Equal(t, want, c.finished[name], name)
	}
}
