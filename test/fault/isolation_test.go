package fault_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/internal/world"
	"github.com/ggfleet/ggfleet/test/simulator"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

// line is a bare MQTT 5 connection: it does what no runtime would.
type line struct {
	t    *testing.T
	conn *tls.Conn
	r    *bufio.Reader
}

// connect sends CONNECT and returns the first answer; Type 0 means that the
// server hung up.
func connect(t *testing.T, w *world.World, cert tls.Certificate, clientID string) (*line, mqttwire.Packet) {
	t.Helper()
	d := tls.Dialer{Config: w.TLS(cert)}
	conn, err := d.DialContext(t.Context(), "tcp", w.MQTT)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	l := &line{t, conn.(*tls.Conn), bufio.NewReader(conn)}
	return l, l.send(mqttwire.Packet{Type: mqttwire.Connect, ClientID: clientID, CleanStart: true, KeepAlive: 60})
}

// send sends a packet and returns the next one from the server.
func (l *line) send(p mqttwire.Packet) mqttwire.Packet {
	l.t.Helper()
	b, err := mqttwire.Append(nil, p, mqttwire.V5)
	require.NoError(l.t, err)
	require.NoError(l.t, l.conn.SetDeadline(time.Now().Add(5*time.Minute)))
	if _, err := l.conn.Write(b); err != nil {
		return mqttwire.Packet{}
	}
	in, err := mqttwire.Read(l.r, mqttwire.V5, 1<<20)
	if err != nil {
		return mqttwire.Packet{}
	}
	return in
}

