package gateway_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/shared/fault"
)

var errRevoked = fault.New(fault.Denied, "certificate is REVOKED")

// refused checks that the device gets no MQTT session: TLS 1.3 tells the client
// of a refused certificate only at its first read.
func (d *device) refused() {
	d.w.t.Helper()
	c, err := d.dial()
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	require.Error(d.w.t, err)
	require.NotErrorIs(d.w.t, err, io.ErrNoProgress)
}

func TestARevokedCertificateEndsItsSessionsAndIsRefused(t *testing.T) {
	for _, version := range []byte{4, 5} {
		w := newWorld(t, nil)
		d := w.device("press-07")
		c, _ := d.connectWith(version, "press-07", func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "plant/will", []byte("x")
		})
		w.event()
		watcher := w.device("press-08").connect("press-08")
		watcher.subscribe("plant/will")

		w.registry.change(d.id, gateway.Identity{}, errRevoked)
		if version == 5 {
			c.ended(packets.ErrNotAuthorized.Code)
		} else {
			c.ended(0)
		}
		assert.Equal(t, "disconnected press-07 AUTH_ERROR", w.event())
		assert.False(t, w.gw.Connected("press-07"))
		d.refused()
		watcher.silent() // its last will went with it
		require.NotEmpty(t, w.logs.find("device lost its admission"))
	}
}

func TestARevokedDeviceIsRefusedWithASessionTicketToo(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		w := newWorld(t, nil)
		d := w.device("press-07")
		d.tls.MaxVersion = version
		d.tls.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		c := d.connect("press-07")
		c.silent() // the ticket has been read
		again := d.connect("press-07#2")
		require.True(t, again.conn.(*tls.Conn).ConnectionState().DidResume, "the test needs a resumed session")

		w.registry.change(d.id, gateway.Identity{}, errRevoked)
		for range 2 {
			w.event()
		}
		d.refused()
	}
}

func TestAnUnknownCertificateIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	w.registry.mu.Lock()
	delete(w.registry.known, d.id)
	w.registry.mu.Unlock()
	d.refused()
	d.tls.Certificates = nil
	d.refused()
	assert.NotEmpty(t, w.logs.find("device handshake failed"))
}

func TestARegistryThatIsAwayTellsTheDeviceToTryAgain(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	c := d.connect("press-07")
	w.registry.change(d.id, d.identity, errors.New("store is away"))
	c.silent() // a session outlives the absence
	d.refused()
	w.registry.change(d.id, gateway.Identity{}, errRevoked)
	c.ended(packets.ErrNotAuthorized.Code)
}

func TestAChangedPolicyHoldsForTheOpenSession(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	c := d.connect("press-07")
	c.subscribe("plant/a")
	require.Equal(t, byte(0), c.acked("plant/a", "x"))
	w.event()
	c.message()
	c.unsubscribe("plant/a")

	less := d.identity
	less.Policies = docs(t, thingPolicy, `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":["iot:Publish","iot:Receive"],"Resource":"*"}}`)
	w.registry.change(d.id, less, nil)
	for c.acked("plant/a", "x") != 0x87 {
		w.event()
	}

	less.Policies = docs(t, `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`)
	w.registry.change(d.id, less, nil)
	c.ended(packets.ErrNotAuthorized.Code)
}

func TestADetachedThingEndsTheSession(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	c := d.connect("press-07")
	bare := d.identity
	bare.Thing = ""
	w.registry.change(d.id, bare, nil)
	c.ended(packets.ErrNotAuthorized.Code)
	assert.Equal(t, "disconnected press-07 FORBIDDEN_ACCESS", w.event())
	assert.Equal(t, "press-07", w.last.Load().Identity.Thing, "as told when it connected")
}

func TestWithoutChangesTheSweepFindsARevocation(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.Changes = nil })
	d := w.device("press-07")
	c := d.connect("press-07")
	w.registry.change(d.id, gateway.Identity{}, errRevoked)
	c.ended(packets.ErrNotAuthorized.Code)
}

