package help_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/consent"
	"github.com/ggfleet/ggfleet/agent/internal/help"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// cloud is a control plane as strict as the real one.
type cloud struct {
	mu       sync.Mutex
	asked    []string // ids, the oldest first
	asks     map[string]protocol.HelpAsk
	runs     map[string][]string // that took a request
	parts    map[string]map[int]string
	results  map[string]protocol.HelpResult
	away     int // so many calls fail
	lose     int // so many calls happen, and their answers are lost
	calls    []string
	part     func(n int) // told of each part that is taken
	withdraw string      // id that is over
}

func newCloud() *cloud {
	return &cloud{asks: map[string]protocol.HelpAsk{}, runs: map[string][]string{}, parts: map[string]map[int]string{}, results: map[string]protocol.HelpResult{}}
}

func (c *cloud) ask(id string, a protocol.HelpAsk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, id)
	c.asks[id] = a
}

func (c *cloud) change(f func(c *cloud)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c)
}

func (c *cloud) result(id string) (protocol.HelpResult, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.results[id]
	return r, ok
}

// content is what the last run of a request sent.
func (c *cloud) content(t *testing.T, id string) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.results[id]
	out := ""
	for n := range len(c.parts[id+r.Run]) {
		p := c.parts[id+r.Run][n]
		require.True(t, len(p) == protocol.HelpPart || n == len(c.parts[id+r.Run])-1, "only the last part is short")
		out += p
	}
	require.Len(t, out, int(r.Size))
	if len(out) > 0 {
		sum := sha256.Sum256([]byte(out))
		require.Equal(t, r.Digest, hex.EncodeToString(sum[:]))
	}
	return out
}

// call counts one call; do happens unless the control plane is away.
func (c *cloud) call(ctx context.Context, name string, do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, name)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.away > 0 {
		c.away--
		return fault.New(fault.Unavailable, "away")
	}
	err := do()
	if err == nil && c.lose > 0 {
		c.lose--
		return fault.New(fault.Unavailable, "the answer is lost")
	}
	return err
}

func (c *cloud) open(id string) error {
	_, known := c.asks[id]
	if _, ended := c.results[id]; !known || ended || c.withdraw == id {
		return fault.New(fault.Conflict, "over")
	}
	return nil
}

func (c *cloud) Help(ctx context.Context) (l protocol.HelpList, err error) {
	return l, c.call(ctx, "list", func() error {
		for _, id := range c.asked {
			if c.open(id) == nil {
				l.Requests = append(l.Requests, protocol.HelpOffer{ID: id})
			}
		}
		return nil
	})
}

func (c *cloud) TakeHelp(ctx context.Context, id string, t protocol.HelpTake) (o protocol.HelpOrder, err error) {
	return o, c.call(ctx, "take", func() error {
		if err := c.open(id); err != nil {
			return err
		}
		if n := len(c.runs[id]); n == 0 || c.runs[id][n-1] != t.Run {
			c.runs[id] = append(c.runs[id], t.Run)
		}
		o = protocol.HelpOrder{ID: id, HelpAsk: c.asks[id]}
		return nil
	})
}

func (c *cloud) SendHelp(ctx context.Context, id, run string, part int, content []byte) error {
	return c.call(ctx, fmt.Sprintf("part %d", part), func() error {
		if err := c.open(id); err != nil {
			return err
		}
		if c.parts[id+run] == nil {
			c.parts[id+run] = map[int]string{}
		}
		c.parts[id+run][part] = string(content)
		if c.part != nil {
			c.part(part)
		}
		return nil
	})
}

func (c *cloud) ReportHelp(ctx context.Context, id string, r protocol.HelpResult) error {
	return c.call(ctx, "report", func() error {
		if c.open(id) == nil {
			c.results[id] = r
		}
		return nil
	})
}

// device does what a test says.
type device struct {
	log      help.Log
	logErr   error
	bundle   func(ctx context.Context, w io.Writer) error
	restarts []string
	mu       sync.Mutex
	err      error
}

func (d *device) Log(string, string) (help.Log, error) { return d.log, d.logErr }

func (d *device) Bundle(ctx context.Context, w io.Writer) error {
	if d.bundle == nil {
		return nil
	}
	return d.bundle(ctx, w)
}

func (d *device) Restart(_ context.Context, of, component string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.restarts = append(d.restarts, of+" "+component)
	return d.err
}

func (d *device) Diagnose(_ context.Context, name string, w io.Writer) error {
	if d.err != nil {
		return d.err
	}
	_, err := io.WriteString(w, name+" is well\n")
	return err
}

// fixture is a runner over a folder.
type fixture struct {
	*cloud
	*help.Runner
	root string
	dir  *localstate.Dir
}

func start(t *testing.T, d help.Device, allowed ...consent.Permission) *fixture {
	t.Helper()
	f := &fixture{cloud: newCloud(), root: t.TempDir()}
	f.allow(t, true, allowed...)
	var err error
	f.dir, err = localstate.Open(f.root, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.dir.Close() })
	f.Runner, err = help.New(help.Config{Dir: f.dir, Cloud: f.cloud, Device: d, Every: 5 * time.Minute, MinWait: time.Millisecond})
	require.NoError(t, err)
	return f
}

func (f *fixture) allow(t *testing.T, yes bool, list ...consent.Permission) {
	t.Helper()
	for _, p := range list {
		require.NoError(t, consent.Allow(filepath.Join(f.root, "agent"), p, yes))
	}
}

// serve runs the runner until the test ends.
func (f *fixture) serve(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}