func TestADeviceCannotActForAnother(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{})
	made := w.CreateCores(t, "press-07", "press-08")
	thief := made[0].Certificate

	// What would be told to the victim if anything got through.
	var told atomic.Int64
	cfg := simConfig(t, w, made[1].Config, made[1].Certificate)
	cfg.OnEvent = func(e simulator.Event) {
		if e.Kind == simulator.EventJob || e.Kind == simulator.EventIgnored || e.Kind == simulator.EventRefused {
			told.Add(1)
		}
	}
	victim, err := simulator.New(cfg)
	require.NoError(t, err)
	ctx, cancel := background(t)
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(t, victim.Run(ctx)) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	world.Eventually(t, func() string {
		if w.Core(t, "press-08").Device.Status == "HEALTHY" {
			return ""
		}
		return "the victim is not there yet"
	})
	before := w.Core(t, "press-08")

	denied := func(what string) {
		t.Helper()
		world.Eventually(t, func() string {
			for entry := range strings.Lines(w.Logs()) {
				if (strings.Contains(entry, "denied") || strings.Contains(entry, "refused")) && strings.Contains(entry, what) {
					return ""
				}
			}
			return "the log does not tell of " + what
		})
	}

	t.Run("connect under its client id", func(t *testing.T) {
		_, p := connect(t, w, thief, "press-08")
		assert.False(t, p.Type == mqttwire.Connack && p.Code() == 0, "%+v", p)
		denied("press-08")
		assert.True(t, w.Core(t, "press-08").Device.Connected, "the victim was disconnected")
	})
	for _, topic := range []string{
		"$aws/things/press-08/greengrassv2/health/json", "$aws/things/press-08/jobs/some-job/update", "$aws/things/press-08/jobs/$next/get",
		"$aws/things/press-08/shadow/name/AWSManagedGreengrassV2Deployment/get", "$aws/things/press-07/../press-08/jobs/$next/get",
		"$aws/things/press-07", "$aws/things//jobs/$next/get", "press-08/telemetry", "dt/x/press-08/y", "cmd/x/press-08/y",
		"$share/g/press-08/telemetry", "ggfleet/v1/cores/press-08/agent/health",
	} {
		t.Run("publish to "+topic, func(t *testing.T) {
			l, p := connect(t, w, thief, "press-07")
			require.Equal(t, mqttwire.Connack, p.Type)
			require.Zero(t, p.Code())
			p = l.send(mqttwire.Packet{Type: mqttwire.Publish, ID: 7, QoS: 1, Topic: topic, Payload: []byte(
				`{"ggcVersion":"9.9.9","platform":"linux","architecture":"x","thing":"press-08","sequenceNumber":99,"timestamp":4102444800000,"messageType":"COMPLETE","trigger":"NUCLEUS_LAUNCH","overallDeviceStatus":"UNHEALTHY","components":[]}`)})
			assert.False(t, p.Type == mqttwire.Puback && p.Code() < 0x80, "the publish was acknowledged: %+v", p)
			denied(topic)
		})
	}
	for _, filter := range []string{
		"$aws/things/press-08/jobs/notify-next", "$aws/things/+/jobs/notify-next", "$aws/things/#", "#", "+/telemetry", "press-08/#",
		"$share/group/press-08/#", "ggfleet/v1/cores/press-08/agent/#", "dt/+/press-08/#",
	} {
		t.Run("subscribe to "+filter, func(t *testing.T) {
			l, p := connect(t, w, thief, "press-07")
			require.Zero(t, p.Code())
			p = l.send(mqttwire.Packet{Type: mqttwire.Subscribe, ID: 8, Filters: []string{filter}})
			assert.False(t, p.Type == mqttwire.Suback && p.Code() < 0x80, "the subscription was granted: %+v", p)
			denied(strings.TrimPrefix(filter, "$share/group/"))
		})
	}

	client := &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{TLSClientConfig: w.TLS(thief), ForceAttemptHTTP2: true}}
	base := "https://" + strings.Replace(w.Device, "127.0.0.1", "localhost", 1)
	ask := func(t *testing.T, method, path string, header http.Header) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
		require.NoError(t, err)
		for k, v := range header {
			req.Header[k] = v
		}
		res, err := client.Do(req)
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(b)
	}
	credentials := "/role-aliases/GGFleetTokenExchangeRoleAlias/credentials"
	t.Run("its own calls are answered", func(t *testing.T) {
		status, body := ask(t, http.MethodGet, "/greengrass/v2/coreDevices/press-07/thingGroups", nil)
		assert.Equal(t, http.StatusOK, status, body)
		status, body = ask(t, http.MethodGet, credentials, http.Header{"X-Amzn-Iot-Thingname": {"press-07"}})
		assert.Equal(t, http.StatusOK, status, body)
	})
	for _, tc := range []struct {
		name, method, path string
		header             http.Header
	}{
		{"another's thing groups", http.MethodGet, "/greengrass/v2/coreDevices/press-08/thingGroups", nil},
		{"another's thing groups by an encoded name", http.MethodGet, "/greengrass/v2/coreDevices/press%2D08/thingGroups", nil},
		{"credentials in another's name", http.MethodGet, credentials, http.Header{"X-Amzn-Iot-Thingname": {"press-08"}}},
		{"the agent's assignment", http.MethodGet, protocol.PathAgentCore, nil},
		{"the certificates that an agent fetches", http.MethodGet, protocol.PathCoreCerts, nil},
		{"the configuration that an agent fetches", http.MethodGet, protocol.PathCoreConfig, nil},
		{"an agent's CSR", http.MethodPost, protocol.PathCoreCertificate, nil},
		{"a nucleus archive", http.MethodGet, protocol.PathDistributions + strings.Repeat("0", 64), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, body := ask(t, tc.method, tc.path, tc.header)
			assert.Equal(t, http.StatusForbidden, status, body)
			assert.NotContains(t, body, "PRIVATE KEY")
			denied(strings.ReplaceAll(tc.path, "%2D", "-"))
		})
	}

	t.Run("a certificate in the victim's name that nobody registered", func(t *testing.T) {
		ca, err := pki.NewRoot("ggfleet", time.Now(), time.Hour)
		require.NoError(t, err)
		key, err := pki.NewKey(pki.P256)
		require.NoError(t, err)
		leaf, err := ca.SignClient(pki.Client{Subject: pkix.Name{CommonName: "press-08"}, Public: key.Public(), NotAfter: time.Now().Add(time.Hour)}, time.Now())
		require.NoError(t, err)
		stranger := pki.TLSCertificate(key, leaf, ca.Cert)
		d := tls.Dialer{Config: w.TLS(stranger)}
		for _, addr := range []string{w.MQTT, w.Device} {
			conn, err := d.DialContext(t.Context(), "tcp", addr)
			if err == nil { // TLS 1.3 tells the client's side with its first read
				require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Minute)))
				_, err = conn.Read(make([]byte, 1))
				_ = conn.Close()
			}
			require.Error(t, err, addr)
		}
	})

	assert.Zero(t, told.Load(), "the victim was told something")
	after := w.Core(t, "press-08")
	assert.Equal(t, before.Device.Status, after.Device.Status)
	assert.Equal(t, before.Device.CoreVersion, after.Device.CoreVersion)
	assert.True(t, after.Device.Connected)
}

