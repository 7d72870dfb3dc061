package app_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// newcomer is a machine that wants in, with a key of its own.
type newcomer struct {
	r    *running
	csr  string
	pem  []byte // its private key
	http *http.Client
}

// newcomer presents a client certificate, or none.
func (r *running) newcomer(certs ...tls.Certificate) *newcomer {
	r.t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(r.t, err)
	csr, err := pki.NewCSR(key, "x")
	require.NoError(r.t, err)
	pem, err := pki.MarshalKey(key)
	require.NoError(r.t, err)
	return &newcomer{r: r, csr: string(csr), pem: pem, http: r.deviceHTTP(certs...)}
}

func (r *running) deviceHTTP(certs ...tls.Certificate) *http.Client {
	r.t.Helper()
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(r.cfg.DataDir, "ca.pem"))
	require.NoError(r.t, err)
	require.True(r.t, pool.AppendCertsFromPEM(ca))
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 5 * time.Minute}
}

func (d *newcomer) do(method, path string, body any, out any) int {
	d.r.t.Helper()
	b, err := json.Marshal(body)
	require.NoError(d.r.t, err)
	req, err := http.NewRequestWithContext(d.r.t.Context(), method, "https://"+d.r.addresses["device"]+path, bytes.NewReader(b))
	require.NoError(d.r.t, err)
	res, err := d.http.Do(req)
	require.NoError(d.r.t, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	require.NoError(d.r.t, err)
	if out != nil && res.StatusCode < 300 {
		require.NoError(d.r.t, json.Unmarshal(raw, out), "%s", raw)
	}
	if res.StatusCode >= 300 {
		d.r.t.Logf("%s %s: %d %s", method, path, res.StatusCode, raw)
	}
	return res.StatusCode
}

// ask is one call of enrolment.
func (d *newcomer) ask(q protocol.EnrollRequest) (int, protocol.EnrollResponse, protocol.EnrollPending) {
	d.r.t.Helper()
	q.CSR = d.csr
	var out struct {
		protocol.EnrollResponse
		protocol.EnrollPending
	}
	status := d.do(http.MethodPost, protocol.PathEnroll, q, &out)
	return status, out.EnrollResponse, out.EnrollPending
}

// enters asks until it is let in.
func (d *newcomer) enters(q protocol.EnrollRequest) protocol.EnrollResponse {
	d.r.t.Helper()
	var got protocol.EnrollResponse
	require.Eventually(d.r.t, func() bool {
		status, out, _ := d.ask(q)
		require.Contains(d.r.t, []int{http.StatusOK, http.StatusAccepted}, status)
		got = out
		return status == http.StatusOK
	}, 5*time.Minute, 50*time.Millisecond)
	return got
}

// agent is the agent that was let in.
func (d *newcomer) agent(got protocol.EnrollResponse) *newcomer {
	d.r.t.Helper()
	return &newcomer{r: d.r, http: d.r.deviceHTTP(pair(d.r.t, got.CertificatePEM, d.pem))}
}

func pair(t *testing.T, cert string, key []byte) tls.Certificate {
	t.Helper()
	c, err := tls.X509KeyPair([]byte(cert), key)
	require.NoError(t, err)
	return c
}

// thing is the certificate of a thing that POST /things made.
func (r *running) thing(name string) tls.Certificate {
	r.t.Helper()
	status, _, b := r.call(http.MethodPost, "/things", `{"provisioningTemplateId":"default","parameters":{"ThingName":"`+name+`"},"cdfProvisioningParameters":{"certInfo":{"commonName":"`+name+`"}}}`)
	require.Less(r.t, status, 300, "%s", b)
	var v struct{ CertificatePem, PrivateKey string }
	require.NoError(r.t, json.Unmarshal(b, &v))
	return pair(r.t, v.CertificatePem, []byte(v.PrivateKey))
}

// claim is a claim that CreateProvisioningClaim made.
func (r *running) claim() tls.Certificate {
	r.t.Helper()
	_, _, b := r.call(http.MethodPost, "/accessKeys", `{}`)
	var k struct{ AccessKeyID, SecretAccessKey, EndpointURL, Region string }
	require.NoError(r.t, json.Unmarshal(b, &k))
	c := iot.New(iot.Options{BaseEndpoint: &k.EndpointURL, Region: k.Region, Credentials: credentials.NewStaticCredentialsProvider(k.AccessKeyID, k.SecretAccessKey, "")})
	body := `{"Parameters":{"n":{"Type":"String"}},"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"n"}}}}}`
	_, err := c.CreateProvisioningTemplate(r.t.Context(), &iot.CreateProvisioningTemplateInput{
		TemplateName: aws.String("t"), TemplateBody: &body, Enabled: aws.Bool(true), ProvisioningRoleArn: aws.String("arn:aws:iam::000000000000:role/r"),
	})
	require.NoError(r.t, err)
	out, err := c.CreateProvisioningClaim(r.t.Context(), &iot.CreateProvisioningClaimInput{TemplateName: aws.String("t")})
	require.NoError(r.t, err)
	return pair(r.t, *out.CertificatePem, []byte(*out.KeyPair.PrivateKey))
}

func TestFourWaysIn(t *testing.T) {
	r := serve(t, config(t, t.TempDir()))
	t.Run("a thing's certificate, made by POST /things", func(t *testing.T) {
		cert := r.thing("press-1")
		d := r.newcomer(cert)
		status, _, _ := d.ask(protocol.EnrollRequest{Name: "another"})
		assert.Equal(t, http.StatusBadRequest, status, "it is for another")
		got := d.enters(protocol.EnrollRequest{})
		assert.Equal(t, "press-1", got.Core)
		var a protocol.CoreAssignment
		agent := d.agent(got)
		require.Equal(t, http.StatusOK, agent.do(http.MethodGet, protocol.PathAgentCore, nil, &a))
		assert.True(t, a.HasCertificate, "it has had one")
		status, _, _ = agent.ask(protocol.EnrollRequest{})
		assert.Equal(t, http.StatusBadRequest, status, "without CSR")
		other := r.newcomer()
		other.http = agent.http
		status, _, _ = other.ask(protocol.EnrollRequest{})
		assert.Equal(t, http.StatusForbidden, status, "an agent's own certificate is renewed, not enrolled")

		again := r.newcomer(cert)
		assert.Equal(t, "press-1", again.enters(protocol.EnrollRequest{}).Core, "the same device with another key")
		assert.Equal(t, http.StatusForbidden, agent.do(http.MethodGet, protocol.PathAgentCore, nil, nil), "the agent before is out")
		status, _, _ = d.ask(protocol.EnrollRequest{})
		assert.Equal(t, http.StatusOK, status, "until it asks with the certificate again")
	})
	t.Run("a claim", func(t *testing.T) {
		claim := r.claim()
		d := r.newcomer(claim)
		status, _, pending := d.ask(protocol.EnrollRequest{Name: "press-2", Serial: "GW-2"})
		require.Equal(t, http.StatusAccepted, status)
		assert.Positive(t, pending.RetryAfterSeconds)
		for method, path := range map[string]string{
			http.MethodGet: protocol.PathAgentCore, http.MethodPost: "/greengrass/v2/resolveComponentCandidates", http.MethodPut: "/greengrass/things/press-2/connectivityInfo",
		} {
			assert.Equal(t, http.StatusForbidden, d.do(method, path, struct{}{}, nil), "a claim opens nothing else: %s", path)
		}
		status, _, b := r.call(http.MethodPut, "/enrollmentRules/line", `{"action":"approve","names":["press-*"],"serials":true,"ways":["claim"]}`)
		require.Equal(t, http.StatusOK, status, "%s", b)
		status, _, _ = d.ask(protocol.EnrollRequest{Name: "press-2", Serial: "GW-2"})
		assert.Equal(t, http.StatusAccepted, status, "its serial is not listed")
		status, _, b = r.call(http.MethodPut, "/enrollmentRules/line/serials", `{"list":"GW-1\nGW-2\n"}`)
		require.Equal(t, http.StatusOK, status, "%s", b)
		assert.Equal(t, "press-2", d.enters(protocol.EnrollRequest{Name: "press-2", Serial: "GW-2"}).Core)
		get(r, "/cores/press-2", func(map[string]any) bool { return true })
	})
	t.Run("nothing, and an operator", func(t *testing.T) {
		d := r.newcomer()
		status, _, pending := d.ask(protocol.EnrollRequest{Name: "press-3", Platform: "linux/arm64"})
		require.Equal(t, http.StatusAccepted, status)
		var q struct{ Name, Platform, Status, Address string }
		status, _, b := r.call(http.MethodPost, "/enrollmentRequests/"+pending.RequestID+"/approve", `{"reason":"ticket 1"}`)
		require.Equal(t, http.StatusOK, status, "%s", b)
		require.NoError(t, json.Unmarshal(b, &q))
		assert.Equal(t, "linux/arm64", q.Platform)
		assert.Equal(t, "127.0.0.1", q.Address)
		got := d.enters(protocol.EnrollRequest{Name: "press-3", Platform: "linux/arm64"})
		agent := d.agent(got)
		var c protocol.CSRResponse
		require.Equal(t, http.StatusOK, agent.do(http.MethodPost, protocol.PathCoreCertificate, protocol.CSRRequest{CSR: r.newcomer().csr}, &c), "the core's own key is made on the device")
		status, _, b = r.call(http.MethodPost, "/enrollmentRequests/"+pending.RequestID+"/deny", `{}`)
		require.Equal(t, http.StatusOK, status, "%s", b)
		assert.Equal(t, http.StatusForbidden, agent.do(http.MethodGet, protocol.PathAgentCore, nil, nil), "denied is revoked")
		status, _, _ = d.ask(protocol.EnrollRequest{Name: "press-3"})
		assert.Equal(t, http.StatusForbidden, status)
	})
	t.Run("an activation", func(t *testing.T) {
		status, _, b := r.call(http.MethodPost, "/activations", `{"deviceId":"press-1","role":"client"}`)
		require.Equal(t, http.StatusBadRequest, status, "it is a core: %s", b)
		_, _, b = r.call(http.MethodPost, "/activations", `{"deviceId":"press-1"}`)
		var v struct{ ActivationID, ActivationCode string }
		require.NoError(t, json.Unmarshal(b, &v))
		assert.Equal(t, "press-1", r.newcomer().enters(protocol.EnrollRequest{ActivationID: v.ActivationID, Code: v.ActivationCode, Role: protocol.RoleCore}).Core)
	})
}
