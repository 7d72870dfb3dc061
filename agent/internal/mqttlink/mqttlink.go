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
)

const (
	keepAlive  = 60 // seconds
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

	MinWait, MaxWait time.Duration // between attempts; default 1 s and 2 min
	Log              *slog.Logger
}

// Link is one session.
type Link struct {
	cfg Config
	url *url.URL

	mu      sync.Mutex // guards manager
	manager *autopaho.ConnectionManager
	started chan struct{} // closed once manager is set

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
	return &Link{cfg: cfg, url: &url.URL{Scheme: "tls", Host: cfg.Address}, started: make(chan struct{})}, nil
}

// Run keeps the session until ctx is done, then ends it so that the broker
// publishes the will.
func (l *Link) Run(ctx context.Context) error {
	m, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{l.url}, TlsCfg: l.cfg.TLS, KeepAlive: keepAlive,
		CleanStartOnInitialConnection: true, // no session state: the spool is the memory
		ConnectTimeout:                ackTimeout,
		ReconnectBackoff:              l.wait,
		OnConnectionUp: func(m *autopaho.ConnectionManager, _ *paho.Connack) {
			l.cfg.Log.InfoContext(ctx, "connected", logx.Address, l.cfg.Address, logx.ClientID, l.cfg.ClientID)
			l.cfg.OnUp()
			if len(l.cfg.Notices) > 0 {
				l.listening.Go(func() { l.listen(ctx, m) })
			}
		},
		OnConnectError: func(err error) {
			if ctx.Err() == nil {
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
			OnClientError: func(err error) { l.cfg.Log.WarnContext(ctx, "connection lost", logx.Err, err) },
			OnServerDisconnect: func(d *paho.Disconnect) {
				l.cfg.Log.WarnContext(ctx, "disconnected by the server", "reason", d.ReasonCode)
			},
		},
	})
	if err != nil {
		return fmt.Errorf("mqtt: %w", err)
	}
	l.mu.Lock()
	l.manager = m
	l.mu.Unlock()
	close(l.started)
	<-ctx.Done()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	select {
	case <-m.Done():
	case <-grace.Done():
	}
	l.listening.Wait()
	return nil
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
	return d/2 + rand.N(d/2+1)
}

// Publish sends payload to topic with QoS 1 and returns once the broker has it.
// It waits for a connection until ctx is done. An error of kind fault.Invalid
// says that this message can never be sent; after any other it may be sent
// again.
func (l *Link) Publish(ctx context.Context, topic string, payload []byte) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.started:
	}
	l.mu.Lock()
	m := l.manager
	l.mu.Unlock()
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
