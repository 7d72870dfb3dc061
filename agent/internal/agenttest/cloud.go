// Package agenttest is a small control plane for the agent's tests: a CA, the
// device HTTPS listener and an MQTT broker, in process, behaving as
// shared/protocol says. It can be told to be away, to lose answers and to cut
// downloads. Only tests import it.
package agenttest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Cloud is the stand-in. Its exported fields are set before it is used, or
// through Change.
type Cloud struct {
	Enrollment protocol.Enrollment
	Root       *x509.Certificate
	rootKey    *ecdsa.PrivateKey
	server     *httptest.Server
	broker     *broker

	mu sync.Mutex // guards State and counters
	s  State
}

// State is what the control plane has to say and what it was asked.
type State struct {
	Assignment protocol.CoreAssignment
	Config     []byte
	CertsZip   []byte
	Archives   map[string][]byte // by digest
	Away       bool              // every call gets 503
	Aged       bool              // certificates are given near their end, but for renewals
	Lose       map[string]int    // path → how many answers are lost on the way
	Cut        int               // downloads that end after half
	Refuse     int               // status that enrolment is refused with; 0: not
	Agents     map[string]string // public key → certificate PEM
	Cores      map[string]string // the same for the core
	Ranges     []string          // Range headers seen
	Calls      map[string]int
	Deaf       string   // version of the agent that is not told its assignment
	Patches    []*Patch // that wait, and those that ended
	Help       []*Help  // the same
}

// New starts a control plane that knows one core.
func New(t testing.TB, core string) *Cloud {
	t.Helper()
	return NewOn(t, core, "127.0.0.1:0")
}

// NewOn starts one on another loopback address than its certificate names.
func NewOn(t testing.TB, core, address string) *Cloud {
	t.Helper()
	c := &Cloud{s: State{
		Assignment: protocol.CoreAssignment{Core: core},
		Archives:   map[string][]byte{}, Lose: map[string]int{}, Agents: map[string]string{}, Cores: map[string]string{}, Calls: map[string]int{},
	}}
	c.Root, c.rootKey = newCA(t)
	c.s.Assignment.CAPEM = c.CAPEM()
	serverCert := c.serverCertificate(t)
	c.server = httptest.NewUnstartedServer(http.HandlerFunc(c.serve))
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	_ = c.server.Listener.Close()
	c.server.Listener = l
	c.server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{serverCert}, ClientAuth: tls.RequestClientCert}
	c.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	c.server.StartTLS()
	t.Cleanup(c.server.Close)
	c.broker = newBroker(t, serverCert, c.registered)
	fp := sha256.Sum256(c.Root.Raw)
	c.Enrollment = protocol.Enrollment{
		URL: c.server.URL, CAFingerprint: hex.EncodeToString(fp[:]), ActivationID: "0f8fad5b-d9cb-469f-a165-70867728950e", Code: "Ab3dE6gH9jK2mN5pQ8sT",
	}
	return c
}

func newCA(t testing.TB) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

func (c *Cloud) serverCertificate(t testing.TB) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := c.sign(&key.PublicKey, "server")
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der, c.Root.Raw}, PrivateKey: key}
}

func (c *Cloud) sign(pub any, cn string) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	c.dates(tmpl)
	return x509.CreateCertificate(rand.Reader, tmpl, c.Root, pub, c.rootKey)
}

// CAPEM is the bundle to trust.
func (c *Cloud) CAPEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Root.Raw}))
}

// Change changes the state.
func (c *Cloud) Change(f func(*State)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.s)
}

// Offer puts an archive into the assignment and returns its digest.
func (c *Cloud) Offer(version string, archive []byte) string {
	d := Distribution(version, archive)
	c.Change(func(s *State) {
		s.Archives[d.Digest] = archive
		s.Assignment.Nucleus = d
	})
	return d.Digest
}

// registered reports whether the certificate is an agent's.
func (c *Cloud) registered(cert *x509.Certificate) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.s.Agents[string(cert.RawSubjectPublicKeyInfo)]
	return ok
}

