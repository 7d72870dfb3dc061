package deviceapi_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/deviceapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// kit is the device edge over TLS, in front of a registry in memory. It is its
// own component store, groups and agents.
type kit struct {
	t      *testing.T
	world  *selfhostedtest.World
	server *httptest.Server
	pool   *x509.CertPool

	sessions *access.Sessions

	asked  []component.Candidate
	groups []string
	lite   map[string]bool
	enroll chan struct{} // if set, an enrolment waits for it

	mu      sync.Mutex // guards callers
	callers []enrollment.Caller
}

func newKit(t *testing.T, more ...func(*deviceapi.Config)) *kit {
	t.Helper()
	k := &kit{t: t, world: selfhostedtest.New(t, memory.New()), pool: x509.NewCertPool(), lite: map[string]bool{}}
	k.pool.AddCert(k.world.CA.Root)
	var err error
	k.sessions, err = access.NewSessions(access.SessionsConfig{Secret: bytes.Repeat([]byte{7}, 32)})
	require.NoError(t, err)
	ids := selfhosted.Identities{Registry: k.world.Registry}
	api := deviceapi.Config{
		Identities: ids, Claims: ids, Components: k, Cores: k, RoleAliases: k.world.Registry, Sessions: k.sessions, URLs: k, Agents: k, Realm: k.world.Realm, CAPEM: string(pki.EncodeCert(k.world.CA.Root.Raw)),
	}
	for _, m := range more {
		m(&api)
	}
	h, err := deviceapi.New(api)
	require.NoError(t, err)
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	der, err := k.world.CA.Issuer.SignServer(key.Public(), []string{"127.0.0.1"}, time.Now(), time.Hour)
	require.NoError(t, err)
	cert := pki.TLSCertificate(key, der, k.world.CA.Issuer.Cert)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cfg := gateway.HTTPConfig(ids, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil })
	cfg.Certificates = []tls.Certificate{cert} // or httptest presents its own
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	k.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: quiet}, TLS: cfg}
	k.server.StartTLS()
	t.Cleanup(k.server.Close)
	return k
}

const arn = "arn:aws:greengrass:us-east-1:000000000000:components:com.example.App:versions:1.0.0"

func (k *kit) Resolve(_ context.Context, c []component.Candidate, _ component.Platform) ([]component.Resolved, error) {
	k.asked = c
	if len(c) == 1 && c[0].Name == "com.example.App" {
		return []component.Resolved{{ARN: arn, Name: c[0].Name, Version: "1.0.0", Recipe: []byte(`{"a":1}`), VendorGuidance: "ACTIVE"}}, nil
	}
	return nil, fault.New(fault.NotFound, "no usable version of component %s", c[0].Name)
}

func (k *kit) Locate(_ context.Context, of, name string) (component.Artifact, error) {
	switch {
	case of != arn:
		return component.Artifact{}, fault.New(fault.NotFound, "component %s does not exist", of)
	case name != "models/v3 é.bin":
		return component.Artifact{}, fault.New(fault.Invalid, "%q cannot be an artifact", name)
	}
	return component.Artifact{Key: "k", SHA256: "d"}, nil
}

func (k *kit) URL(key, digest, file string) (string, error) {
	return "http://host/" + key + "/" + digest + "/" + file, nil
}

func (k *kit) GroupsOf(context.Context, string) ([]string, error) { return k.groups, nil }

func (k *kit) IsLite(_ context.Context, thing string) (lite, ok bool, err error) {
	lite, ok = k.lite[thing]
	return lite, ok, nil
}

func (k *kit) Enroll(_ context.Context, c enrollment.Caller, r protocol.EnrollRequest) (enrollment.Answer, error) {
	if k.enroll != nil {
		<-k.enroll
	}
	k.mu.Lock()
	k.callers = append(k.callers, c)
	k.mu.Unlock()
	switch r.Code {
	case "right":
		return enrollment.Answer{EnrollResponse: protocol.EnrollResponse{Core: "core"}}, nil
	case "wait":
		return enrollment.Answer{Pending: &protocol.EnrollPending{RequestID: "id", RetryAfterSeconds: 10}}, nil
	}
	return enrollment.Answer{}, fault.New(fault.Denied, "no")
}

