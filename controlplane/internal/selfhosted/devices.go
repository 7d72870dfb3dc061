package selfhosted

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/claims"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Identities is the registry as the gateway asks it.
type Identities struct{ Registry *iot.Registry }

// Identify implements gateway.Identities.
func (i Identities) Identify(ctx context.Context, leaf *x509.Certificate) (gateway.Identity, error) {
	id, err := i.Registry.Identify(ctx, leaf)
	return gateway.Identity{
		CertificateID: id.CertificateID, Thing: id.Thing, ThingType: id.ThingType, Attributes: id.Attributes, Policies: id.Policies,
	}, err
}

// Watch implements gateway.Changes.
func (i Identities) Watch(ctx context.Context, notify func(certificateIDs ...string)) error {
	return i.Registry.Changes(ctx, func(c iot.Change) {
		if c.All {
			notify()
		} else {
			notify(c.Certificate)
		}
	})
}

// Devices answers devices over MQTT: the services behind reserved topics, and
// who is connected. Make it with NewDevices, give it to the gateway, and then
// the gateway to Attach.
type Devices struct {
	greengrass *greengrass.Service
	announcer  *jobs.Announcer
	claims     *claims.Service // nil: nobody is served without thing
	sessions   *Sessions       // nil: there is no other replica
	log        *slog.Logger

	mu       sync.Mutex // guards presence and gateway
	presence map[string]seen
	gateway  *gateway.Gateway
}

type seen struct {
	sessions int
	at       time.Time
}

// NewDevices returns Devices without gateway: nobody is connected.
func NewDevices(j *jobs.Service, g *greengrass.Service, log *slog.Logger) *Devices {
	d := &Devices{greengrass: g, log: log, presence: map[string]seen{}}
	d.announcer = jobs.NewAnnouncer(j, d)
	return d
}

// Attach hands over the gateway that the devices connect to.
func (d *Devices) Attach(g *gateway.Gateway) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gateway = g
}

// Share makes d one of several replicas over store. It is called before Attach's
// gateway serves, if at all. moved is told each time that a thing has a session at
// another replica; it must be quick.
func (d *Devices) Share(store state.Store, moved func(thing string)) {
	d.sessions = newSessions(store, func(clientID string) {
		d.mu.Lock()
		g := d.gateway
		d.mu.Unlock()
		g.TakenOver(clientID)
	}, moved, d.log)
}

// Elsewhere tells whether the thing has a session at another replica.
func (d *Devices) Elsewhere(thing string) bool {
	return d.sessions != nil && d.sessions.elsewhere(thing)
}

// Run tells connected devices of new jobs until ctx is done.
func (d *Devices) Run(ctx context.Context) error {
	loops := []run.Loop{{Name: "announcer", Run: d.announcer.Run}}
	if d.sessions != nil {
		loops = append(loops, run.Loop{Name: "sessions", Run: d.sessions.Run})
	}
	return run.All(ctx, loops...)
}

// Behind is how many connected devices are still to be told of new jobs.
func (d *Devices) Behind() int { return d.announcer.Behind() }

// Events is what the gateway tells. published sees the plain topics.
func (d *Devices) Events(published func(gateway.Session, string, []byte)) gateway.Events {
	return gateway.Events{
		Connected: func(s gateway.Session, at time.Time) {
			d.count(s.Identity.Thing, 1, at)
			if d.shares(s) {
				d.sessions.began(s.ClientID)
			}
		},
		Disconnected: func(s gateway.Session, _ string, at time.Time) {
			d.count(s.Identity.Thing, -1, at)
			if d.shares(s) {
				d.sessions.ended(s.ClientID)
			}
		},
		Published: published,
		TooLarge: func(s gateway.Session, m gateway.Message, limit int) {
			d.announcer.TooLarge(s.Identity.Thing, jobs.Message{Topic: m.Topic, Payload: m.Payload, Job: m.Ref}, limit)
		},
	}
}

// shares tells whether other replicas are told of the session: a thing has at most
// one of these, however many client ids it makes up.
func (d *Devices) shares(s gateway.Session) bool {
	return d.sessions != nil && s.Identity.Thing != "" && s.ClientID == s.Identity.Thing
}

func (d *Devices) count(thing string, n int, at time.Time) {
	if thing == "" {
		return
	}
	d.mu.Lock()
	p := d.presence[thing]
	p.sessions, p.at = max(p.sessions+n, 0), at
	d.presence[thing] = p
	d.mu.Unlock()
	d.greengrass.Moved(thing)
	if p.sessions == 0 {
		d.announcer.Gone(thing)
	}
}

