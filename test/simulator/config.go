package simulator

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

// Runtime says whose habits a simulated core has.
type Runtime string

// The two runtimes.
const (
	Lite    Runtime = "lite"
	Classic Runtime = "classic"
)

// Failure is what goes wrong with a component when it is deployed.
type Failure string

// The ways to fail. Both end BROKEN.
const (
	FailDies    Failure = "dies"    // its run script exits with an error
	FailInstall Failure = "install" // its install script does
)

// Config describes one simulated core device. Thing, MQTT, DataPlane,
// Credentials, RoleAlias, Certificate and RootCAs are mandatory.
type Config struct {
	Thing       string
	MQTT        string // host:port
	DataPlane   string // host:port
	Credentials string // host:port
	RoleAlias   string
	Region      string // default us-east-1; ARNs of components must carry it (classic)
	Certificate tls.Certificate
	RootCAs     *x509.CertPool

	Runtime     Runtime // default Lite
	Version     string  // reported as ggcVersion; default 2.6.0 (lite), 2.18.0 (classic)
	MQTTVersion byte    // mqttwire.V5 (default) or V311

	SourceIP       netip.Addr    // bound for every connection; zero: the system's choice
	StatusInterval time.Duration // of CADENCE messages; default 24 h
	StateDir       string        // empty: state lives in memory

	Fail         map[string]Failure // component name → what goes wrong with it
	PauseScale   float64            // of the runtime's built-in pauses, about 16 s a deployment; 0: none, 1: as they are
	RetryBase    time.Duration      // first wait of HTTPS retries, doubled each time; default 1 s
	ReconnectMin time.Duration      // default 5 s
	ReconnectMax time.Duration      // default 5 min

	Log     *slog.Logger
	OnEvent func(Event) // called from the core's goroutines; must not block
}

// EventKind says what happened on a core.
type EventKind string

// The events.
const (
	EventConnected    EventKind = "connected"    // CONNACK received; Detail "resumed" when the session was there
	EventLost         EventKind = "lost"         // a session that stood ended, for whatever reason
	EventDisconnected EventKind = "disconnected" // the session ended or could not be opened, and it will try again; Detail: why
	EventReady        EventKind = "ready"        // subscribed and first status sent
	EventJob          EventKind = "job"          // a deployment was taken up
	EventIgnored      EventKind = "ignored"      // a job was seen and left alone; Detail: why
	EventRefused      EventKind = "refused"      // an answer was not as the runtime needs it; Detail: why
	EventStatus       EventKind = "status"       // a fleet status was sent; Detail: its trigger
	EventFinished     EventKind = "finished"     // a deployment ended; Detail: SUCCEEDED, FAILED, …; Err: why
	EventReported     EventKind = "reported"     // the cloud accepted the result of a deployment
	EventCanceled     EventKind = "canceled"     // the cloud took a running deployment back (classic)
)

// Event is one thing that happened on a core.
type Event struct {
	Thing      string
	Kind       EventKind
	Job        string
	Deployment string
	Detail     string
	Err        error
}

func (c *Config) fill() error {
	for field, v := range map[string]string{"Thing": c.Thing, "MQTT": c.MQTT, "DataPlane": c.DataPlane, "Credentials": c.Credentials, "RoleAlias": c.RoleAlias} {
		if v == "" {
			return fault.Field(field, "is empty")
		}
	}
	for field, v := range map[string]string{"MQTT": c.MQTT, "DataPlane": c.DataPlane, "Credentials": c.Credentials} {
		if _, _, err := net.SplitHostPort(v); err != nil {
			return fault.Field(field, "is %q, want host:port", v)
		}
	}
	if len(c.Certificate.Certificate) == 0 || c.Certificate.PrivateKey == nil {
		return fault.Field("Certificate", "needs a certificate and its key")
	}
	if c.RootCAs == nil {
		return fault.Field("RootCAs", "is empty: a runtime trusts its root CA file only")
	}
	if len(c.Thing) > 128 {
		return fault.Field("Thing", "has %d characters, at most 128", len(c.Thing))
	}
	c.setDefaults()
	if c.Runtime != Lite && c.Runtime != Classic {
		return fault.Field("Runtime", "is %q, want %s or %s", c.Runtime, Lite, Classic)
	}
	if c.MQTTVersion != mqttwire.V5 && c.MQTTVersion != mqttwire.V311 {
		return fault.Field("MQTTVersion", "is %d, want 5 or 4 (3.1.1)", c.MQTTVersion)
	}
	return nil
}

func (c *Config) setDefaults() {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	wait := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if c.Runtime == "" {
		c.Runtime = Lite
	}
	if c.MQTTVersion == 0 {
		c.MQTTVersion = mqttwire.V5
	}
	version := "2.6.0"
	if c.Runtime == Classic {
		version = "2.18.0"
	}
	def(&c.Version, version)
	def(&c.Region, "us-east-1")
	wait(&c.StatusInterval, 24*time.Hour)
	wait(&c.RetryBase, time.Second)
	wait(&c.ReconnectMin, 5*time.Second)
	wait(&c.ReconnectMax, 5*time.Minute)
	if c.Runtime == Lite {
		c.Certificate.Certificate = c.Certificate.Certificate[:1] // lite sends the leaf alone (§1.2)
	}
	if c.Log == nil {
		c.Log = logx.Discard()
	}
	if c.OnEvent == nil {
		c.OnEvent = func(Event) {}
	}
}

// compact is json.Marshal for values that always encode.
func compact(v any) []byte {
	b, _ := json.Marshal(v) //nolint:errchkjson // only plain structs, maps and strings come here
	return b
}
