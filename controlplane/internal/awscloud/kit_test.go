package awscloud_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/awscloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/greengrassapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/iotapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/sigv4"
	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/claims"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	accessKey = "GGFAABCDEFGHIJKLMNOP"
	secret    = "secretsecretsecretsecretsecretsecretsecr"
)

// kit is a self-hosted cloud behind its AWS endpoint, and the adapter that talks
// to it as it would to AWS. Its store has no hub: lists follow a moment later, as
// those of AWS do.
type kit struct {
	*selfhostedtest.World
	AWS *awscloud.Cloud
	// Before, if set, sees each request first, and answers it if it returns true.
	Before func(w http.ResponseWriter, r *http.Request) bool
	URL    string

	handler http.Handler
}

func newKit(t *testing.T) *kit {
	t.Helper()
	k := &kit{World: selfhostedtest.New(t, memory.New())}
	components, err := component.New(component.Config{Store: k.Store, Objects: objects.New("bucket"), Realm: k.Realm, Prefix: "components/", TempDir: t.TempDir()})
	require.NoError(t, err)
	runs(t, components.Run, k.Greengrass.Run, k.Greengrass.RunRollouts, k.Registry.Run)
	for _, version := range []string{"1.0.0", "2.0.0"} {
		_, err := components.Create(t.Context(), fmt.Appendf(nil, recipe, version), component.CreateOptions{})
		require.NoError(t, err)
	}
	k.handler = k.endpoint(t, components)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if k.Before == nil || !k.Before(w, r) {
			k.handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	k.URL = srv.URL
	k.AWS = k.adapter(t, nil)
	return k
}

const recipe = `{"RecipeFormatVersion":"2020-01-25","ComponentName":"com.example.App","ComponentVersion":"%s","Manifests":[{"Lifecycle":{"run":"true"}}]}`

// adapter is one more adapter to the same endpoint.
func (k *kit) adapter(t *testing.T, change func(*awscloud.Config)) *awscloud.Cloud {
	t.Helper()
	cfg := awscloud.Config{Realm: k.Realm, AccessKey: accessKey, Secret: logx.NewSecret(secret), Endpoint: k.URL, Poll: 10 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	c, err := awscloud.New(cfg)
	require.NoError(t, err)
	return c
}

func (k *kit) endpoint(t *testing.T, components *component.Service) http.Handler {
	t.Helper()
	verifier, err := sigv4.New(sigv4.Config{Secrets: one{}})
	require.NoError(t, err)
	fleet, err := claims.New(claims.Config{Store: k.Store, Registry: k.Registry, Registrar: nobody{}})
	require.NoError(t, err)
	gg, err := greengrassapi.New(greengrassapi.Config{Greengrass: k.Greengrass, Components: components, Registry: k.Registry, URLs: nobody{}, Realm: k.Realm, Auth: auth{verifier}})
	require.NoError(t, err)
	things, err := iotapi.New(iotapi.Config{
		Registry: k.Registry, Greengrass: k.Greengrass, Jobs: k.Jobs, Claims: fleet, Registrar: nobody{}, Realm: k.Realm, Host: "localhost", Auth: auth{verifier},
	})
	require.NoError(t, err)
	return awsapi.New(awsapi.Config{Services: map[string]http.Handler{awsapi.ServiceGreengrass: gg, awsapi.ServiceIoT: things}})
}

// runs runs loops until t ends.
func runs(t *testing.T, loops ...func(context.Context) error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	all := make([]run.Loop, len(loops))
	for i, l := range loops {
		all[i] = run.Loop{Name: fmt.Sprint(i), Run: l}
	}
	done := make(chan error, 1)
	go func() { done <- run.All(ctx, all...) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			require.NoError(t, err)
		}
	})
}

// one knows one access key.
type one struct{}

func (one) Secret(_ context.Context, id, _ string) (sigv4.Credential, error) {
	if id != accessKey {
		return sigv4.Credential{}, fault.New(fault.NotFound, "there is no access key %s", id)
	}
	return sigv4.Credential{Secret: logx.NewSecret(secret), Role: access.Admin}, nil
}

type auth struct{ verifier *sigv4.Verifier }

func (a auth) Authenticate(r *http.Request, sum func() (string, error)) (rest.Caller, error) {
	c, err := a.verifier.Verify(r.Context(), r, sum)
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return rest.Caller{}, rest.Fail(http.StatusForbidden, e.Code, e.Message, nil)
	}
	return rest.Caller{AccessKey: c.AccessKey}, err
}

// nobody stands for what the adapter asks nothing of.
type nobody struct{}

func (nobody) URL(string, string, string) (string, error) { return "", fault.Unsupported }

func (nobody) CheckTemplate([]byte) error { return fault.Unsupported }

func (nobody) RegisterThing(context.Context, []byte, map[string]string) (claims.Registered, error) {
	return claims.Registered{}, fault.Unsupported
}
