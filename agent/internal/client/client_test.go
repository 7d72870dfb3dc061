package client_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/client"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const device = "sensor-1"

// cloud is a control plane with one client device.
type cloud struct {
	mu        sync.Mutex // held by calls, and by tests that change something meanwhile
	t         *testing.T
	ca        *pki.Authority
	assigned  protocol.DeviceAssignment
	zip       []byte
	found     protocol.Discovery
	err       map[string]error
	signed    int
	asked     int
	presented *x509.Certificate // by the last discovery
}

func (c *cloud) Device(context.Context) (protocol.DeviceAssignment, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return c.assigned, c.err["device"]
}

func (c *cloud) DeviceCertificate(_ context.Context, csr string) (string, error) {
	if err := c.err["sign"]; err != nil {
		return "", err
	}
	r, err := pki.ParseCSR([]byte(csr))
	require.NoError(c.t, err)
	c.signed++
	return c.certificate(r.PublicKey), nil
}

func (c *cloud) certificate(public any) string {
	der, err := c.ca.SignClient(pki.Client{Subject: pkix.Name{CommonName: device}, Public: public, NotAfter: time.Now().Add(time.Hour)}, time.Now())
	require.NoError(c.t, err)
	return string(pki.EncodeCert(der))
}

func (c *cloud) pair() (cert, key []byte) {
	k, err := pki.NewKey(pki.P256)
	require.NoError(c.t, err)
	key, err = pki.MarshalKey(k)
	require.NoError(c.t, err)
	return []byte(c.certificate(k.Public())), key
}

func (c *cloud) DeviceCerts(context.Context) ([]byte, error) { return c.zip, c.err["zip"] }

func (c *cloud) Discover(_ context.Context, thing string, as tls.Certificate) (protocol.Discovery, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	assert.Equal(c.t, device, thing)
	var err error
	c.presented, err = x509.ParseCertificate(as.Certificate[0])
	require.NoError(c.t, err)
	return c.found, c.err["discover"]
}

type kit struct {
	*client.Loop
	cloud *cloud
	root  string
}

func newKit(t *testing.T, around localstate.Around) *kit {
	t.Helper()
	ca, err := pki.NewRoot("root", time.Now(), time.Hour)
	require.NoError(t, err)
	k := &kit{root: filepath.Join(t.TempDir(), "root"), cloud: &cloud{t: t, ca: ca, err: map[string]error{}, assigned: protocol.DeviceAssignment{
		Device: device, CAPEM: "the CA\n", MQTTAddress: "fleet.example:8883", HTTPSURL: "https://fleet.example:8443", Core: "gw-2",
	}}}
	k.cloud.found = discovery("gw-1", "gw-2")
	dir, err := localstate.Open(k.root, around)
	require.NoError(t, err)
	t.Cleanup(func() { _ = dir.Close() })
	k.Loop, err = client.New(client.LoopConfig{Device: device, Dir: dir, Cloud: k.cloud})
	require.NoError(t, err)
	t.Cleanup(func() { _ = k.Loop.Close() })
	return k
}

func discovery(cores ...string) (d protocol.Discovery) {
	for _, c := range cores {
		d.Groups = append(d.Groups, protocol.DiscoveredGroup{
			ID: "greengrassV2-coreDevice-" + c, CAs: []string{"CA of " + c + "\n"},
			Cores: []protocol.DiscoveredCore{{ThingARN: "arn:aws:iot:us-east-1:000000000000:thing/" + c, Connectivity: []protocol.DiscoveredEndpoint{{ID: "1", Host: "10.0.3.7", Port: 8883}}}},
		})
	}
	return d
}

func (k *kit) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(k.root, client.Folder, filepath.FromSlash(name)))
	require.NoError(t, err)
	return string(b)
}

