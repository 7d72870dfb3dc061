package simulator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

// Core is one simulated core device. Its methods are safe for concurrent use.
type Core struct {
	cfg    Config
	dialer net.Dialer

	inbox inbox
	jobs  chan job // lite's queue of ten

	mu        sync.Mutex
	dev       device
	sess      *session // nil while not connected
	launched  bool     // NUCLEUS_LAUNCH was sent
	last      job      // the last one taken up
	active    *active  // the deployment that runs
	reconnect time.Time

	flushing sync.Mutex // one sender of pending results at a time
}

// active is the running deployment; cancel takes it back until committed.
type active struct {
	job       string
	cancel    context.CancelCauseFunc
	committed bool
}

// errCanceled is the cause when the cloud takes a running deployment back.
var errCanceled = errors.New("the cloud canceled the deployment")

// New checks cfg and loads the state of StateDir. It starts nothing.
func New(cfg Config) (*Core, error) {
	if err := cfg.fill(); err != nil {
		return nil, fmt.Errorf("simulated core %s: %w", cfg.Thing, err)
	}
	c := &Core{cfg: cfg, jobs: make(chan job, 10), dialer: net.Dialer{Timeout: dialTimeout}}
	c.inbox.signal = make(chan struct{}, 1)
	if cfg.SourceIP.IsValid() {
		c.dialer.LocalAddr = &net.TCPAddr{IP: cfg.SourceIP.AsSlice()}
	}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("simulated core %s: %w", cfg.Thing, err)
	}
	return c, nil
}

// Run connects and serves until ctx is done; it reconnects for ever. After it
// returned the core may be run again: that is a restart of the runtime.
func (c *Core) Run(ctx context.Context) error {
	c.mu.Lock()
	c.launched, c.last = false, job{}
	for _, comp := range c.dev.Components {
		if comp.State == "BROKEN" {
			comp.State, comp.Details = "STARTING", nil // tried again after a restart
		}
	}
	c.mu.Unlock()
	err := run.All(ctx,
		run.Loop{Name: "connection", Run: c.connection},
		run.Loop{Name: "control", Run: c.control},
		run.Loop{Name: "deployments", Run: c.deployments},
	)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // an orderly stop, whatever ended first
	}
	return err
}

// Thing returns the core's name.
func (c *Core) Thing() string { return c.cfg.Thing }

// Components returns what is installed, in the order of installation.
func (c *Core) Components() []protocol.LocalComponent {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]protocol.LocalComponent, 0, len(c.dev.Components))
	for _, comp := range c.dev.Components {
		list = append(list, protocol.LocalComponent{Name: comp.Recipe.Name, Version: comp.Recipe.Version, State: comp.State})
	}
	return list
}

// Configuration returns a component's effective configuration: the recipe's
// default with all merges and resets in it.
func (c *Core) Configuration(component string) map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.configuration(component)
}

// Connected reports whether the MQTT session stands.
func (c *Core) Connected() bool { return c.session() != nil }

// SetComponentState makes an installed component change its state by itself, as
// when it dies at run time; the core reports it as COMPONENT_STATUS_CHANGE. It
// reports false when the component is not installed.
func (c *Core) SetComponentState(ctx context.Context, name, state string) bool {
	c.mu.Lock()
	comp := c.dev.component(name)
	if comp != nil {
		comp.State = state
		comp.Details = c.details(state, FailDies)
		c.saveLogged()
	}
	s := c.sess
	c.mu.Unlock()
	if comp == nil {
		return false
	}
	if s != nil {
		_ = c.sendStatus(ctx, s, report{trigger: protocol.TriggerComponentStatusChange, changed: []string{name}})
	}
	return true
}

// Drop closes the MQTT connection without DISCONNECT, as a lost network does.
func (c *Core) Drop() {
	if s := c.session(); s != nil {
		_ = s.conn.Close()
	}
}

func (c *Core) lite() bool { return c.cfg.Runtime == Lite }

func (c *Core) session() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sess
}

func (c *Core) event(e Event) {
	e.Thing = c.cfg.Thing
	c.cfg.Log.Debug("core event", logx.Thing, e.Thing, "kind", string(e.Kind), logx.Job, e.Job, "detail", e.Detail, logx.Err, e.Err)
	c.cfg.OnEvent(e)
}

// pause is one of the runtime's built-in pauses.
func (c *Core) pause(ctx context.Context, d time.Duration) {
	if c.cfg.PauseScale > 0 {
		_ = run.Sleep(ctx, time.Duration(float64(d)*c.cfg.PauseScale))
	}
}

// connection keeps one MQTT session up.
func (c *Core) connection(ctx context.Context) error {
	wait := run.Backoff{Min: c.cfg.ReconnectMin, Max: c.cfg.ReconnectMax}
	for clean := true; ctx.Err() == nil; {
		s, err := c.open(ctx, clean)
		if err == nil {
			wait.Reset()
			clean = c.lite() // classic resumes its session from the second connect on
			err = c.hold(ctx, s)
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // an orderly stop
		}
		c.event(Event{Kind: EventDisconnected, Detail: fmt.Sprint(err), Err: err})
		_ = run.Sleep(ctx, wait.Next())
	}
	return nil
}

func (c *Core) hold(ctx context.Context, s *session) error {
	c.mu.Lock()
	c.sess = s
	c.mu.Unlock()
	detail := ""
	if s.resumed {
		detail = "resumed"
	}
	c.event(Event{Kind: EventConnected, Detail: detail})
	c.inbox.put(item{up: s})
	err := s.serve(ctx)
	c.mu.Lock()
	c.sess = nil
	c.mu.Unlock()
	c.event(Event{Kind: EventLost})
	return err
}

