package fault_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/internal/world"
)

// lineage is everything that operators and agents do with each other: the units
// that are in at its end, by the names of their devices.
type lineage struct {
	*story

	units map[string]*unit
	aws   *awsUser

	signer []byte // signs releases
	denied string // id of a request
	views  []string

	oldKey  secret // of the certificate that expires
	oldPEM  string
	expires time.Time
}

const amd, arm = "linux/amd64", "linux/arm64"

// everything tells it: who is let in and who is not, certificates that take the
// place of others, releases of the agent, help, and the nucleus of one core.
func (l *lineage) everything() {
	for _, version := range []string{"1.0.0", "1.1.0"} {
		l.put(http.MethodPut, "/distributions/"+testNucleus+"/"+version+"?format=tar.gz", archive(l.t, version, worksFine, 0))
	}
	l.post("/distributions/"+testNucleus+"/1.1.0/activate", "", nil, http.StatusOK)
	l.create(coreNames(4))
	connects := []string{"core-0003"} // who is to have client devices must have been there
	l.fleet = runCores(l.t, l.w, connects)
	l.healthy(connects)
	l.fleet.stop()
	l.aws = newAWSUser(l.story)
	l.rules()
	l.approved()
	l.factory()
	l.byRule()
	l.refusals()
	l.knownCores()
	l.clientDevice()
	l.renewals()
	l.releases()
	l.helpers()
	l.pins()
	l.afterTheEnd()
	l.look()
}

func (l *lineage) rules() {
	l.put(http.MethodPut, "/enrollmentRules/gateways", object{"action": "approve", "priority": 10, "serials": true, "ways": []string{"none"}})
	for _, list := range []string{"GW-1\n", "GW-1\nGW-2,unit-2\n"} {
		l.put(http.MethodPut, "/enrollmentRules/gateways/serials", object{"list": list})
	}
	l.put(http.MethodPut, "/enrollmentRules/claims", object{"action": "approve", "priority": 20, "names": []string{"unit-*"}, "ways": []string{"claim"}})
	l.put(http.MethodPut, "/enrollmentRules/strangers", object{"action": "deny", "priority": 30, "names": []string{"re:(bad|worse)-[0-9]+"}})
}

// let lets a device in as an operator.
func (l *lineage) let(id string, approval object) {
	l.t.Helper()
	l.post("/enrollmentRequests/"+id+"/approve", "", approval, http.StatusOK)
}

// approved is a device that nobody knows, which is let in with a new core; then it
// comes back with another key.
func (l *lineage) approved() {
	u, k := newUnit(l.story, protocol.EnrollRequest{Name: "unit-1", Serial: "S-1", Platform: amd})
	id := u.waits()
	assert.Equal(l.t, id, u.waits())
	l.let(id, object{"reason": "ticket 4711"})
	u.enters(k)
	u.completes(protocol.PathCoreCertificate)
	old := u.cert

	again, k := newUnit(l.story, u.say)
	again.say.CSR = k.csr
	id = again.waits()
	l.let(id, object{})
	again.enters(k)
	(&unit{s: l.story, cert: old}).refused(http.StatusForbidden, http.MethodGet, protocol.PathAgentCore, nil)
	u.cert = nil
	forgotten := u.waits() // it was in, and is not any more
	l.gone("/enrollmentRequests/" + forgotten)
	l.units["unit-1"] = again
}

// byRule are devices that no person looks at: one is known by its serial, the other
// by a claim.
func (l *lineage) byRule() {
	u, k := newUnit(l.story, protocol.EnrollRequest{Serial: "GW-2", Platform: arm})
	u.enters(k)
	assert.Equal(l.t, "unit-2", u.got.Core)
	l.units["unit-2"] = u

	key, claim := l.selfSigned("a claim", time.Now().Add(time.Hour))
	l.register(claim)
	u, k = newUnit(l.story, protocol.EnrollRequest{Name: "unit-4"})
	u.cert = key.with(l.t, claim)
	u.refused(http.StatusForbidden, http.MethodGet, protocol.PathAgentCore, nil)
	u.enters(k)
	l.units["unit-4"] = u
}

