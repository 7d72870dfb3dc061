package fault_test

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// unit is a device that makes the calls of an agent, each until it is answered. It
// does with the answers what an agent does, and keeps nothing on a disk.
type unit struct {
	s   *story
	say protocol.EnrollRequest // of itself

	cert *tls.Certificate // that it shows; nil: none
	got  protocol.EnrollResponse
}

// secret is a key that does not leave a device, and the CSR for it.
type secret struct {
	crypto.Signer

	csr string
}

func newSecret(s *story) secret {
	s.t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(s.t, err)
	csr, err := pki.NewCSR(key, "whoever") // who it is for is not the device's to say
	require.NoError(s.t, err)
	return secret{key, string(csr)}
}

// with is the key and the certificate that was issued for it.
func (k secret) with(t require.TestingT, certPEM string) *tls.Certificate {
	list, err := pki.ParseCerts([]byte(certPEM))
	require.NoError(t, err)
	c := pki.TLSCertificate(k, list[0].Raw, list[1:]...)
	return &c
}

// try makes one call, which may be met by a kill.
func (u *unit) try(method, path string, body any) (int, []byte, error) {
	t := u.s.t
	t.Helper()
	content, raw := body.([]byte)
	if !raw && body != nil {
		var err error
		content, err = json.Marshal(body)
		require.NoError(t, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+strings.Replace(u.s.w.Device, "127.0.0.1", "localhost", 1)+path, bytes.NewReader(content))
	require.NoError(t, err)
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: u.s.w.Roots}
	if u.cert != nil {
		cfg.Certificates = []tls.Certificate{*u.cert}
	}
	c := &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
	res, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, b, err
}

// call makes a call until it is answered.
func (u *unit) call(method, path string, body any) (int, []byte) {
	u.s.t.Helper()
	for {
		status, b, err := u.try(method, path, body)
		if err == nil {
			return status, b
		}
		if strings.Contains(err.Error(), "remote error: tls: bad certificate") { // refused before it could ask
			return http.StatusForbidden, nil
		}
		u.s.revive(err)
	}
}

// must makes a call that is answered with 200, and reads the answer.
func (u *unit) must(method, path string, body, out any) {
	u.s.t.Helper()
	status, b := u.call(method, path, body)
	require.Equal(u.s.t, http.StatusOK, status, "%s %s: %s", method, path, b)
	if out != nil {
		require.NoError(u.s.t, json.Unmarshal(b, out), "%s", b)
	}
}

// refused makes a call that is answered with the status.
func (u *unit) refused(status int, method, path string, body any) {
	u.s.t.Helper()
	got, b := u.call(method, path, body)
	assert.Equal(u.s.t, status, got, "%s %s: %s", method, path, b)
}

// newUnit is a device with a new key.
func newUnit(s *story, say protocol.EnrollRequest) (*unit, secret) {
	k := newSecret(s)
	say.CSR = k.csr
	return &unit{s: s, say: say}, k
}

// waits asks and is told to wait; it returns the id of the request.
func (u *unit) waits() string {
	u.s.t.Helper()
	status, b := u.call(http.MethodPost, protocol.PathEnroll, u.say)
	require.Equal(u.s.t, http.StatusAccepted, status, "%s", b)
	var p protocol.EnrollPending
	require.NoError(u.s.t, json.Unmarshal(b, &p))
	return p.RequestID
}

// enters asks until it is let in, and is the agent from then on.
func (u *unit) enters(k secret) {
	u.s.t.Helper()
	u.s.until(func() string {
		status, b := u.call(http.MethodPost, protocol.PathEnroll, u.say)
		require.Contains(u.s.t, []int{http.StatusOK, http.StatusAccepted, http.StatusTooManyRequests}, status, "%s", b)
		if status != http.StatusOK {
			var p protocol.EnrollPending
			var r struct{ Status, Message string }
			if json.Unmarshal(b, &p) == nil && p.RequestID != "" {
				u.s.get("/enrollmentRequests/"+p.RequestID, &r)
				require.Equal(u.s.t, "approved", r.Status, "%s: %s", b, r.Message)
			}
			return string(b)
		}
		require.NoError(u.s.t, json.Unmarshal(b, &u.got))
		return ""
	})
	first := u.got
	u.must(http.MethodPost, protocol.PathEnroll, u.say, &u.got)
	assert.Equal(u.s.t, first, u.got, "the same key again gets another identity")
	u.cert = k.with(u.s.t, u.got.CertificatePEM)
}