func TestTheApplicationIsToldAllThatItNeeds(t *testing.T) {
	k := newKit(t, nil)
	require.NoError(t, k.Pass(t.Context()))
	c, err := client.ReadConfig(k.root)
	require.NoError(t, err)
	at := filepath.Join(k.root, client.Folder)
	assert.Equal(t, client.Config{
		Version: 1, ThingName: device, CertificateFilePath: filepath.Join(at, "identity/cert.pem"), PrivateKeyPath: filepath.Join(at, "identity/private.key"),
		Cloud: client.Cloud{MQTTAddress: "fleet.example:8883", HTTPSURL: "https://fleet.example:8443", CAFilePath: filepath.Join(at, "ca.pem")},
		Cores: []client.Core{
			{ThingName: "gw-2", ThingARN: "arn:aws:iot:us-east-1:000000000000:thing/gw-2", CAFilePath: filepath.Join(at, "cores/gw-2.pem"), Endpoints: []client.Endpoint{{Host: "10.0.3.7", Port: 8883}}},
			{ThingName: "gw-1", ThingARN: "arn:aws:iot:us-east-1:000000000000:thing/gw-1", CAFilePath: filepath.Join(at, "cores/gw-1.pem"), Endpoints: []client.Endpoint{{Host: "10.0.3.7", Port: 8883}}},
		},
	}, c, "its own core first")
	assert.Equal(t, "CA of gw-2\n", k.read(t, "cores/gw-2.pem"))
	assert.Equal(t, "the CA\n", k.read(t, "ca.pem"))
	_, err = tls.LoadX509KeyPair(c.CertificateFilePath, c.PrivateKeyPath)
	require.NoError(t, err)
	assert.Equal(t, device, k.cloud.presented.Subject.CommonName, "it asks as itself")
	for name, mode := range map[string]fs.FileMode{"client.json": 0o644, "identity/cert.pem": 0o644, "identity/private.key": 0o600, ".": fs.ModeDir | 0o755} {
		info, err := os.Stat(filepath.Join(at, name))
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode(), name)
	}

	before, err := os.Stat(filepath.Join(at, "client.json"))
	require.NoError(t, err)
	k.cloud.assigned.HasCertificate = true
	k.cloud.found.Groups[0], k.cloud.found.Groups[1] = k.cloud.found.Groups[1], k.cloud.found.Groups[0]
	require.NoError(t, k.Pass(t.Context()))
	after, err := os.Stat(filepath.Join(at, "client.json"))
	require.NoError(t, err)
	assert.True(t, os.SameFile(before, after), "nothing changed: the file was not touched")
	assert.Equal(t, 1, k.cloud.signed)
}

func TestACoreThatGoesAndOneThatComes(t *testing.T) {
	k := newKit(t, nil)
	require.NoError(t, k.Pass(t.Context()))
	k.cloud.found = discovery("gw-3")
	require.NoError(t, k.Pass(t.Context()))
	c, err := client.ReadConfig(k.root)
	require.NoError(t, err)
	require.Len(t, c.Cores, 1)
	assert.Equal(t, "gw-3", c.Cores[0].ThingName)
	entries, err := os.ReadDir(filepath.Join(k.root, client.Folder, "cores"))
	require.NoError(t, err)
	assert.Len(t, entries, 1)

	k.cloud.found, k.cloud.err["discover"] = protocol.Discovery{}, fault.New(fault.NotFound, "no core")
	require.NoError(t, k.Pass(t.Context()), "a device without a core is fine")
	c, err = client.ReadConfig(k.root)
	require.NoError(t, err)
	assert.Empty(t, c.Cores)
	assert.Contains(t, k.read(t, "client.json"), `"cores": []`)
}

func TestWhatWasThereStaysWhenTheControlPlaneIsAway(t *testing.T) {
	k := newKit(t, nil)
	require.NoError(t, k.Pass(t.Context()))
	before := k.read(t, "client.json")
	for _, call := range []string{"device", "discover"} {
		k.cloud.err = map[string]error{call: fault.New(fault.Unavailable, "away")}
		require.Error(t, k.Pass(t.Context()))
		assert.Equal(t, before, k.read(t, "client.json"))
	}
}