func TestStopTellsSessionsAndIsNotHeldUpBySilentSockets(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.Limits.FirstByte = time.Hour })
	c := w.device("press-07").connect("press-07")
	silent := make([]net.Conn, 100)
	for i := range silent {
		var err error
		silent[i], err = net.Dial("tcp", w.addr)
		require.NoError(t, err)
		defer silent[i].Close()
	}
	require.Eventually(t, func() bool { return w.gw.Metrics().Connections == 101 }, patience, time.Millisecond)
	w.stop()
	c.ended(packets.ErrServerShuttingDown.Code)
	assert.Equal(t, "disconnected press-07 SERVER_INITIATED_DISCONNECT", w.event())
	assert.Zero(t, w.gw.Metrics().Connections)
}

func TestASilentSocketIsClosed(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.Limits.FirstByte = 2 * time.Second }) // time for a handshake on a busy machine
	raw, err := net.Dial("tcp", w.addr)
	require.NoError(t, err)
	defer raw.Close()
	shaken, err := w.device("press-07").dial() // handshake, but no CONNECT
	require.NoError(t, err)
	defer shaken.Close()
	for _, c := range []net.Conn{raw, shaken} {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, err := io.Copy(io.Discard, c)
		var ne net.Error
		require.False(t, errors.As(err, &ne) && ne.Timeout(), "still open")
	}
}

func TestAClaimOf256MBBeforeConnectIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	c, err := w.device("press-07").dial()
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte{0x10, 0xff, 0xff, 0xff, 0x7f})
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, c)
	var ne net.Error
	require.False(t, errors.As(err, &ne) && ne.Timeout(), "still open")
}

func TestADeviceThatDoesNotReadDelaysNobody(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.Limits.Write = time.Second })
	stalled := w.device("press-08").connect("press-08")
	stalled.subscribe("$aws/things/press-08/jobs/notify", "plant/a")
	m := gateway.Message{Topic: "$aws/things/press-08/jobs/notify", Payload: make([]byte, 100<<10)}
	c := w.device("press-07").connect("press-07")
	require.Eventually(t, func() bool {
		w.gw.Push("press-08", m)
		c.publish("plant/a", "x", 1)
		c.expect(packets.Puback)
		return !w.gw.Connected("press-08")
	}, patience, time.Millisecond)
	assert.Equal(t, byte(0), c.acked("plant/b", "x"))
}

func TestHTTPRequestsAreAdmittedOneByOne(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	handler := gateway.AdmitHTTP(w.registry, nil)(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		id, ok := gateway.FromContext(r.Context())
		fmt.Fprint(rw, id.Thing, ok)
	}))
	srv := httptest.NewUnstartedServer(handler)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	cert := srv.TLS.Certificates[0]
	srv.Close()
	srv = httptest.NewUnstartedServer(handler)
	srv.EnableHTTP2 = true
	srv.TLS = gateway.HTTPConfig(w.registry, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil })
	srv.StartTLS()
	defer srv.Close()

	get := func(c *http.Client) (int, string) {
		resp, err := c.Get(srv.URL)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(b)
	}
	client := func(certs []tls.Certificate) *http.Client {
		tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certs}}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr, Timeout: patience}
	}
	open := client(d.tls.Certificates)
	status, body := get(open)
	assert.Equal(t, "200 press-07true", fmt.Sprint(status, " ", body))
	status, _ = get(client(nil))
	assert.Equal(t, http.StatusForbidden, status, "no certificate, but the handshake passes: enrolment has none")

	w.registry.change(d.id, d.identity, errors.New("store is away"))
	status, _ = get(open)
	assert.Equal(t, http.StatusServiceUnavailable, status)
	w.registry.change(d.id, gateway.Identity{}, errRevoked)
	status, _ = get(open)
	assert.Equal(t, http.StatusForbidden, status, "on the connection that was open before")
	_, err := client(d.tls.Certificates).Get(srv.URL)
	require.Error(t, err, "a new connection is refused in the handshake")
}