// A core that is moved between template versions asks for its groups all the
// time: it never sees two of them and, after the first, never none.
func TestACoreThatIsMovedSeesOneTemplateGroupAtAnyInstant(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{})
	core := w.CreateCores(t, "press-07")[0]
	s := newStory(t, w)
	s.component("com.example.Tool", "1.0.0")
	s.component("com.example.Tool", "2.0.0")
	s.template("press", 1, "com.example.Tool")
	s.template("press", 2, "com.example.Tool")
	cfg := simConfig(t, w, core.Config, core.Certificate)
	sim, err := simulator.New(cfg)
	require.NoError(t, err)
	ctx, cancel := background(t)
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() { assert.NoError(t, sim.Run(ctx)) })
	s.healthy([]string{"press-07"})

	url := "https://" + cfg.DataPlane + "/greengrass/v2/coreDevices/press-07/thingGroups"
	client := &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{TLSClientConfig: w.TLS(core.Certificate), ForceAttemptHTTP2: true}}
	var asked, changes atomic.Int64
	for range 3 {
		wg.Go(func() {
			last := ""
			for ctx.Err() == nil {
				groups, err := templateGroups(ctx, client, url)
				if ctx.Err() != nil {
					return
				}
				if !assert.NoError(t, err) || !assert.LessOrEqual(t, len(groups), 1, "two at once: %v", groups) ||
					!assert.False(t, last != "" && len(groups) == 0, "none, after %s", last) {
					return
				}
				if asked.Add(1) > 800 { // nobody may ask for ever as fast as it can
					select {
					case <-time.After(100 * time.Millisecond):
					case <-ctx.Done():
					}
				}
				if len(groups) == 1 && groups[0] != last {
					last = groups[0]
					changes.Add(1)
				}
			}
		})
	}
	moves := 30
	for i := range moves {
		before := asked.Load()
		path := w.Deploy(t, "press", 1+i%2, "press-07")
		require.Equal(t, "Success", s.ended(path).Status)
		world.Eventually(t, func() string { // the askers see each of them
			if asked.Load() > before+3 {
				return ""
			}
			return "nobody asks any more"
		})
	}
	assert.Positive(t, changes.Load())
	t.Logf("asked %d times over %d moves, saw %d changes", asked.Load(), moves, changes.Load())
}

func templateGroups(ctx context.Context, client *http.Client, url string) ([]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(res.Status)
	}
	var got struct {
		ThingGroups []struct{ ThingGroupName string }
	}
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
		return nil, err
	}
	var groups []string
	for _, g := range got.ThingGroups {
		if strings.HasPrefix(g.ThingGroupName, "cdf_ggv2_deploymentForTemplate_") {
			groups = append(groups, g.ThingGroupName)
		}
	}
	return groups, nil
}