func TestWhatTheControlPlaneMayNotSay(t *testing.T) {
	endpoint := func(e protocol.DiscoveredEndpoint) func(*cloud) {
		return func(c *cloud) { c.found.Groups[0].Cores[0].Connectivity[0] = e }
	}
	for says, spoil := range map[string]func(*cloud){
		`assigns device "other"`: func(c *cloud) { c.assigned.Device = "other" },
		`is not the ARN`: func(c *cloud) {
			c.found.Groups[0].Cores[0].ThingARN = "arn:aws:iot:us-east-1:000000000000:thing/../../x"
		},
		`"x" is not the ARN`:  func(c *cloud) { c.found.Groups[0].Cores[0].ThingARN = "x" },
		`99999 is no port`:    endpoint(protocol.DiscoveredEndpoint{Host: "a", Port: 99999}),
		`"a b" is no host`:    endpoint(protocol.DiscoveredEndpoint{Host: "a b", Port: 1}),
		`control characters`:  endpoint(protocol.DiscoveredEndpoint{Host: "a", Port: 1, Metadata: "\x1b[2J"}),
		`17 CAs`:              func(c *cloud) { c.found.Groups[0].CAs = make([]string, 17) },
		`33 addresses`:        func(c *cloud) { c.found.Groups[0].Cores[0].Connectivity = make([]protocol.DiscoveredEndpoint, 33) },
		`more than 100 cores`: func(c *cloud) { c.found = discovery(make([]string, 101)...); rename(&c.found) },
		`do not belong together`: func(c *cloud) {
			c.assigned.HasCertificate, c.assigned.CertsZip = true, true
			c1, _ := c.pair()
			_, k2 := c.pair()
			c.zip = zipOf(c.t, c1, k2)
		},
		`certs.zip is not a zip`:                    func(c *cloud) { c.assigned.HasCertificate, c.assigned.CertsZip, c.zip = true, true, []byte("x") },
		`having the certificate of sensor-1 signed`: func(c *cloud) { c.err["sign"] = errors.New("no") },
	} {
		k := newKit(t, nil)
		spoil(k.cloud)
		require.ErrorContains(t, k.Pass(t.Context()), says)
		_, err := client.ReadConfig(k.root)
		require.ErrorIs(t, err, fs.ErrNotExist, "nothing partial is told")
	}
}

func rename(d *protocol.Discovery) {
	for i := range d.Groups {
		d.Groups[i].Cores[0].ThingARN = "arn:aws:iot:us-east-1:000000000000:thing/gw"
	}
}