// open connects once, with the runtime's own CONNECT.
func (c *Core) open(ctx context.Context, clean bool) (*session, error) {
	host, _, _ := net.SplitHostPort(c.cfg.MQTT)
	tc := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.cfg.RootCAs, Certificates: []tls.Certificate{c.cfg.Certificate}, ServerName: host}
	connect := mqttwire.Packet{Type: mqttwire.Connect, ClientID: c.cfg.Thing, CleanStart: true, KeepAlive: 30}
	s := &session{maxIn: liteMaxPacket, keepAlive: 30 * time.Second, strict: true}
	if c.lite() {
		connect.Props.MaximumPacketSize = liteMaxPacket
	} else {
		tc.NextProtos = []string{"x-amzn-mqtt-ca"}
		connect.KeepAlive, connect.CleanStart = 60, clean
		connect.Username = "?SDK=JavaV2&Version=1.31.0"
		connect.Props = mqttwire.Properties{SessionExpiry: 604800, ReceiveMaximum: 100}
		s = &session{maxIn: classicMaxPacket, keepAlive: 60 * time.Second}
	}
	s.onMessage = func(topic string, payload []byte) { c.inbox.put(item{topic: topic, payload: payload}) }
	if c.cfg.MQTTVersion == mqttwire.V311 && !c.lite() && clean {
		// Classic in 3.1.1 mode clears an old session first: connects clean,
		// disconnects, and connects again with clean session off.
		if err := dial(ctx, &c.dialer, c.cfg.MQTT, tc, connect, c.cfg.MQTTVersion, s); err != nil {
			return nil, err
		}
		_ = s.write(mqttwire.Packet{Type: mqttwire.Disconnect})
		_ = s.conn.Close()
		connect.CleanStart = false
	}
	if err := dial(ctx, &c.dialer, c.cfg.MQTT, tc, connect, c.cfg.MQTTVersion, s); err != nil {
		return nil, err
	}
	return s, nil
}

// control reacts to the session and to notifications, one at a time.
func (c *Core) control(ctx context.Context) error {
	cadence := time.NewTicker(c.cfg.StatusInterval)
	defer cadence.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-cadence.C:
			if s := c.session(); s != nil {
				_ = c.sendStatus(ctx, s, report{trigger: protocol.TriggerCadence, complete: true})
			}
		case <-c.inbox.signal:
			for _, it := range c.inbox.take() {
				c.react(ctx, it)
			}
		}
	}
}

func (c *Core) react(ctx context.Context, it item) {
	s := c.session()
	switch {
	case s == nil: // the next session begins by asking
	case it.up != nil && it.up != s: // already gone again
	case it.up != nil:
		if err := c.begin(ctx, s); err != nil {
			c.cfg.Log.WarnContext(ctx, "session start failed", logx.Thing, c.cfg.Thing, logx.Err, err)
			_ = s.conn.Close()
		}
	case it.flush:
		c.flush(ctx)
	case c.lite():
		c.liteNotified(ctx, s, it)
	default:
		c.classicNotified(ctx, s, it)
	}
}

// begin subscribes, says that the core is there, and asks for work.
func (c *Core) begin(ctx context.Context, s *session) error {
	c.mu.Lock()
	first := !c.launched
	c.mu.Unlock()
	r := report{trigger: protocol.TriggerNucleusLaunch, complete: true}
	if !first {
		r = report{trigger: protocol.TriggerReconnect}
	}
	start := c.classicBegin
	if c.lite() {
		start = c.liteBegin
	}
	if err := start(ctx, s, first, r); err != nil {
		return err
	}
	c.mu.Lock()
	c.launched = true
	c.mu.Unlock()
	c.restart(ctx, s, first)
	if c.cfg.StateDir != "" {
		if err := writeWhole(filepath.Join(c.cfg.StateDir, readyFile), []byte(time.Now().UTC().Format(time.RFC3339)+"\n")); err != nil {
			return fmt.Errorf("writing %s: %w", readyFile, err)
		}
	}
	c.event(Event{Kind: EventReady})
	return nil
}

// restart lets the components that a restart brought to STARTING arrive.
func (c *Core) restart(ctx context.Context, s *session, first bool) {
	if !first {
		return
	}
	c.mu.Lock()
	var changed []string
	for _, comp := range c.dev.Components {
		if comp.State == "STARTING" {
			c.settle(comp)
			changed = append(changed, comp.Recipe.Name)
		}
	}
	c.saveLogged()
	c.mu.Unlock()
	if len(changed) > 0 {
		_ = c.sendStatus(ctx, s, report{trigger: protocol.TriggerComponentStatusChange, changed: changed})
	}
}

// item is something for the control loop.
type item struct {
	up      *session // a new session
	flush   bool     // send pending results again
	topic   string   // a notification
	payload []byte
}

// inbox never blocks the reader of the connection. It holds few items: the
// oldest notifications go first, the newest tells all.
type inbox struct {
	mu     sync.Mutex
	items  []item
	signal chan struct{}
}

func (b *inbox) put(it item) {
	b.mu.Lock()
	if len(b.items) >= 64 {
		if i := slices.IndexFunc(b.items, func(x item) bool { return x.up == nil }); i >= 0 {
			b.items = slices.Delete(b.items, i, i+1)
		}
	}
	b.items = append(b.items, it)
	b.mu.Unlock()
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

func (b *inbox) take() []item {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = nil
	return items
}
