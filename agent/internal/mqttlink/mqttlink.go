// Package mqttlink is the agent's MQTT 5 session and the only owner of
// paho.golang. It connects as the agent's thing, again and again with growing
// and jittered waits, and publishes with QoS 1. It keeps nothing: what is not
// acknowledged is the caller's to send again.
package mqttlink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	// Seconds. A broker ends a session of which it hears nothing for one and a half of
	// these; docs/telemetry.md says what they cost.
	keepAlive  = 30
	ackTimeout = 15 * time.Second
	stopGrace  = 3 * time.Second
)

// Config describes the session.
type Config struct {
	Address  string      // host:port of the broker; required
	TLS      *tls.Config // required
	ClientID string      // required

	// Will returns topic and payload of the last will. It is called for each
	// attempt to connect, so that the will can say when its session began. The
	// broker publishes it when the session ends, also on an orderly stop.
	Will func() (topic string, payload []byte)

	// OnUp is called after each connect, on a goroutine of paho that must not
	// be held up.
	OnUp func()

	// Notices are the topics that are subscribed to after each connect. A notice's
	// function is called when a message came on its topic, and after each attempt
	// to subscribe, since what was sent before is lost. It must not block.
	Notices map[string]func()

	// OnTakenOver is called when the broker ends the session because another one
	// began under the same client id: another agent has this identity. It must not
	// block.
	OnTakenOver func()

	MinWait, MaxWait time.Duration // between attempts; default 1 s and 2 min
	Log              *slog.Logger
}

// Link is one session.
type Link struct {
	cfg Config
	url *url.URL

	mu      sync.Mutex                  // guards what follows
	manager *autopaho.ConnectionManager // of the connection that is used; nil: none now
	changed chan struct{}               // closed when manager changes
	ups     int                         // connects so far
	upped   chan struct{}               // closed at the next one
	up      bool
	rival   rival

	again     run.Bell       // Reconnect asks for a new connection
	listening sync.WaitGroup // of listen
}

// New checks cfg. Nothing is connected before Run.
func New(cfg Config) (*Link, error) {
	if cfg.Address == "" || cfg.TLS == nil || cfg.ClientID == "" || cfg.Will == nil {
		return nil, fault.New(fault.Invalid, "an MQTT session needs an address, TLS, a client id and a will")
	}
	if cfg.OnUp == nil {
		cfg.OnUp = func() {}
	}
	if cfg.MinWait <= 0 {
		cfg.MinWait = time.Second
	}
	if cfg.MaxWait <= 0 {
		cfg.MaxWait = 2 * time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	if cfg.OnTakenOver == nil {
		cfg.OnTakenOver = func() {}
	}
	return &Link{
		cfg: cfg, url: &url.URL{Scheme: "tls", Host: cfg.Address},
		changed: make(chan struct{}), upped: make(chan struct{}), again: run.NewBell(),
	}, nil
}

// Run keeps the session until ctx is done, then ends it so that the broker
// publishes the will.
func (l *Link) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := l.session(ctx); err != nil {
			return fmt.Errorf("mqtt: %w", err)
		}
	}
	return nil
}

// session is connected, again and again, until ctx is done or Reconnect asks for
// another.
func (l *Link) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{l.url}, TlsCfg: l.cfg.TLS, KeepAlive: keepAlive,
		CleanStartOnInitialConnection: true, // no session state: the spool is the memory
		ConnectTimeout:                ackTimeout,
		AttemptConnection:             dial,
		ReconnectBackoff:              l.wait,
		OnConnectionUp: func(m *autopaho.ConnectionManager, _ *paho.Connack) {
			l.cfg.Log.InfoContext(ctx, "connected", logx.Address, l.cfg.Address, logx.ClientID, l.cfg.ClientID)
			l.setUp(true)
			l.cfg.OnUp()
			if len(l.cfg.Notices) > 0 {
				l.listening.Go(func() { l.listen(ctx, m) })
			}
		},
		OnConnectionDown: func() bool { l.setUp(false); return true },
		OnConnectError: func(err error) {
			if ctx.Err() == nil && !errors.Is(err, errRival) {
				l.cfg.Log.WarnContext(ctx, "cannot connect, will try again", logx.Address, l.cfg.Address, logx.Err, err)
			}
		},
		ConnectPacketBuilder:    l.connect,
		DisconnectPacketBuilder: func() *paho.Disconnect { return &paho.Disconnect{ReasonCode: 0x04} }, // with will
		ClientConfig: paho.ClientConfig{
			ClientID: l.cfg.ClientID, PacketTimeout: ackTimeout,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				if notice := l.cfg.Notices[p.Packet.Topic]; notice != nil {
					notice()
				}
				return true, nil
			}},
			OnClientError:      func(err error) { l.cfg.Log.WarnContext(ctx, "connection lost", logx.Err, err) },
			OnServerDisconnect: func(d *paho.Disconnect) { l.disconnected(ctx, d.ReasonCode) },
		},
	})
	if err != nil {
		return err
	}
	l.use(m)
	select {
	case <-ctx.Done():
	case <-l.again:
		cancel()
	}
	l.use(nil)
	grace, done := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer done()
	select {
	case <-m.Done():
	case <-grace.Done():
	}
	l.setUp(false)
	l.listening.Wait()
	return nil
}