// selfSigned is a certificate that some factory made.
func (l *lineage) selfSigned(name string, end time.Time) (secret, string) {
	l.t.Helper()
	k := newSecret(l.story)
	c := &x509.Certificate{SerialNumber: pki.Serial(), Subject: pkix.Name{CommonName: name}, NotBefore: end.Add(-24 * time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k.Signer)
	require.NoError(l.t, err)
	return k, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// register makes a certificate known, and returns its ARN.
func (l *lineage) register(certPEM string) *string {
	l.t.Helper()
	call(l.aws, l.aws.iot.RegisterCertificateWithoutCA, &iot.RegisterCertificateWithoutCAInput{CertificatePem: &certPEM, Status: iottypes.CertificateStatusActive},
		"ResourceAlreadyExistsException")
	list, err := pki.ParseCerts([]byte(certPEM))
	require.NoError(l.t, err)
	return aws.String(awsARN + "cert/" + pki.ID(list[0].Raw))
}

// refusals are devices that are kept out, one by a rule and one by an operator.
func (l *lineage) refusals() {
	u, _ := newUnit(l.story, protocol.EnrollRequest{Name: "worse-1"})
	u.refused(http.StatusForbidden, http.MethodPost, protocol.PathEnroll, u.say)
	l.gone("/enrollmentRules/strangers")
	u, _ = newUnit(l.story, protocol.EnrollRequest{Name: "unit-3", Serial: "S-3"})
	l.denied = u.waits()
	l.post("/enrollmentRequests/"+l.denied+"/deny", "", object{"reason": "not one of ours"}, http.StatusOK)
	u.refused(http.StatusForbidden, http.MethodPost, protocol.PathEnroll, u.say)
}

// knownCores are cores that are there already: one gets an agent by an activation and
// then another one, one by its own certificate, and that one is thrown out.
func (l *lineage) knownCores() {
	var before *tls.Certificate
	for _, key := range []string{"first", "second"} {
		var a struct{ ActivationID, ActivationCode string }
		require.NoError(l.t, json.Unmarshal(l.post("/activations", key, object{"deviceId": "core-0001"}, http.StatusOK).Body, &a))
		u, k := newUnit(l.story, protocol.EnrollRequest{ActivationID: a.ActivationID, Code: a.ActivationCode})
		u.enters(k)
		if before != nil {
			(&unit{s: l.story, cert: before}).refused(http.StatusForbidden, http.MethodGet, protocol.PathAgentCore, nil)
		}
		before, l.units["core-0001"] = u.cert, u
	}
	core := l.own("core-0002")
	u, k := newUnit(l.story, protocol.EnrollRequest{})
	u.cert = &core.Certificate
	u.enters(k)
	u.assignment(amd, "", protocol.AgentUpdate{})
	var found struct{ Requests []struct{ RequestID string } }
	l.get("/enrollmentRequests?name=core-0002", &found)
	require.Len(l.t, found.Requests, 1)
	l.post("/enrollmentRequests/"+found.Requests[0].RequestID+"/deny", "", object{}, http.StatusOK)
	u.refused(http.StatusForbidden, http.MethodGet, protocol.PathAgentCore, nil)
}

// own is what a core was created with, from the store of a process that lives.
func (l *lineage) own(name string) world.Core {
	l.t.Helper()
	for {
		_, err := l.w.Object(l.t.Context(), "ggfleet", artifactKey(name, "certs.zip"))
		if err == nil {
			return l.w.FetchCore(l.t, name)
		}
		l.revive(err)
	}
}

// clientDevice is one that belongs to a core.
func (l *lineage) clientDevice() {
	u, k := newUnit(l.story, protocol.EnrollRequest{Name: "sensor-1", Role: protocol.RoleClient})
	l.let(u.waits(), object{"coreName": "core-0003"})
	u.enters(k)
	u.completes(protocol.PathDeviceCertificate)
	var a protocol.DeviceAssignment
	u.must(http.MethodGet, protocol.PathAgentDevice, nil, &a)
	assert.Equal(l.t, "core-0003", a.Core)
	assert.True(l.t, a.HasCertificate)
	l.units["sensor-1"] = u
}

// renewals takes the place of the agent's and of the core's certificate, twice.
func (l *lineage) renewals() {
	u := l.units["unit-2"]
	id := u.completes(protocol.PathCoreCertificate)
	for range 2 {
		u.renew()
		id = u.renewDevice(id)
	}
	l.units["sensor-1"].renew2(protocol.PathAgentDevice)
}

// renew2 is renew for the agent of a client device.
func (u *unit) renew2(path string) {
	u.s.t.Helper()
	k, old := newSecret(u.s), u.cert
	var out protocol.CSRResponse
	u.must(http.MethodPost, protocol.PathCertificate, protocol.CSRRequest{CSR: k.csr}, &out)
	u.cert = k.with(u.s.t, out.CertificatePEM)
	u.must(http.MethodPost, protocol.PathCertificateConfirm, struct{}{}, nil)
	(&unit{s: u.s, cert: old}).refused(http.StatusForbidden, http.MethodGet, path, nil)
}

// factory gives unit-1's agent a certificate that will have expired when it is
// needed: this control plane issues none so short.
func (l *lineage) factory() {
	thing := &l.units["unit-1"].got.AgentThing
	l.expires = time.Now().Add(30 * time.Second) // it is registered before, also when that is killed
	l.oldKey, l.oldPEM = l.selfSigned(*thing, l.expires)
	call(l.aws, l.aws.iot.AttachThingPrincipal, &iot.AttachThingPrincipalInput{Principal: l.register(l.oldPEM), ThingName: thing})
}

// afterTheEnd renews a certificate that has expired.
func (l *lineage) afterTheEnd() {
	u := l.units["unit-1"]
	l.until(func() string {
		if left := time.Until(l.expires) + time.Second; left > 0 { // a certificate ends with its second
			return "it expires in " + left.String()
		}
		return ""
	})
	k := newSecret(l.story)
	sign := func() protocol.ExpiredRequest {
		var n protocol.RenewNonce
		u.must(http.MethodGet, protocol.PathCertificateExpired, nil, &n)
		r := protocol.ExpiredRequest{CertificatePEM: l.oldPEM, CSR: k.csr, Nonce: n.Nonce}
		var err error
		r.Signature, err = l.oldKey.Sign(rand.Reader, r.Digest(), nil)
		require.NoError(l.t, err)
		return r
	}
	before := u.cert
	u.cert = nil
	var out protocol.CSRResponse
	r := sign()
	u.must(http.MethodPost, protocol.PathCertificateExpired, r, &out)
	u.confirm(k.with(l.t, out.CertificatePEM), before)
	u.refused(http.StatusForbidden, http.MethodPost, protocol.PathCertificateExpired, r)
	u.refused(http.StatusForbidden, http.MethodPost, protocol.PathCertificateExpired, sign())
}

// sign makes the signature file of an agent for a platform.
func (l *lineage) sign(version, platform string, binary []byte) []byte {
	l.t.Helper()
	sig, err := signed.Sign(l.signer, "", bytes.NewReader(binary), signed.Statement{Version: version, Platform: platform})
	require.NoError(l.t, err)
	return sig
}

func digestOf(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