// Presence implements Presence.
func (d *Devices) Presence(thing string) (bool, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.presence[thing]
	if p.sessions > 0 || d.Elsewhere(thing) {
		return true, time.Now().UTC() // a live session is a sign of life
	}
	return false, p.at
}

// Connected implements jobs.Devices.
func (d *Devices) Connected(thing string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.presence[thing].sessions > 0
}

// Notify implements jobs.Devices.
func (d *Devices) Notify(thing string, m jobs.Message) int {
	d.mu.Lock()
	g := d.gateway
	d.mu.Unlock()
	if g == nil {
		return 0
	}
	r := g.Push(thing, gateway.Message{Topic: m.Topic, Payload: m.Payload, Ref: m.Job})
	if r.TooLarge > 0 {
		return r.Limit
	}
	return 0
}

// Serve implements gateway.Reserved.
func (d *Devices) Serve(ctx context.Context, s gateway.Session, topic string, payload []byte) ([]gateway.Message, error) {
	thing := s.Identity.Thing
	if thing == "" && d.claims != nil {
		return d.serveClaim(ctx, s, topic, payload)
	}
	rest, mine := strings.CutPrefix(topic, protocol.ThingPrefix(thing))
	if gci, ok := strings.CutPrefix(topic, protocol.ThingPrefix(thing+"-gci")); thing != "" && ok {
		return noShadow(topic, gci, payload)
	}
	if thing == "" || !mine {
		return nil, fault.New(fault.NotFound, "no service owns topic %s", topic)
	}
	switch {
	case strings.HasPrefix(rest, "jobs/"):
		return d.serveJobs(ctx, thing, topic, payload)
	case rest == "greengrassv2/health/json":
		return nil, d.report(ctx, thing, payload)
	case rest == "greengrass/health/json":
		return nil, nil // classic's own telemetry: read nowhere yet (nucleus-contract §2.5)
	case strings.HasPrefix(rest, "shadow/"):
		return noShadow(topic, rest, payload)
	}
	return nil, fault.New(fault.NotFound, "no service owns topic %s", topic)
}

// noShadow answers whoever asks for a shadow: no thing has one, because nothing
// here writes one. Classic asks at each start, and for its client devices those
// of T-gci, and waits when there is none (nucleus-contract §2.3, §2.6).
func noShadow(topic, rest string, payload []byte) ([]gateway.Message, error) {
	name, named := strings.CutPrefix(rest, "shadow/name/")
	name, get := strings.CutSuffix(name, "/get")
	if rest == "shadow/get" {
		name, _, _ = strings.Cut(strings.TrimPrefix(topic, "$aws/things/"), "/") // the unnamed one goes by the thing
	} else if !named || !get || name == "" || strings.Contains(name, "/") {
		return nil, fault.New(fault.NotFound, "no service owns topic %s", topic)
	}
	var in struct {
		ClientToken string `json:"clientToken"`
	}
	_ = json.Unmarshal(payload, &in) // the payload may be empty or anything else
	b, err := json.Marshal(struct {
		Code        int    `json:"code"`
		Message     string `json:"message"`
		Timestamp   int64  `json:"timestamp"`
		ClientToken string `json:"clientToken,omitempty"`
	}{404, "No shadow exists with name: '" + name + "'", time.Now().Unix(), in.ClientToken})
	if err != nil {
		return nil, err
	}
	return []gateway.Message{{Topic: protocol.Rejected(topic), Payload: b}}, nil
}

func (d *Devices) serveJobs(ctx context.Context, thing, topic string, payload []byte) ([]gateway.Message, error) {
	answers, err := d.announcer.Serve(ctx, thing, topic, payload)
	out := make([]gateway.Message, len(answers))
	for i, m := range answers {
		// AWS answers the requesting client also without a subscription (iot-api §19).
		out[i] = gateway.Message{Topic: m.Topic, Payload: m.Payload, Push: !m.Notice, Notice: m.Notice, Ref: m.Job}
	}
	return out, err
}

// report takes a fleet status. One that cannot be read is logged and dropped:
// the device would only send it again.
func (d *Devices) report(ctx context.Context, thing string, payload []byte) error {
	err := d.greengrass.Report(ctx, thing, payload)
	if errors.Is(err, fault.Invalid) || errors.Is(err, fault.TooLarge) {
		d.log.WarnContext(ctx, "fleet status refused", logx.Thing, thing, logx.Err, err)
		return nil
	}
	return err
}
