package deviceapi_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
)

func (k *kit) Connectivity(ctx context.Context, thing string) ([]greengrass.Endpoint, error) {
	return k.world.Greengrass.Connectivity(ctx, thing)
}

func (k *kit) SetConnectivity(ctx context.Context, thing string, list []greengrass.Endpoint) (string, error) {
	return k.world.Greengrass.SetConnectivity(ctx, thing, list)
}

func TestACoreSaysWhereItsClientDevicesReachIt(t *testing.T) {
	k := newKit(t)
	c := k.core(selfhostedtest.Policy)
	const path = "/greengrass/things/core/connectivityInfo"
	res, v := k.do(c, http.MethodGet, path, "", classic)
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Equal(t, map[string]any{"ConnectivityInfo": []any{}}, v)
	res, v = k.do(c, http.MethodPut, path, `{"ConnectivityInfo":[{"Id":"10.0.3.7","HostAddress":"10.0.3.7","PortNumber":8883,"Metadata":""}]}`, classic)
	require.Equal(t, http.StatusOK, res.StatusCode)
	assert.Len(t, v["Version"], 36)
	_, v = k.do(c, http.MethodGet, path, "", classic)
	assert.Equal(t, map[string]any{"ConnectivityInfo": []any{map[string]any{"Id": "10.0.3.7", "HostAddress": "10.0.3.7", "PortNumber": 8883.0, "Metadata": ""}}}, v)

	for _, body := range []string{`{`, `{}`, `{"ConnectivityInfo":{}}`, `{"ConnectivityInfo":[{"PortNumber":65536}]}`, `{"ConnectivityInfo":[{"PortNumber":"8883"}]}`} {
		res, _ = k.do(c, http.MethodPut, path, body, classic)
		assert.Equal(t, http.StatusBadRequest, res.StatusCode, body)
		assert.Equal(t, "ValidationException", res.Header.Get("x-amzn-ErrorType"))
	}
	_, v = k.do(c, http.MethodGet, path, "", classic)
	assert.Len(t, v["ConnectivityInfo"], 1, "a refused one changes nothing")

	other, _ := k.world.Client(t, "other", nil, selfhostedtest.Policy)
	bare, _ := k.world.Client(t, "bare", nil)
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		res, _ = k.do(k.client(other), method, path, `{"ConnectivityInfo":[]}`, classic)
		assert.Equal(t, http.StatusForbidden, res.StatusCode, "another core's")
		res, _ = k.do(k.client(bare), method, "/greengrass/things/bare/connectivityInfo", `{"ConnectivityInfo":[]}`, classic)
		assert.Equal(t, http.StatusForbidden, res.StatusCode, "no policy allows it")
		res, _ = k.do(k.client(), method, path, `{"ConnectivityInfo":[]}`, classic)
		assert.Equal(t, http.StatusForbidden, res.StatusCode, "no certificate")
	}
}