// assignment asks for the assignment of a core and says that the agent has a
// version and how its update goes.
func (u *unit) assignment(platform, version string, update protocol.AgentUpdate) (a protocol.CoreAssignment) {
	u.s.t.Helper()
	u.must(http.MethodGet, protocol.AssignmentQuery{Platform: platform, Agent: protocol.AgentAbout{Version: version, Update: update}}.Path(), nil, &a)
	return a
}

// renew gets the agent a certificate for a new key in place of the one that it has,
// which is refused afterwards.
func (u *unit) renew() {
	u.s.t.Helper()
	k, old := newSecret(u.s), u.cert
	var first, again protocol.CSRResponse
	u.must(http.MethodPost, protocol.PathCertificate, protocol.CSRRequest{CSR: k.csr}, &first)
	u.must(http.MethodPost, protocol.PathCertificate, protocol.CSRRequest{CSR: k.csr}, &again)
	assert.Equal(u.s.t, first, again)
	u.confirm(k.with(u.s.t, first.CertificatePEM), old)
}

// confirm begins to use a certificate and says so; the old one is refused from then on.
func (u *unit) confirm(cert, old *tls.Certificate) {
	u.s.t.Helper()
	u.cert = cert
	for range 2 {
		u.must(http.MethodPost, protocol.PathCertificateConfirm, struct{}{}, nil)
	}
	(&unit{s: u.s, cert: old}).refused(http.StatusForbidden, http.MethodGet, protocol.PathAgentCore, nil)
}

// renewDevice gets its core a certificate in place of the one with this id, which is
// INACTIVE afterwards, and returns the id of the new one.
func (u *unit) renewDevice(replaces string) string {
	u.s.t.Helper()
	k := newSecret(u.s)
	var out protocol.CSRResponse
	u.must(http.MethodPost, protocol.PathDeviceRenewal, protocol.DeviceRenewal{CSR: k.csr, Replaces: replaces}, &out)
	cert := k.with(u.s.t, out.CertificatePEM)
	id := pki.ID(cert.Certificate[0])
	for range 2 {
		u.must(http.MethodPost, protocol.PathDeviceRenewalConfirm, protocol.RenewConfirm{CertificateID: id}, nil)
	}
	u.refused(http.StatusBadRequest, http.MethodPost, protocol.PathDeviceRenewal, protocol.DeviceRenewal{CSR: newSecret(u.s).csr, Replaces: replaces})
	return id
}

// completes gets its core or client device the certificate that it was created
// without, and returns its id.
func (u *unit) completes(path string) string {
	u.s.t.Helper()
	k := newSecret(u.s)
	var first, again protocol.CSRResponse
	u.must(http.MethodPost, path, protocol.CSRRequest{CSR: k.csr}, &first)
	u.must(http.MethodPost, path, protocol.CSRRequest{CSR: k.csr}, &again)
	assert.Equal(u.s.t, first, again)
	return pki.ID(k.with(u.s.t, first.CertificatePEM).Certificate[0])
}

// help takes a request, sends what it asks for, in parts, and reports.
func (u *unit) help(id string, content []byte, result protocol.HelpResult) {
	u.s.t.Helper()
	var list protocol.HelpList
	u.must(http.MethodGet, protocol.PathHelp, nil, &list)
	require.True(u.s.t, slices.Contains(list.Requests, protocol.HelpOffer{ID: id}), "%+v does not hold %s", list, id)
	const run = "run-1"
	u.must(http.MethodPost, protocol.HelpPathOf(id, protocol.HelpTakePath), protocol.HelpTake{Run: run}, nil)
	n := 0
	for part := range slices.Chunk(content, protocol.HelpPart) {
		u.must(http.MethodPut, protocol.HelpPathOf(id, protocol.HelpContentPath)+"?run="+run+"&part="+string(rune('0'+n)), part, nil)
		n++
	}
	result.Run, result.Size = run, int64(len(content))
	u.must(http.MethodPost, protocol.HelpPathOf(id, protocol.HelpResultPath), result, nil)
}
