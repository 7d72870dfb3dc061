package renew_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/renew"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const (
	day   = 24 * time.Hour
	life  = 90 * day
	grace = 180 * day
)

var (
	errAway   = errors.New("no route to host")
	errLost   = errors.New("connection reset by peer")
	errDenied = fault.New(fault.Denied, "the client certificate is not accepted")
)

// issued is a certificate as the control plane knows it.
type issued struct {
	id, pem, spki string
	active        bool
	core          bool // not the agent's
	notAfter      time.Time
}

// server is a control plane that does what shared/protocol says of renewals, with
// a clock of its own.
type server struct {
	mu      sync.Mutex // where the loop runs by itself: guards what follows
	t       *testing.T
	ca      *x509.Certificate
	key     *ecdsa.PrivateKey
	ahead   time.Duration // of the device's clock
	certs   map[string]*issued
	pending *pending
	core    *pending
	away    bool
	lose    int // answers that do not arrive, though what they tell of has happened
	calls   int
	nonces  map[string]bool
	late    int  // renewals of expired certificates
	deaf    bool // answers no MQTT
}

type pending struct{ old, new, spki string }

func newServer(t *testing.T, ahead time.Duration) *server {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	s := &server{t: t, key: key, ahead: ahead, certs: map[string]*issued{}, nonces: map[string]bool{}}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: s.now().Add(-day), NotAfter: s.now().Add(100 * 365 * day),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	s.ca, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	return s
}

func (s *server) now() time.Time { return time.Now().Add(s.ahead) }

func encode(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (s *server) issue(csrPEM string) *issued {
	block, _ := pem.Decode([]byte(csrPEM))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	require.NoError(s.t, err)
	require.NoError(s.t, csr.CheckSignature())
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	require.NoError(s.t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "gw:agent"}, NotBefore: s.now().Add(-time.Minute), NotAfter: s.now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.ca, csr.PublicKey, s.key)
	require.NoError(s.t, err)
	id := sha256.Sum256(der)
	c := &issued{id: hex.EncodeToString(id[:]), pem: encode(der), spki: string(csr.RawSubjectPublicKeyInfo), active: true, notAfter: template.NotAfter}
	s.certs[c.id] = c
	return c
}

func idOf(certPEM string) string {
	c, err := identity.ParseCertificate(certPEM)
	if err != nil {
		return ""
	}
	return identity.Fingerprint(c)
}

// takes reports whether the certificate may be used now.
func (s *server) takes(id string) bool {
	c := s.certs[id]
	return c != nil && c.active && s.now().Before(c.notAfter)
}

// usable reports whether the certificate can be used, or be renewed late.
func (s *server) usable(id string) bool {
	c := s.certs[id]
	return c != nil && c.active && s.now().Before(c.notAfter.Add(grace))
}

func (s *server) active() (out []string) {
	for id, c := range s.certs {
		if c.active {
			out = append(out, id)
		}
	}
	return out
}

// renewal issues beside old, the same for the same key.
func (s *server) renewal(p **pending, old, csr string) string {
	block, _ := pem.Decode([]byte(csr))
	r, err := x509.ParseCertificateRequest(block.Bytes)
	require.NoError(s.t, err)
	if q := *p; q != nil && q.old == old && q.spki == string(r.RawSubjectPublicKeyInfo) {
		return s.certs[q.new].pem
	}
	c := s.issue(csr)
	*p = &pending{old: old, new: c.id, spki: c.spki}
	return c.pem
}

func (s *server) confirm(p **pending, id string) {
	if *p == nil || (*p).new != id {
		return
	}
	*p = nil
	for other, c := range s.certs {
		c.active = c.active && (other == id || c.core)
	}
}

// device is an agent on a disk, with what it has in memory until it is killed.
type device struct {
	t    *testing.T
	s    *server
	root string
	kill func(p localstate.Point, do func() error) error

	dir  *localstate.Dir
	live *identity.Live
	loop *renew.Loop
	core *nucleus
}

// killed is thrown where a process ends.
type killed struct{}

func newDevice(t *testing.T, s *server) *device {
	d := &device{t: t, s: s, root: t.TempDir()}
	dir, err := localstate.Open(d.root, nil)
	require.NoError(t, err)
	keys, err := keystore.Open("", dir)
	require.NoError(t, err)
	key, err := identity.FirstKey(dir, keys, "key")
	require.NoError(t, err)
	csr, err := identity.CSR(key, "agent")
	require.NoError(t, err)
	require.NoError(t, identity.Store(dir, keys, identity.Identity{
		URL: "https://fleet.example:8443", CAFingerprint: identity.Fingerprint(s.ca), AgentThing: "gw:agent", Core: "gw",
		Credential: identity.Credential{CertificatePEM: s.issue(csr).pem}, CAPEM: encode(s.ca.Raw), MQTTAddress: "fleet.example:8883",
	}))
	require.NoError(t, dir.Close())
	d.start()
	t.Cleanup(d.end)
	return d
}

func (d *device) start() {
	var err error
	d.dir, err = localstate.Open(d.root, func(p localstate.Point, do func() error) error {
		if d.kill != nil {
			return d.kill(p, do)
		}
		return do()
	})
	require.NoError(d.t, err)
	d.live, err = identity.Open(d.dir)
	require.NoError(d.t, err, "an agent can always start")
	cfg := renew.Config{Dir: d.dir, Live: d.live, Cloud: d, Dial: d, Session: d, Every: 6 * time.Hour}
	if d.core != nil {
		cfg.Device = d.core
	}
	d.loop, err = renew.New(cfg)
	require.NoError(d.t, err)
}