func (k *kit) Assignment(_ context.Context, core string, _ protocol.AssignmentQuery) (protocol.CoreAssignment, error) {
	return protocol.CoreAssignment{Core: core}, nil
}

func (k *kit) Certificate(_ context.Context, core, csr string) (protocol.CSRResponse, error) {
	return protocol.CSRResponse{CertificatePEM: core + " " + csr}, nil
}

func open(content string) (object.Reader, object.Info, error) {
	s := objects.New("b")
	if err := s.Put(context.Background(), state.PutCerts, "k", strings.NewReader(content), int64(len(content)), "text/plain"); err != nil {
		return nil, object.Info{}, err
	}
	return s.Open(context.Background(), "k")
}

func (k *kit) Certs(_ context.Context, core string) (object.Reader, object.Info, error) {
	return open("certs of " + core)
}

func (k *kit) Config(_ context.Context, core string) (object.Reader, object.Info, error) {
	return nil, object.Info{}, fault.New(fault.NotFound, "core %s has no installer configuration", core)
}

func (k *kit) DeviceAssignment(_ context.Context, device string) (protocol.DeviceAssignment, error) {
	return protocol.DeviceAssignment{Device: device}, nil
}

func (k *kit) DeviceCertificate(_ context.Context, device, csr string) (protocol.CSRResponse, error) {
	return protocol.CSRResponse{CertificatePEM: device + " " + csr}, nil
}

func (k *kit) DeviceCerts(_ context.Context, device string) (object.Reader, object.Info, error) {
	return open("certs of " + device)
}

func (k *kit) CoresOf(ctx context.Context, device string, each func(core string) error) error {
	return k.world.Greengrass.CoresOf(ctx, device, each)
}

func (k *kit) Distribution(_ context.Context, digest string) (object.Reader, object.Info, error) {
	return open("archive " + digest)
}

// client is a device with this certificate; none without.
func (k *kit) client(certs ...tls.Certificate) *http.Client {
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: k.pool, Certificates: certs, MinVersion: tls.VersionTLS12}}
	k.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

func (k *kit) core(policies ...string) *http.Client {
	cert, _ := k.world.Client(k.t, "core", nil, policies...)
	return k.client(cert)
}

// do sends a request; agent "" sends no User-Agent, as lite does.
func (k *kit) do(c *http.Client, method, path, body, agent string) (*http.Response, map[string]any) {
	k.t.Helper()
	req, err := http.NewRequestWithContext(k.t.Context(), method, k.server.URL+path, strings.NewReader(body))
	require.NoError(k.t, err)
	req.Header["User-Agent"] = []string{agent}
	if agent == "" {
		req.Header["User-Agent"] = nil
	}
	res, err := c.Do(req)
	require.NoError(k.t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	require.NoError(k.t, err)
	res.Body = io.NopCloser(bytes.NewReader(b))
	var v map[string]any
	_ = json.Unmarshal(b, &v) // some answers are no JSON
	return res, v
}

const classic = "aws-sdk-java/2.20"

func TestResolve(t *testing.T) {
	k := newKit(t)
	c := k.core(selfhostedtest.Policy)
	const path = "/greengrass/v2/resolveComponentCandidates"
	res, v := k.do(c, http.MethodPost, path, `{"componentCandidates":[{"componentName":"com.example.App","versionRequirements":{"requirements":">=1.0.0"}}],"platform":{"name":"linux","attributes":{"os":"linux"}}}`, "")
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, map[string]any{"resolvedComponentVersions": []any{map[string]any{
		"arn": arn, "componentName": "com.example.App", "componentVersion": "1.0.0", "recipe": base64.StdEncoding.EncodeToString([]byte(`{"a":1}`)), "vendorGuidance": "ACTIVE",
	}}}, v)
	assert.Equal(t, map[string]string{"requirements": ">=1.0.0"}, k.asked[0].Requirements)

	res, v = k.do(c, http.MethodPost, path, `{"componentCandidates":[{"componentName":"none"}]}`, classic)
	assert.Equal(t, http.StatusNotFound, res.StatusCode)
	assert.Equal(t, "ResourceNotFoundException", res.Header.Get("x-amzn-ErrorType"), "classic needs the typed error")
	assert.Equal(t, "component", v["resourceType"])
	assert.Contains(t, v["message"], "no usable version")
	for body, status := range map[string]int{`{`: http.StatusBadRequest, `{"componentCandidates":"` + strings.Repeat("x", 70_000) + `"}`: http.StatusRequestEntityTooLarge} {
		res, _ = k.do(c, http.MethodPost, path, body, classic)
		assert.Equal(t, status, res.StatusCode)
		assert.Equal(t, "ValidationException", res.Header.Get("x-amzn-ErrorType"))
	}
	res, _ = k.do(c, http.MethodGet, path, "", classic)
	assert.Equal(t, http.StatusNotFound, res.StatusCode)
}