// use makes m the connection that Publish uses.
func (l *Link) use(m *autopaho.ConnectionManager) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.manager = m
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Link) setUp(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up = up; up {
		l.ups++
		close(l.upped)
		l.upped = make(chan struct{})
	}
}

// Connected reports whether the session is up now.
func (l *Link) Connected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// Reconnect ends the session and begins another, with the certificate that the
// TLS configuration shows now. It returns once that is up, or with ctx.Err().
func (l *Link) Reconnect(ctx context.Context) error {
	l.mu.Lock()
	manager := l.manager
	l.mu.Unlock()
	l.again.Ring()
	for {
		l.mu.Lock()
		now, up, changed, upped := l.manager, l.up, l.changed, l.upped
		l.mu.Unlock()
		if now != nil && now != manager && up {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-upped:
		}
	}
}

// listen subscribes to the topics. A broker that refuses one is no reason to
// give up the others, or the session.
func (l *Link) listen(ctx context.Context, m *autopaho.ConnectionManager) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	for topic, notice := range l.cfg.Notices {
		_, err := m.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 1}}})
		if err != nil && ctx.Err() == nil {
			l.cfg.Log.WarnContext(ctx, "cannot listen", logx.Topic, topic, logx.Err, err)
		}
		notice()
	}
}

func (l *Link) connect(c *paho.Connect, _ *url.URL) (*paho.Connect, error) {
	if l.rivalLeft() > 0 {
		return nil, errRival
	}
	topic, payload := l.cfg.Will()
	c.WillMessage = &paho.WillMessage{Topic: topic, Payload: payload, QoS: 1}
	c.WillProperties = &paho.WillProperties{}
	return c, nil
}

// wait doubles from MinWait to MaxWait and spreads by half. paho asks with 0
// before the first attempt of a connection that was lost: that one waits too, or
// all agents of a restarted server would be back in one instant.
func (l *Link) wait(attempt int) time.Duration {
	d := l.cfg.MaxWait
	if attempt < 16 {
		d = min(d, l.cfg.MinWait<<attempt)
	}
	return max(d/2+rand.N(d/2+1), l.rivalLeft())
}

// Publish sends payload to topic with QoS 1 and returns once the broker has it.
// It waits for a connection until ctx is done. An error of kind fault.Invalid
// says that this message can never be sent; after any other it may be sent
// again.
func (l *Link) Publish(ctx context.Context, topic string, payload []byte) error {
	m, err := l.connection(ctx)
	if err != nil {
		return err
	}
	if err := m.AwaitConnection(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	resp, err := m.Publish(ctx, &paho.Publish{QoS: 1, Topic: topic, Payload: payload})
	if resp != nil && resp.ReasonCode >= 0x80 {
		switch resp.ReasonCode {
		case 0x90, 0x95, 0x99: // topic name, packet too large, payload format
			return fault.New(fault.Invalid, "the broker can never take this message: reason 0x%02x", resp.ReasonCode)
		}
		return fault.New(fault.Unavailable, "the broker refused the message: reason 0x%02x", resp.ReasonCode)
	}
	if errors.Is(err, paho.ErrInvalidArguments) {
		return fault.New(fault.Invalid, "the message cannot be sent: %v", err)
	}
	return err
}

// connection waits for the one that is used.
func (l *Link) connection(ctx context.Context) (*autopaho.ConnectionManager, error) {
	for {
		l.mu.Lock()
		m, changed := l.manager, l.changed
		l.mu.Unlock()
		if m != nil {
			return m, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}