func (d *device) end() { _ = d.dir.Close() }

// look is one look; a kill in it is a start of the agent.
func (d *device) look() (err error) {
	defer func() {
		if p := recover(); p != nil {
			if _, is := p.(killed); !is {
				panic(p)
			}
			d.kill = nil
			d.end()
			d.start()
			err = errors.New("killed")
		}
	}()
	return d.loop.Look(d.t.Context())
}

// stored are the certificates that the device could use: their keys are there.
func (d *device) stored() (out []string) {
	id, err := identity.Read(d.dir)
	require.NoError(d.t, err)
	for _, c := range []*identity.Credential{&id.Credential, id.Next, id.Old} {
		if c == nil || c.CertificatePEM == "" {
			continue
		}
		if _, err := d.live.Signer(*c); err == nil {
			out = append(out, idOf(c.CertificatePEM))
		} else {
			require.ErrorIs(d.t, err, fs.ErrNotExist)
		}
	}
	return out
}

// call is a call with the certificate id ("": none): do happens if it is let in,
// and its answer may be lost.
func (d *device) call(id string, do func() error) error {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	d.s.calls++
	if d.s.away {
		return errAway
	}
	err := errDenied
	if id == "" || d.s.takes(id) {
		err = do()
	}
	if d.s.lose > 0 {
		d.s.lose--
		return errLost
	}
	d.live.Clock().Saw(d.s.now())
	return err
}

func (d *device) shown() string { return identity.Fingerprint(d.live.Certificate()) }

// What follows is the control plane as the agent sees it.

func (d *device) Renew(_ context.Context, csr string) (cert string, err error) {
	err = d.call(d.shown(), func() error { cert = d.s.renewal(&d.s.pending, d.shown(), csr); return nil })
	if err != nil {
		cert = ""
	}
	return cert, err
}

func (d *device) RenewDevice(_ context.Context, r protocol.DeviceRenewal) (cert string, err error) {
	err = d.call(d.shown(), func() error {
		cert = d.s.renewal(&d.s.core, r.Replaces, r.CSR)
		d.s.certs[idOf(cert)].core = true
		return nil
	})
	if err != nil {
		cert = ""
	}
	return cert, err
}

func (d *device) ConfirmDevice(_ context.Context, id string) error {
	return d.call(d.shown(), func() error {
		if d.s.core != nil && d.s.core.new == id {
			d.s.certs[d.s.core.old].active = false
			d.s.core = nil
		}
		return nil
	})
}

func (d *device) Admitted(context.Context) error {
	return d.call(d.shown(), func() error { return nil })
}
func (d *device) Close() {}

func (d *device) Connected() bool {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return !d.s.away && !d.s.deaf && d.s.takes(d.shown())
}

func (d *device) Reconnect(ctx context.Context) error {
	if d.Connected() {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (d *device) As(c identity.Credential) (renew.Candidate, error) {
	if _, err := d.live.Pair(c); err != nil {
		return nil, err
	}
	return as{d, idOf(c.CertificatePEM)}, nil
}

func (d *device) AsDevice(cert, _ []byte) (renew.Candidate, error) {
	return as{d, idOf(string(cert))}, nil
}
func (d *device) AsStranger() (renew.Stranger, error) { return as{d, ""}, nil }

type as struct {
	d  *device
	id string
}

func (a as) Close()                         {}
func (a as) Admitted(context.Context) error { return a.d.call(a.id, func() error { return nil }) }

func (a as) ConfirmRenewal(context.Context) error {
	return a.d.call(a.id, func() error { a.d.s.confirm(&a.d.s.pending, a.id); return nil })
}

func (a as) Nonce(context.Context) (n protocol.RenewNonce, err error) {
	err = a.d.call("", func() error {
		n = protocol.RenewNonce{Nonce: rand.Text(), Time: a.d.s.now()}
		a.d.s.nonces[n.Nonce] = true
		return nil
	})
	return n, err
}

func (a as) RenewExpired(_ context.Context, r protocol.ExpiredRequest) (cert string, err error) {
	err = a.d.call("", func() error {
		s := a.d.s
		c, err := identity.ParseCertificate(r.CertificatePEM)
		require.NoError(s.t, err)
		pub, ok := c.PublicKey.(*ecdsa.PublicKey)
		id := idOf(r.CertificatePEM)
		if !ok || !s.nonces[r.Nonce] || !ecdsa.VerifyASN1(pub, r.Digest(), r.Signature) || s.takes(id) || !s.usable(id) {
			return fault.New(fault.Denied, "the certificate cannot be renewed")
		}
		s.late++
		cert = s.renewal(&s.pending, id, r.CSR)
		return nil
	})
	if err != nil {
		cert = ""
	}
	return cert, err
}

// nucleus keeps the core's certificate.
type nucleus struct {
	t         *testing.T
	cert, key []byte
	broken    bool // works with no new certificate
	restarts  int
}

func (n *nucleus) Certificate() (cert, key []byte, err error) { return n.cert, n.key, nil }

func (n *nucleus) ReplaceCertificate(_ context.Context, cert, key []byte) error {
	if string(cert) == string(n.cert) {
		return nil
	}
	n.restarts++
	if n.broken {
		return errors.New("it does not start")
	}
	n.cert, n.key = cert, key
	return nil
}
