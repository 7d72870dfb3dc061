package gateway

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/ggfleet/ggfleet/shared/names"
)

// Config is what New needs. Identities, Reserved, Realm and TLS are required.
type Config struct {
	Identities Identities
	Reserved   Reserved
	Changes    Changes // nil: every session is checked again at each sweep
	Events     Events
	Realm      names.Realm
	TLS        *tls.Config // made by MQTTConfig
	Log        *slog.Logger
	Limits     Limits
}

// Limits bound what devices can make the gateway hold. Zero fields take the
// value named; the numbers of AWS IoT are in iot-api §22.
type Limits struct {
	Connections      int           // open sockets; over it, the handshake longest under way is given up: 20,000
	Handshakes       int           // worked on at once, see NewTurns; all: five thousand devices at once would time out in a queue
	PerCertificate   int           // connections and stored sessions of one certificate: 64
	FirstByte        time.Duration // from accept to a complete CONNECT, also when thousands come at once: 30 s
	Write            time.Duration // one write to a device; then it is dropped: 4 s
	Serve            time.Duration // one reserved request: 10 s
	SessionExpiry    time.Duration // longest life of a disconnected session: 1 h
	KeepAlive        time.Duration // longest; also for clients that name none: 1,200 s
	PacketBytes      int           // largest packet, also before CONNECT: 256 KiB
	PayloadBytes     int           // largest payload: 128 KiB
	PublishRate      float64       // publishes per second of a connection; more are read later: 1,000
	RequestRate      float64       // publishes to reserved topics per second of a certificate, over all its connections; more are read later: 200, after 1,000 at once
	Subscriptions    int           // filters of one session: 50
	FiltersPerPacket int           // filters of one SUBSCRIBE: 8
	ReceiveMaximum   int           // QoS 1 publishes a device may have unacknowledged: 100
	Outbox           int           // messages waiting for one device: 256
	Inflight         int           // QoS 1 messages kept for one session: 512
	Retained         int           // retained messages in all: 10,000
	RetainedOfOne    int           // topics on which one thing has messages retained: 64
}

func (l Limits) withDefaults() Limits {
	whole := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	span := func(n *time.Duration, d time.Duration) {
		if *n <= 0 {
			*n = d
		}
	}
	whole(&l.Connections, 20_000)
	whole(&l.Handshakes, 8*l.Connections) // an eighth may begin
	whole(&l.PerCertificate, 64)
	span(&l.FirstByte, 30*time.Second)
	span(&l.Write, 4*time.Second)
	span(&l.Serve, 10*time.Second)
	span(&l.SessionExpiry, time.Hour)
	span(&l.KeepAlive, 1200*time.Second)
	whole(&l.PacketBytes, 256<<10)
	whole(&l.PayloadBytes, 128<<10)
	whole(&l.Subscriptions, 50)
	whole(&l.FiltersPerPacket, 8)
	whole(&l.ReceiveMaximum, 100)
	whole(&l.Outbox, 256)
	whole(&l.Inflight, 512)
	whole(&l.Retained, 10_000)
	whole(&l.RetainedOfOne, 64)
	if l.PublishRate <= 0 {
		l.PublishRate = 1000
	}
	if l.RequestRate <= 0 {
		l.RequestRate = 200
	}
	return l
}

func (c Config) check() error {
	switch {
	case c.Identities == nil:
		return errors.New("gateway: Identities is required")
	case c.Reserved == nil:
		return errors.New("gateway: Reserved is required")
	case c.Realm.Region == "" || c.Realm.Account == "":
		return errors.New("gateway: Realm needs a region and an account")
	case c.TLS == nil || c.TLS.VerifyConnection == nil:
		return errors.New("gateway: TLS must be made by MQTTConfig")
	case c.Limits.KeepAlive > 43_690*time.Second: // the broker computes 1.5 × in 16 bits
		return errors.New("gateway: Limits.KeepAlive is over 43,690 s")
	}
	return nil
}