func zipOf(t *testing.T, cert, key []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, data := range map[string][]byte{"certs/cert.pem": cert, "certs/private.key": key} {
		f, err := w.Create(name)
		require.NoError(t, err)
		_, err = f.Write(data)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestAKeyThatTheControlPlaneMade(t *testing.T) {
	k := newKit(t, nil)
	cert, key := k.cloud.pair()
	k.cloud.assigned.HasCertificate, k.cloud.assigned.CertsZip, k.cloud.zip = true, true, zipOf(t, cert, key)
	require.NoError(t, k.Pass(t.Context()))
	assert.Equal(t, string(cert), k.read(t, client.CertName))
	assert.Equal(t, string(key), k.read(t, client.KeyName))
	assert.Zero(t, k.cloud.signed)
}

func TestCertificateAndKeyChangeTogether(t *testing.T) {
	k := newKit(t, nil)
	_, _, err := k.Certificate()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, k.Pass(t.Context()))
	k.cloud.assigned.HasCertificate = true
	cert, key := k.cloud.pair()
	require.NoError(t, k.ReplaceCertificate(t.Context(), cert, key))
	require.NoError(t, k.ReplaceCertificate(t.Context(), cert, key), "again changes nothing")
	c, p, err := k.Certificate()
	require.NoError(t, err)
	assert.Equal(t, string(cert)+string(key), string(c)+string(p))
	require.NoError(t, k.Pass(t.Context()))
	assert.Equal(t, string(cert), k.read(t, client.CertName), "the next pass leaves it alone")
	entries, err := os.ReadDir(filepath.Join(k.root, client.Folder, "identities"))
	require.NoError(t, err)
	assert.Len(t, entries, 1, "the old one is gone")
	other, _ := k.cloud.pair()
	require.ErrorIs(t, k.ReplaceCertificate(t.Context(), other, key), fault.Invalid)
}

func TestAPassThatEndsAnywhereIsGoneOnWith(t *testing.T) {
	errEnd := errors.New("killed")
	reach := func(want string) localstate.Around {
		return func(p localstate.Point, do func() error) error {
			if want == string(p)+":before" {
				return errEnd
			}
			if err := do(); err != nil || want != string(p)+":after" {
				return err
			}
			return errEnd
		}
	}
	for _, p := range localstate.ClientPoints() {
		for _, when := range []string{":before", ":after"} {
			var around localstate.Around
			k := newKit(t, func(p localstate.Point, do func() error) error { return around(p, do) })
			around = reach("")
			story := func() error {
				k.cloud.found = discovery("gw-1", "gw-2")
				if err := k.Pass(t.Context()); err != nil {
					return err
				}
				k.cloud.assigned.HasCertificate = true
				k.cloud.found = discovery("gw-2")
				cert, key := k.cloud.pair()
				return errors.Join(k.ReplaceCertificate(t.Context(), cert, key), k.Pass(t.Context()))
			}
			around = reach(string(p) + when)
			require.ErrorIs(t, story(), errEnd, "%s%s is passed", p, when)
			around = reach("")
			require.NoError(t, story(), "after an end %s %s", when, p)
			c, err := client.ReadConfig(k.root)
			require.NoError(t, err)
			assert.Len(t, c.Cores, 1)
			_, err = tls.LoadX509KeyPair(c.CertificateFilePath, c.PrivateKeyPath)
			require.NoError(t, err)
		}
	}
}

func TestAWeekWithoutControlPlaneIsSpentQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		require.NoError(t, k.Pass(t.Context()))
		k.cloud.err["device"] = fault.New(fault.Unavailable, "away")
		k.cloud.asked = 0
		ctx, cancel := context.WithCancel(t.Context())
		go func() { assert.NoError(t, k.Run(ctx)) }()
		time.Sleep(7 * 24 * time.Hour)
		k.cloud.mu.Lock()
		assert.Less(t, k.cloud.asked, 7*24*12*2, "about every five minutes")
		delete(k.cloud.err, "device")
		k.cloud.found = discovery("gw-9")
		k.cloud.mu.Unlock()
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		c, err := client.ReadConfig(k.root)
		require.NoError(t, err)
		assert.Equal(t, "gw-9", c.Cores[0].ThingName, "and back within minutes")
		k.cloud.mu.Lock()
		k.cloud.found = discovery("gw-8")
		k.cloud.mu.Unlock()
		k.Wake()
		synctest.Wait()
		c, err = client.ReadConfig(k.root)
		require.NoError(t, err)
		assert.Equal(t, "gw-8", c.Cores[0].ThingName, "at once when told")
		cancel()
	})
}

func FuzzDiscovery(f *testing.F) {
	b, err := json.Marshal(discovery("gw-1"))
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var d protocol.Discovery
		if json.Unmarshal(b, &d) != nil {
			return
		}
		for _, name := range client.NamesIn(d) {
			assert.True(t, filepath.IsLocal(name+".pem"), name)
			assert.Equal(t, name, filepath.Base(name))
		}
	})
}