func TestArtifactsByRawAndEscapedARN(t *testing.T) {
	k := newKit(t)
	c := k.core(selfhostedtest.Policy)
	for _, p := range []string{arn, strings.ReplaceAll(arn, ":", "%3A")} {
		res, v := k.do(c, http.MethodGet, "/greengrass/v2/components/"+p+"/artifacts/models/v3%20%C3%A9.bin?s3EndpointType=GLOBAL", "", classic)
		require.Equal(t, http.StatusOK, res.StatusCode)
		assert.Equal(t, map[string]any{"preSignedUrl": "http://host/k/d/v3 é.bin"}, v)
		res, _ = k.do(c, http.MethodGet, "/greengrass/v2/components/"+p+"x/artifacts/models/v3%20%C3%A9.bin", "", "")
		assert.Equal(t, http.StatusNotFound, res.StatusCode)
		res, v = k.do(c, http.MethodGet, "/greengrass/v2/components/"+p+"/artifacts/other", "", "")
		assert.Equal(t, http.StatusNotFound, res.StatusCode, "lite repeats a 400")
		assert.Equal(t, p[:3], v["resourceId"].(string)[:3])
	}
}

func TestThingGroupsAsEachRuntimeReadsThem(t *testing.T) {
	k := newKit(t)
	c := k.core(selfhostedtest.Policy)
	const path = "/greengrass/v2/coreDevices/core/thingGroups"
	k.groups = []string{"g"}
	res, v := k.do(c, http.MethodGet, path, "", classic)
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, map[string]any{"thingGroups": []any{map[string]any{
		"thingGroupName": "g", "thingGroupArn": "arn:aws:iot:us-east-1:000000000000:thinggroup/g", "rootToParentThingGroups": []any{},
	}}}, v)
	short := map[string]any{"thingGroups": []any{map[string]any{"thingGroupName": "g"}, map[string]any{"thingGroupName": "core"}}}
	_, v = k.do(c, http.MethodGet, path, "", "")
	assert.Equal(t, short, v, "no User-Agent: lite, which needs its own name there")
	k.lite["core"] = true
	_, v = k.do(c, http.MethodGet, path, "", "curl")
	assert.Equal(t, short, v, "the last fleet status tells")

	k.groups = nil
	for i := range iot.MaxGroups {
		k.groups = append(k.groups, strings.Repeat("g", 127)+string(rune('0'+i)))
	}
	long := strings.Repeat("c", 128)
	cert, _ := k.world.Client(t, long, nil, selfhostedtest.Policy)
	res, v = k.do(k.client(cert), http.MethodGet, "/greengrass/v2/coreDevices/"+long+"/thingGroups", "", "")
	assert.Len(t, v["thingGroups"], 11)
	assert.LessOrEqual(t, res.ContentLength, int64(2048), "what lite reads")
	assert.Positive(t, res.ContentLength)
}