func (c *Cloud) serve(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.s.Calls[r.URL.Path]++
	away := c.s.Away
	c.mu.Unlock()
	switch {
	case away:
		fail(w, http.StatusServiceUnavailable, "away")
	case r.URL.Path == protocol.PathEnroll:
		c.enroll(w, r)
	case c.renewals(w, r):
	case r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || !c.registered(r.TLS.PeerCertificates[0]):
		fail(w, http.StatusForbidden, "the client certificate is not accepted")
	default:
		c.agent(w, r)
	}
}

func (c *Cloud) agent(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasPrefix(r.URL.Path, protocol.PathPatches) {
		c.patches(w, r)
		return
	}
	if strings.HasPrefix(r.URL.Path, protocol.PathHelp) {
		c.help(w, r)
		return
	}
	switch r.URL.Path {
	case protocol.PathAgentCore:
		if v := r.URL.Query().Get("agent"); v != "" && v == c.s.Deaf {
			fail(w, http.StatusServiceUnavailable, "away")
			return
		}
		c.answer(w, r, c.s.Assignment)
	case protocol.PathCoreConfig:
		_, _ = w.Write(c.s.Config)
	case protocol.PathCoreCerts:
		_, _ = w.Write(c.s.CertsZip)
	case protocol.PathCoreCertificate:
		var in protocol.CSRRequest
		if json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&in) != nil {
			fail(w, http.StatusBadRequest, "no JSON")
			return
		}
		if cert, ok := c.once(w, c.s.Cores, in.CSR); ok {
			c.s.Assignment.HasCertificate = true
			c.answer(w, r, protocol.CSRResponse{CertificatePEM: cert})
		}
	default:
		c.archive(w, r)
	}
}

func (c *Cloud) archive(w http.ResponseWriter, r *http.Request) {
	digest := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, protocol.PathDistributions), protocol.PathReleases) // both are archives here
	b, ok := c.s.Archives[digest]
	if !ok {
		fail(w, http.StatusNotFound, "no such distribution")
		return
	}
	c.s.Ranges = append(c.s.Ranges, r.Header.Get("Range"))
	if c.s.Cut > 0 {
		c.s.Cut--
		w.Header().Set("Content-Length", "9999999")
		_, _ = w.Write(b[:len(b)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func (c *Cloud) enroll(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var in protocol.EnrollRequest
	switch {
	case json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&in) != nil:
		fail(w, http.StatusBadRequest, "no JSON")
	case c.s.Refuse != 0:
		fail(w, c.s.Refuse, "the activation has expired")
	case in.ActivationID != c.Enrollment.ActivationID || in.Code != c.Enrollment.Code:
		fail(w, http.StatusUnauthorized, "activation id or code is wrong")
	default:
		if len(c.s.Agents) > 0 && c.s.Agents[publicKey(in.CSR)] == "" {
			fail(w, http.StatusForbidden, "the activation is used up")
			return
		}
		cert, ok := c.once(w, c.s.Agents, in.CSR)
		if !ok {
			return
		}
		core := c.s.Assignment.Core
		c.answer(w, r, protocol.EnrollResponse{
			AgentThing: protocol.AgentThing(core), Core: core, CertificatePEM: cert, CAPEM: c.CAPEM(), MQTTAddress: c.broker.address,
		})
	}
}

func publicKey(csr string) string {
	block, _ := pem.Decode([]byte(csr))
	if block == nil {
		return ""
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || r.CheckSignature() != nil {
		return ""
	}
	return string(r.RawSubjectPublicKeyInfo)
}

// once signs csr, or gives the certificate that its key already has.
func (c *Cloud) once(w http.ResponseWriter, issued map[string]string, csr string) (string, bool) {
	spki := publicKey(csr)
	pub, err := x509.ParsePKIXPublicKey([]byte(spki))
	if err != nil {
		fail(w, http.StatusBadRequest, "no CSR")
		return "", false
	}
	if issued[spki] == "" {
		der, err := c.sign(pub, "AWS IoT Certificate")
		if err != nil {
			fail(w, http.StatusInternalServerError, err.Error())
			return "", false
		}
		issued[spki] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return issued[spki], true
}

func (c *Cloud) answer(w http.ResponseWriter, r *http.Request, v any) {
	if c.s.Lose[r.URL.Path] > 0 {
		c.s.Lose[r.URL.Path]--
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": "refused", "message": text})
}
