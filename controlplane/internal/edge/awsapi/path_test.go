package awsapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi"
)

// under is a service that has the paths below a prefix.
type under struct{ prefix, name string }

func (u under) Serves(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, u.prefix) }

func (u under) ServeHTTP(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, u.name) }

func TestAnUnsignedRequestIsRefusedByTheServiceThatHasItsPath(t *testing.T) {
	h := awsapi.New(awsapi.Config{Services: map[string]http.Handler{
		"s3": named("objects"), "greengrass": under{"/tags/", "greengrass"}, "iot": under{"/things", "registry"},
	}})
	for path, who := range map[string]string{
		"/greengrass/v2/nothing": "greengrass", "/tags/arn": "greengrass", "/things/a": "registry", "/things": "registry",
	} {
		assert.Equal(t, who, do(h, httptest.NewRequest(http.MethodGet, path, nil)).Body.String(), path)
	}
	w := do(h, httptest.NewRequest(http.MethodGet, "/ggfleet/key", nil))
	assert.Equal(t, "AccessDenied", readS3Error(t, w).Code, "S3 has all the others")
}