func TestCredentials(t *testing.T) {
	k := newKit(t)
	require.NoError(t, k.world.Registry.CreateRoleAlias(t.Context(), iot.RoleAlias{Name: "alias", RoleARN: "arn"}))
	c := k.core(selfhostedtest.Policy)
	res, v := k.do(c, http.MethodGet, "/role-aliases/alias/credentials", "", "")
	require.Equal(t, http.StatusOK, res.StatusCode)
	got := v["credentials"].(map[string]any)
	assert.Len(t, v, 1)
	assert.Len(t, got, 4, "more break lite's parser")
	ends, err := time.Parse("2006-01-02T15:04:05Z", got["expiration"].(string))
	require.NoError(t, err)
	assert.True(t, ends.After(time.Now().Add(50*time.Minute)))
	assert.LessOrEqual(t, res.ContentLength, int64(1500))
	session, err := k.sessions.Open(t.Context(), got["accessKeyId"].(string), got["sessionToken"].(string))
	require.NoError(t, err)
	assert.Equal(t, got["secretAccessKey"], session.Secret.Reveal())
	assert.Equal(t, ends, session.Expires)
	assert.Equal(t, "core", session.Thing)
	assert.Equal(t, "alias", session.RoleAlias)
	res, _ = k.do(c, http.MethodGet, "/role-aliases/none/credentials", "", "")
	assert.Equal(t, http.StatusNotFound, res.StatusCode)

	other, _ := k.world.Client(t, "other", nil)
	res, _ = k.do(k.client(other), http.MethodGet, "/role-aliases/alias/credentials", "", "")
	assert.Equal(t, http.StatusForbidden, res.StatusCode, "no policy")
	assert.Equal(t, "AccessDeniedException", res.Header.Get("x-amzn-ErrorType"))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, k.server.URL+"/role-aliases/alias/credentials", nil)
	require.NoError(t, err)
	req.Header.Set("x-amzn-iot-thingname", "other")
	res, err = c.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusForbidden, res.StatusCode, "of another thing")
}

func TestWhoMayNot(t *testing.T) {
	k := newKit(t)
	paths := map[string]string{
		"/greengrass/v2/resolveComponentCandidates": http.MethodPost, "/greengrass/v2/components/" + arn + "/artifacts/x": http.MethodGet,
		"/greengrass/v2/coreDevices/core/thingGroups": http.MethodGet, "/role-aliases/alias/credentials": http.MethodGet,
	}
	const body = `{"componentCandidates":[{"componentName":"com.example.App"}]}`
	nobody, bare := k.client(), k.core()
	other, leaf := k.world.Client(t, "other", nil, selfhostedtest.Policy)
	for path, method := range paths {
		res, _ := k.do(nobody, method, path, body, classic)
		assert.Equal(t, http.StatusForbidden, res.StatusCode, "without certificate: %s", path)
		res, _ = k.do(bare, method, path, body, classic)
		assert.Equal(t, http.StatusForbidden, res.StatusCode, "without policy: %s", path)
	}
	stranger := k.client(other)
	res, _ := k.do(stranger, http.MethodGet, "/greengrass/v2/coreDevices/core/thingGroups", "", classic)
	assert.Equal(t, http.StatusForbidden, res.StatusCode, "another core's groups")
	res, _ = k.do(stranger, http.MethodGet, "/greengrass/v2/coreDevices/other/thingGroups", "", classic)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.NoError(t, k.world.Registry.SetCertificateStatus(t.Context(), pki.ID(leaf.Raw), cloud.Revoked))
	res, _ = k.do(stranger, http.MethodGet, "/greengrass/v2/coreDevices/other/thingGroups", "", classic)
	assert.Equal(t, http.StatusForbidden, res.StatusCode, "revoked, on the connection that is open")
}

