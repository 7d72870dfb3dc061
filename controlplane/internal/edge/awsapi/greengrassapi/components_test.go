package greengrassapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/greengrassapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// anybody takes every signature: what is tested here comes after it.
type anybody struct{}

func (anybody) Authenticate(*http.Request, func() (string, error)) (rest.Caller, error) {
	return rest.Caller{AccessKey: "AKID"}, nil
}

type links struct{}

func (links) URL(key, _, _ string) (string, error) { return "http://artifacts/" + key, nil }

// kit is the API over stores in memory, and the SDK in front of it.
type kit struct {
	*greengrassv2.Client
	objects *objects.Store
	store   *memory.Store
}

// roundTrip calls a handler without a network, so that a bubble's time passes.
type roundTrip struct{ h http.Handler }

func (r roundTrip) RoundTrip(req *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if req.Body == nil {
		req.Body = http.NoBody
	}
	r.h.ServeHTTP(w, req)
	return w.Result(), nil
}

func newKit(t *testing.T) *kit {
	t.Helper()
	k := &kit{store: memory.New(), objects: objects.New("artifacts")}
	hub, realm := state.NewHub(k.store), names.Realm{Region: "us-east-1", Account: "123456789012"}
	root, err := pki.NewRoot("test", time.Now(), time.Hour)
	require.NoError(t, err)
	registry, err := iot.New(iot.Config{Store: hub, Realm: realm, CA: &iot.CA{ID: "ca", Root: root.Cert, Issuer: root}})
	require.NoError(t, err)
	work, err := jobs.New(jobs.Config{Store: hub})
	require.NoError(t, err)
	stored, err := component.New(component.Config{
		Store: hub, Objects: k.objects, Realm: realm, Prefix: "components/", TempDir: t.TempDir(), MaxComponents: 1, MaxVersions: 2,
	})
	require.NoError(t, err)
	gg, err := greengrass.New(greengrass.Config{Store: hub, Registry: registry, Jobs: work, Components: stored})
	require.NoError(t, err)
	h, err := greengrassapi.New(greengrassapi.Config{Greengrass: gg, Components: stored, Registry: registry, URLs: links{}, Realm: realm, Auth: anybody{}})
	require.NoError(t, err)
	k.Client = greengrassv2.New(greengrassv2.Options{
		Region: realm.Region, BaseEndpoint: aws.String("http://greengrass"), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""), HTTPClient: &http.Client{Transport: roundTrip{h}},
	})
	return k
}

func (k *kit) create(t *testing.T, name, version, token, artifacts string) error {
	src := `{"RecipeFormatVersion":"2020-01-25","ComponentName":"` + name + `","ComponentVersion":"` + version + `","Manifests":[{"Artifacts":[` + artifacts + `]}]}`
	_, err := k.CreateComponentVersion(t.Context(), &greengrassv2.CreateComponentVersionInput{InlineRecipe: []byte(src), ClientToken: aws.String(token)})
	return err
}

func TestQuotasOfComponentsAreTold(t *testing.T) {
	k := newKit(t)
	require.NoError(t, k.create(t, "com.a", "1.0.0", "t-1", ""))
	require.NoError(t, k.create(t, "com.a", "1.0.1", "t-2", ""))
	for token, name := range map[string]string{"t-3": "com.a", "t-4": "com.b"} {
		err := k.create(t, name, "2.0.0", token, "")
		var quota *types.ServiceQuotaExceededException
		require.ErrorAs(t, err, &quota)
		assert.Contains(t, quota.ErrorMessage(), "quota")
		assert.Equal(t, "greengrass", *quota.ServiceCode)
		assert.NotEmpty(t, *quota.QuotaCode)
	}
}

func TestARepeatOfACreationThatStillRunsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		require.NoError(t, k.objects.Put(t.Context(), state.PutArtifact, "tool", strings.NewReader("x"), 1, ""))
		gate := make(chan struct{})
		k.objects.Fail = func(op, _ string) error {
			if op == "stat" {
				<-gate
			}
			return nil
		}
		const tool = `{"Uri":"s3://artifacts/tool"}`
		done := make(chan error, 1)
		go func() { done <- k.create(t, "com.a", "1.0.0", "t-1", tool) }()
		synctest.Wait()
		var running *types.RequestAlreadyInProgressException
		require.ErrorAs(t, k.create(t, "com.a", "1.0.0", "t-1", tool), &running)
		close(gate)
		require.NoError(t, <-done)
		require.NoError(t, k.create(t, "com.a", "1.0.0", "t-1", tool), "now it is the answer that is repeated")
	})
}

func TestAStoreThatIsAwayIsAnErrorThatClientsTryAgainAfter(t *testing.T) {
	k := newKit(t)
	k.store.FailCommit = func(*state.Batch) error { return fault.Unavailable }
	var internal *types.InternalServerException
	require.ErrorAs(t, k.create(t, "com.a", "1.0.0", "t-1", ""), &internal)
	k.store.FailCommit = nil
	require.NoError(t, k.create(t, "com.a", "1.0.0", "t-1", ""), "a failure is not remembered")
}
