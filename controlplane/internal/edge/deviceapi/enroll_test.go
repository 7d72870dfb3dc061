package deviceapi_test

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/deviceapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestWhoAsksToBeEnrolledIsKnownByItsCertificate(t *testing.T) {
	k := newKit(t)
	res, v := k.do(k.client(), http.MethodPost, protocol.PathEnroll, `{"code":"wait"}`, "")
	assert.Equal(t, http.StatusAccepted, res.StatusCode)
	assert.Equal(t, map[string]any{"requestId": "id", "keyFingerprint": "", "retryAfterSeconds": 10.0}, v)
	assert.Equal(t, netip.MustParseAddr("127.0.0.1"), k.callers[0].Address)
	assert.Empty(t, k.callers[0].Certificate)

	cert, leaf := k.world.Client(t, "press", map[string]string{"line": "2"})
	res, _ = k.do(k.client(cert), http.MethodPost, protocol.PathEnroll, `{"code":"right"}`, "")
	assert.Equal(t, http.StatusOK, res.StatusCode)
	c := k.callers[1]
	assert.Equal(t, pki.ID(leaf.Raw), c.Certificate)
	assert.Equal(t, "press", c.Thing)
	assert.Equal(t, map[string]string{"line": "2"}, c.Attributes)
}

func TestOneAddressCallsOnlySoOftenWithoutCertificate(t *testing.T) {
	for path, method := range map[string]string{
		protocol.PathEnroll: http.MethodPost, protocol.PathCertificateExpired: http.MethodPost, protocol.PathCertificateExpired + "?": http.MethodGet,
	} {
		now := time.Now()
		k := newKit(t, func(c *deviceapi.Config) { c.Renewals, c.Now = renewals{}, func() time.Time { return now } })
		c := k.client()
		refused := false
		for i := 0; i < 300 && !refused; i++ {
			res, v := k.do(c, method, path, `{`, "")
			if refused = res.StatusCode == http.StatusTooManyRequests; refused {
				assert.Contains(t, v["message"], "from this address")
				assert.NotEmpty(t, res.Header.Get("Retry-After"))
			}
		}
		assert.True(t, refused, "%s %s: 300 calls in a row are let through", method, path)
	}
}

// renewals hands out nonces and nothing else.
type renewals struct{ deviceapi.Renewals }

func (renewals) RenewNonce() protocol.RenewNonce { return protocol.RenewNonce{} }

func TestAClientDeviceDiscoversItsCores(t *testing.T) {
	k := newKit(t)
	k.core()
	require.NoError(t, k.world.Registry.EnsurePolicy(t.Context(), "discover", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"greengrass:Discover","Resource":"*"}]}`))
	cert, _ := k.world.Client(t, "sensor", nil, "discover")
	sensor := k.client(cert)
	res, _ := k.do(sensor, http.MethodGet, protocol.PathDiscover+"sensor", "", classic)
	assert.Equal(t, http.StatusNotFound, res.StatusCode, "it has no core")
	failures, err := k.world.Greengrass.Associate(t.Context(), "core", []string{"sensor"})
	require.NoError(t, err)
	require.Empty(t, failures)
	_, err = k.world.Greengrass.SetConnectivity(t.Context(), "core", []greengrass.Endpoint{{ID: "10.0.3.7", Host: "10.0.3.7", Port: 8883}})
	require.NoError(t, err)
	res, v := k.do(sensor, http.MethodGet, protocol.PathDiscover+"sensor", "", classic)
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, map[string]any{"GGGroups": []any{map[string]any{
		"GGGroupId": "greengrassV2-coreDevice-core",
		"Cores": []any{map[string]any{
			"thingArn":     "arn:aws:iot:us-east-1:000000000000:thing/core",
			"Connectivity": []any{map[string]any{"Id": "10.0.3.7", "HostAddress": "10.0.3.7", "PortNumber": 8883.0, "Metadata": ""}},
		}},
		"CAs": []any{string(pki.EncodeCert(k.world.CA.Root.Raw))},
	}}}, v)

	other, _ := k.world.Client(t, "other", nil, selfhostedtest.Policy)
	bare, _ := k.world.Client(t, "bare", nil)
	for path, c := range map[string]*http.Client{"sensor": k.client(other), "bare": k.client(bare), "other": k.client()} {
		res, _ = k.do(c, http.MethodGet, protocol.PathDiscover+path, "", classic)
		assert.Equal(t, http.StatusForbidden, res.StatusCode, path)
	}
}

func TestAgentsOfClientDevicesServeTheirOwn(t *testing.T) {
	k := newKit(t)
	cert, _ := k.world.Client(t, protocol.AgentThing("sensor"), map[string]string{protocol.AttributeDevice: "sensor"})
	agent := k.client(cert)
	_, v := k.do(agent, http.MethodGet, protocol.PathAgentDevice, "", "")
	assert.Equal(t, "sensor", v["device"])
	_, v = k.do(agent, http.MethodPost, protocol.PathDeviceCertificate, `{"csr":"x"}`, "")
	assert.Equal(t, "sensor x", v["certificatePem"])
	res, _ := k.do(agent, http.MethodGet, protocol.PathDeviceCerts, "", "")
	assert.Equal(t, "application/zip", res.Header.Get("Content-Type"))
	res, v = k.do(agent, http.MethodGet, protocol.PathAgentCore, "", "")
	assert.Equal(t, http.StatusForbidden, res.StatusCode)
	assert.Contains(t, v["message"], "role core")

	core, _ := k.world.Client(t, protocol.AgentThing("core"), map[string]string{protocol.AttributeCore: "core"})
	liar, _ := k.world.Client(t, "liar", map[string]string{protocol.AttributeDevice: "sensor"})
	for path, method := range map[string]string{protocol.PathAgentDevice: http.MethodGet, protocol.PathDeviceCertificate: http.MethodPost, protocol.PathDeviceCerts: http.MethodGet} {
		for _, c := range []*http.Client{k.client(core), k.client(liar), k.client()} {
			res, _ = k.do(c, method, path, `{"csr":"x"}`, "")
			assert.Equal(t, http.StatusForbidden, res.StatusCode, path)
		}
	}
}

func TestWhileTheRegistryIsAwayNobodyIsTakenForAnother(t *testing.T) {
	away := identities{err: fault.New(fault.Unavailable, "away")}
	k := newKit(t, func(c *deviceapi.Config) { c.Claims = away })
	cert, _ := k.world.Client(t, "press", nil)
	res, _ := k.do(k.client(cert), http.MethodPost, protocol.PathEnroll, `{"code":"right"}`, "")
	assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	assert.Empty(t, k.callers)
	refused := newKit(t, func(c *deviceapi.Config) { c.Claims = identities{err: fault.New(fault.Denied, "no")} })
	cert, _ = refused.world.Client(t, "press", nil)
	res, _ = refused.do(refused.client(cert), http.MethodPost, protocol.PathEnroll, `{"code":"right"}`, "")
	assert.Equal(t, http.StatusForbidden, res.StatusCode)
	assert.Empty(t, refused.callers)
}

// identities answers always the same.
type identities struct {
	id  gateway.Identity
	err error
}

func (i identities) Identify(context.Context, *x509.Certificate) (gateway.Identity, error) {
	return i.id, i.err
}
