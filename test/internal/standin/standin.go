package standin

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Realm is what the stand-in names its resources by.
var Realm = names.Realm{Region: "us-east-1", Account: "123456789012"}

// Cloud is a running stand-in.
type Cloud struct {
	MQTT        string // host:port
	HTTPS       string // host:port of the data plane and the credentials
	ArtifactURL string
	Roots       *x509.CertPool

	ca     *pki.Authority
	broker *mqtt.Server

	mu         sync.Mutex
	faults     Faults
	things     map[string]*thing
	components map[string][]component // by name
	revision   map[string]int
	lastJob    int64
	requests   []string // of the HTTPS side, as METHOD path
	connects   []Connect
}

// Faults are deviations from the contract that a test asks for. Zero: none.
type Faults struct {
	Unsuback  byte                                              // the code of every UNSUBACK; 0 as the contract wants
	Answer    func(topic string, payload []byte) []byte         // rewrite an MQTT answer or notification
	HTTP      func(w http.ResponseWriter, r *http.Request) bool // true: handled
	NoPromise bool                                              // notify says QUEUED, $next says nothing
}

// Connect is what a client sent to open its session.
type Connect struct {
	ClientID, Username string
	Version            byte
	Clean              bool
	KeepAlive          uint16
	MaxPacket          uint32
}

type thing struct {
	name     string
	groups   []string
	jobs     []*execution
	statuses []protocol.FleetStatus
	updates  []string
	queries  int
}

type execution struct {
	protocol.JobExecution
}

type component struct {
	version   string
	recipe    []byte
	artifacts map[string][]byte
}

// Start runs a stand-in until the test ends.
func Start(t testing.TB) *Cloud {
	t.Helper()
	ca, err := pki.NewRoot("stand-in root", time.Now(), time.Hour)
	require.NoError(t, err)
	c := &Cloud{
		ca: ca, Roots: x509.NewCertPool(), things: map[string]*thing{}, components: map[string][]component{}, revision: map[string]int{},
		lastJob: time.Now().Unix() - 1000,
	}
	c.Roots.AddCert(ca.Cert)
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	der, err := ca.SignServer(key.Public(), []string{"localhost", "127.0.0.1"}, time.Now(), time.Hour)
	require.NoError(t, err)
	tc := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pki.TLSCertificate(key, der)}, ClientCAs: c.Roots, ClientAuth: tls.RequireAndVerifyClientCert}

	c.broker = mqtt.New(&mqtt.Options{InlineClient: true, Logger: logx.Discard()})
	require.NoError(t, c.broker.AddHook(&hook{cloud: c}, nil))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c.MQTT = l.Addr().String()
	require.NoError(t, c.broker.AddListener(listeners.NewNet("mqtts", tls.NewListener(l, tc))))
	require.NoError(t, c.broker.Serve())
	t.Cleanup(func() { _ = c.broker.Close() })

	plane := httptest.NewUnstartedServer(http.HandlerFunc(c.dataPlane))
	plane.TLS, plane.EnableHTTP2 = tc.Clone(), true
	plane.StartTLS()
	t.Cleanup(plane.Close)
	c.HTTPS = plane.Listener.Addr().String()
	files := httptest.NewServer(http.HandlerFunc(c.artifact))
	t.Cleanup(files.Close)
	c.ArtifactURL = files.URL
	return c
}

// Thing registers a thing and returns its client certificate.
func (c *Cloud) Thing(t testing.TB, name string, groups ...string) tls.Certificate {
	t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	der, err := c.ca.SignClient(pki.Client{Subject: pkix.Name{CommonName: name}, Public: key.Public(), NotAfter: time.Now().Add(time.Hour)}, time.Now())
	require.NoError(t, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.things[name] = &thing{name: name, groups: groups}
	return pki.TLSCertificate(key, der)
}

// RootPEM is the CA to write into a root CA file.
func (c *Cloud) RootPEM() []byte { return pki.EncodeCert(c.ca.Cert.Raw) }

// Fail sets the faults from now on.
func (c *Cloud) Fail(f Faults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = f
}

// SetGroups replaces the groups of a thing.
func (c *Cloud) SetGroups(name string, groups ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.things[name].groups = groups
}

// AddComponent stores a recipe (JSON, handed out as it is) with its artifacts.
func (c *Cloud) AddComponent(t testing.TB, recipe string, artifacts map[string][]byte) {
	t.Helper()
	var r struct{ ComponentName, ComponentVersion string }
	require.NoError(t, json.Unmarshal([]byte(recipe), &r))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.components[r.ComponentName] = append(c.components[r.ComponentName], component{r.ComponentVersion, []byte(recipe), artifacts})
}

// Deploy queues a job for every thing of the target, fills in the document's
// ids, and returns the job id.
func (c *Cloud) Deploy(kind names.TargetKind, target string, doc protocol.DeploymentDocument) string {
	c.mu.Lock()
	c.lastJob++
	id := "job-" + strconv.FormatInt(c.lastJob, 10)
	c.revision[string(kind)+target]++
	doc.DeploymentID = "deployment-of-" + id
	doc.ConfigurationARN = Realm.Configuration(kind, target, c.revision[string(kind)+target])
	if doc.CreationTimestamp == 0 {
		doc.CreationTimestamp = c.lastJob * 1000
	}
	if doc.FailureHandling == "" {
		doc.FailureHandling = "ROLLBACK"
	}
	raw, _ := json.Marshal(doc)
	var hit []*thing
	for _, th := range c.things {
		member := kind == names.TargetThing && th.name == target
		for _, g := range th.groups {
			member = member || kind == names.TargetThingGroup && g == target
		}
		if member {
			th.jobs = append(th.jobs, &execution{protocol.JobExecution{
				JobID: id, ThingName: th.name, Status: protocol.JobQueued, QueuedAt: c.lastJob, LastUpdatedAt: c.lastJob, VersionNumber: 1, ExecutionNumber: 1, JobDocument: raw,
			}})
			hit = append(hit, th)
		}
	}
	c.mu.Unlock()
	for _, th := range hit {
		c.notify(th)
	}
	return id
}

// CancelJobs removes all pending jobs of a thing.
func (c *Cloud) CancelJobs(name string) {
	c.mu.Lock()
	th := c.things[name]
	th.jobs = nil
	c.mu.Unlock()
	c.notify(th)
}

// Statuses returns the fleet status messages of a thing so far.
func (c *Cloud) Statuses(name string) []protocol.FleetStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]protocol.FleetStatus(nil), c.things[name].statuses...)
}

// Updates returns the job updates of a thing so far, as "job STATUS".
func (c *Cloud) Updates(name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.things[name].updates...)
}

// Requests returns the HTTPS requests so far, as "METHOD path".
func (c *Cloud) Requests() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.requests...)
}

// Connects returns the CONNECT packets so far.
func (c *Cloud) Connects() []Connect {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Connect(nil), c.connects...)
}