func TestAgentsServeTheirOwnCore(t *testing.T) {
	k := newKit(t)
	cert, _ := k.world.Client(t, protocol.AgentThing("core"), map[string]string{"core": "core"})
	agent := k.client(cert)
	_, v := k.do(agent, http.MethodGet, protocol.PathAgentCore, "", "")
	assert.Equal(t, "core", v["core"])
	_, v = k.do(agent, http.MethodPost, protocol.PathCoreCertificate, `{"csr":"x"}`, "")
	assert.Equal(t, "core x", v["certificatePem"])
	res, _ := k.do(agent, http.MethodGet, protocol.PathCoreCerts, "", "")
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Equal(t, "certs of core", string(b))
	assert.Equal(t, "application/zip", res.Header.Get("Content-Type"))
	assert.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	res, _ = k.do(agent, http.MethodGet, protocol.PathCoreConfig, "", "")
	assert.Equal(t, http.StatusNotFound, res.StatusCode)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, k.server.URL+protocol.PathDistributions+"abc", nil)
	require.NoError(t, err)
	req.Header.Set("Range", "bytes=8-")
	res, err = agent.Do(req)
	require.NoError(t, err)
	b, err = io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusPartialContent, res.StatusCode)
	assert.Equal(t, "abc", string(b))

	nucleus := k.core(selfhostedtest.Policy)
	// A thing that merely carries the attribute, or the name of another's agent.
	liar, _ := k.world.Client(t, "liar", map[string]string{"core": "core"}, selfhostedtest.Policy)
	crossed, _ := k.world.Client(t, protocol.AgentThing("mine"), map[string]string{"core": "core"}, selfhostedtest.Policy)
	for path, method := range map[string]string{
		protocol.PathAgentCore: http.MethodGet, protocol.PathCoreCertificate: http.MethodPost, protocol.PathCoreCerts: http.MethodGet,
		protocol.PathCoreConfig: http.MethodGet, protocol.PathDistributions + "abc": http.MethodGet,
	} {
		for _, c := range []*http.Client{nucleus, k.client(liar), k.client(crossed), k.client()} {
			res, _ := k.do(c, method, path, `{"csr":"x"}`, "")
			assert.Equal(t, http.StatusForbidden, res.StatusCode, path)
		}
	}
}

func TestEnrolmentNeedsNoCertificateAndIsBounded(t *testing.T) {
	k := newKit(t)
	c := k.client()
	res, v := k.do(c, http.MethodPost, protocol.PathEnroll, `{"code":"right"}`, "")
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, "core", v["core"])
	for body, status := range map[string]int{
		`{"code":"wrong"}`: http.StatusForbidden, `{`: http.StatusBadRequest, `{"csr":"` + strings.Repeat("x", 70_000) + `"}`: http.StatusRequestEntityTooLarge,
	} {
		res, _ = k.do(c, http.MethodPost, protocol.PathEnroll, body, "")
		assert.Equal(t, status, res.StatusCode)
	}

	const more = 80
	k.enroll = make(chan struct{})
	statuses := make(chan int, more)
	for range more {
		go func() {
			res, err := c.Post(k.server.URL+protocol.PathEnroll, "application/json", strings.NewReader(`{"code":"right"}`))
			if !assert.NoError(t, err) {
				statuses <- 0
				return
			}
			_ = res.Body.Close()
			statuses <- res.StatusCode
		}()
	}
	var got []int
	for range more - 64 { // those beyond the limit do not wait
		got = append(got, <-statuses)
	}
	close(k.enroll)
	for range 64 {
		got = append(got, <-statuses)
	}
	slices.Sort(got)
	assert.Equal(t, http.StatusOK, got[0])
	assert.Equal(t, http.StatusOK, got[63])
	assert.Equal(t, http.StatusTooManyRequests, got[64])
	assert.Equal(t, http.StatusTooManyRequests, got[more-1])
}
