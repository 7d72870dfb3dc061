package component_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/recipe"
)

type fixture struct {
	*component.Service
	store   *memory.Store
	objects *objects.Store
	inUse   string
}

func newFixture(t testing.TB) *fixture {
	f := &fixture{store: memory.New(), objects: objects.New("artifacts")}
	f.Service = f.another(t)
	return f
}

// another is a second replica over the same stores.
func (f *fixture) another(t testing.TB) *component.Service {
	s, err := component.New(f.config(t))
	require.NoError(t, err)
	return s
}

func (f *fixture) config(t testing.TB) component.Config {
	return component.Config{
		Store: state.NewHub(f.store), Objects: f.objects, Realm: names.Realm{Region: "us-east-1", Account: "123456789012"},
		Prefix: "components/", TempDir: t.TempDir(), Private: []string{"cores/"},
		InUse: func(context.Context, string, string) (string, error) { return f.inUse, nil },
		Now:   func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
	}
}

// start runs s until the test ends and waits until its index is complete.
func start(t testing.TB, s *component.Service) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-done) })
	<-s.Ready()
}

func (f *fixture) keys(t testing.TB) []string {
	list, err := f.objects.List(t.Context(), "", "", 0)
	require.NoError(t, err)
	var keys []string
	for _, o := range list {
		keys = append(keys, o.Key)
	}
	return keys
}

func doc(name, version string, manifest string) []byte {
	return fmt.Appendf(nil, `{"RecipeFormatVersion":"2020-01-25","ComponentName":%q,"ComponentVersion":%q,"Manifests":[%s]}`, name, version, manifest)
}

const linux = `{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{"run":"x"}}`

func withArtifacts(list string) string {
	return `{"Platform":{"os":"linux","runtime":"*"},"Artifacts":[` + list + `]}`
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func create(t testing.TB, f *fixture, src []byte) component.Version {
	v, err := f.Create(t.Context(), src, component.CreateOptions{})
	require.NoError(t, err)
	return v
}

func TestAVersionWithoutArtifactsIsDeployableAtOnce(t *testing.T) {
	f := newFixture(t)
	v := create(t, f, doc("com.x", "1.0.0", linux))
	assert.Equal(t, component.Deployable, v.State)
	assert.Equal(t, "arn:aws:greengrass:us-east-1:123456789012:components:com.x:versions:1.0.0", v.ARN)
	got, err := f.GetByARN(t.Context(), v.ARN)
	require.NoError(t, err)
	assert.Equal(t, v, got)

	_, err = f.Create(t.Context(), doc("com.x", "1.0.0", linux), component.CreateOptions{})
	require.ErrorIs(t, err, fault.Exists)
	assert.Equal(t, "Component [com.x : 1.0.0] for account [123456789012] already exists with state: [DEPLOYABLE]", fault.Message(err))
	_, err = f.Create(t.Context(), doc("com.x", "1.0.0", linux), component.CreateOptions{Tags: map[string]string{"a": "b"}})
	assert.Contains(t, fault.Message(err), "already exists and can't be created again with tags")
	_, err = f.Create(t.Context(), doc("com.x", "1.0.0", linux), component.CreateOptions{Replace: true})
	assert.ErrorIs(t, err, fault.Exists, "a complete version never changes")
}

func TestABadRecipeStoresNothing(t *testing.T) {
	f := newFixture(t)
	_, err := f.Create(t.Context(), doc("com.x", "1", linux), component.CreateOptions{})
	require.ErrorIs(t, err, fault.Invalid)
	assert.Equal(t, "ComponentVersion", fault.FieldOf(err))
	_, err = f.Create(t.Context(), doc("com.x", "1.0.0", linux), component.CreateOptions{Tags: map[string]string{"": "b"}})
	assert.Equal(t, "tags", fault.FieldOf(err))
	list, _, err := f.List(t.Context(), component.ScopeAll, "", 0)
	require.NoError(t, err)
	assert.Empty(t, list)
}

func TestAVersionIsDeployableOnceItsLastArtifactIsThere(t *testing.T) {
	f := newFixture(t)
	v := create(t, f, doc("com.x", "1.0.0", withArtifacts(`{"URI":"greengrass:a/tool.sh"},{"Uri":"greengrass:m.bin","Digest":"`+digest("model")+`"}`)))
	assert.Equal(t, component.Requested, v.State)
	assert.Equal(t, []string{"a/tool.sh", "m.bin"}, v.Missing())
	_, err := f.Resolve(t.Context(), []component.Candidate{{Name: "com.x"}}, component.Platform{Attributes: map[string]string{"os": "linux"}})
	require.ErrorIs(t, err, fault.NotFound)
	assert.Contains(t, fault.Message(err), "no usable version")
	_, err = f.Locate(t.Context(), v.ARN, "a/tool.sh")
	require.ErrorIs(t, err, fault.NotFound)

	v, err = f.PutArtifact(t.Context(), "com.x", "1.0.0", "a/tool.sh", strings.NewReader("echo"), -1)
	require.NoError(t, err)
	assert.Equal(t, component.Initiated, v.State)
	v, err = f.PutArtifact(t.Context(), "com.x", "1.0.0", "m.bin", strings.NewReader("model"), 5)
	require.NoError(t, err)
	assert.Equal(t, component.Deployable, v.State)

	got, err := f.Resolve(t.Context(), []component.Candidate{{Name: "com.x"}}, component.Platform{Attributes: map[string]string{"os": "linux"}})
	require.NoError(t, err)
	assert.Contains(t, string(got[0].Recipe), `{"Uri":"greengrass:a/tool.sh","Unarchive":"NONE","Digest":"`+digest("echo")+`","Algorithm":"SHA-256"}`)
	a, err := f.Locate(t.Context(), v.ARN, "a/tool.sh")
	require.NoError(t, err)
	body, info, err := f.objects.Open(t.Context(), a.Key)
	require.NoError(t, err)
	raw, err := io.ReadAll(body)
	require.NoError(t, err)
	assert.Equal(t, "echo", string(raw))
	assert.Equal(t, info.Size, a.Size)
	assert.Equal(t, "components/com.x/1.0.0/"+a.SHA256+"/tool.sh", a.Key)

	_, err = f.PutArtifact(t.Context(), "com.x", "1.0.0", "a/tool.sh", strings.NewReader("echo"), 4)
	require.NoError(t, err, "the same bytes again are no error")
	_, err = f.PutArtifact(t.Context(), "com.x", "1.0.0", "a/tool.sh", strings.NewReader("other"), 5)
	require.ErrorIs(t, err, fault.Exists)
	_, err = f.Locate(t.Context(), v.ARN, "tool.sh")
	require.ErrorIs(t, err, fault.NotFound)
	assert.Len(t, f.keys(t), 2)
}

func TestUploadsThatCannotBeTheArtifactLeaveNothing(t *testing.T) {
	f := newFixture(t)
	create(t, f, doc("com.x", "1.0.0", withArtifacts(`{"Uri":"greengrass:t","Digest":"`+digest("good")+`"}`)))
	tests := []struct {
		name, artifact string
		body           io.Reader
		size           int64
		want           fault.Kind
	}{
		{"other bytes than the digest says", "t", strings.NewReader("evil"), 4, fault.Invalid},
		{"an empty file", "t", strings.NewReader(""), 0, fault.Invalid},
		{"fewer bytes than announced", "t", strings.NewReader("good"), 5, fault.Invalid},
		{"an unknown name", "u", strings.NewReader("good"), 4, fault.NotFound},
		{"over the limit", "t", strings.NewReader("good"), component.MaxArtifactBytes + 1, fault.TooLarge},
		{"a body that breaks off", "t", iotest.ErrReader(errors.New("cut")), -1, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := f.PutArtifact(t.Context(), "com.x", "1.0.0", tc.artifact, tc.body, tc.size)
			require.Error(t, err)
			assert.Equal(t, tc.want, fault.KindOf(err))
			assert.Empty(t, f.keys(t))
		})
	}
	_, err := f.PutArtifact(t.Context(), "com.x", "2.0.0", "t", strings.NewReader("good"), 4)
	assert.ErrorIs(t, err, fault.NotFound)
}

func TestUntilAVersionIsCompleteTheLastUploadCounts(t *testing.T) {
	f := newFixture(t)
	create(t, f, doc("com.x", "1.0.0", withArtifacts(`{"Uri":"greengrass:t"},{"Uri":"greengrass:u"}`)))
	for _, body := range []string{"one", "two"} {
		_, err := f.PutArtifact(t.Context(), "com.x", "1.0.0", "t", strings.NewReader(body), 3)
		require.NoError(t, err)
	}
	assert.Len(t, f.keys(t), 1, "the replaced object is gone")
}

func TestArtifactsOfOurBucketAreOfferedByTheGreengrassScheme(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.objects.Put(t.Context(), state.PutArtifact, "mine/tool.sh", strings.NewReader("echo"), 4, ""))
	v := create(t, f, doc("com.x", "1.0.0", withArtifacts(`{"Uri":"s3://artifacts/mine/tool.sh"}`)))
	assert.Equal(t, component.Deployable, v.State)
	name := v.Artifacts[0].Name
	assert.True(t, strings.HasSuffix(name, "/tool.sh"), name)
	assert.Contains(t, string(v.Normalized), `{"Uri":"greengrass:`+name+`","Unarchive":"NONE","Digest":"`+digest("echo")+`","Algorithm":"SHA-256"}`)
	a, err := f.Locate(t.Context(), v.ARN, name)
	require.NoError(t, err)
	assert.Equal(t, "mine/tool.sh", a.Key)

	shown, err := v.RecipeAs(recipe.YAML)
	require.NoError(t, err)
	assert.Contains(t, string(shown), "s3://artifacts/mine/tool.sh")
	assert.Contains(t, string(shown), digest("echo"))

	require.NoError(t, f.Delete(t.Context(), "com.x", "1.0.0"))
	assert.Equal(t, []string{"mine/tool.sh"}, f.keys(t), "the author's object is not ours to delete")
}

func TestArtifactsThatCannotBeReachedAreNamed(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.objects.Put(t.Context(), state.PutArtifact, "empty", strings.NewReader(""), 0, ""))
	require.NoError(t, f.objects.Put(t.Context(), state.PutArtifact, "full", strings.NewReader("x"), 1, ""))
	require.NoError(t, f.objects.Put(t.Context(), state.PutCerts, "cores/gw/certs.zip", strings.NewReader("key"), 3, ""))
	for uri, says := range map[string]string{
		`{"Uri":"s3://artifacts/cores/gw/certs.zip"}`:                  "cannot be accessed",
		`{"Uri":"s3://artifacts/none"}`:                                "Encountered following errors in Artifacts: {s3://artifacts/none = Specified artifact resource cannot be accessed}",
		`{"Uri":"s3://other/full"}`:                                    "cannot be accessed: core devices get artifacts from bucket artifacts of this server, from no other",
		`{"Uri":"s3://artifacts/empty"}`:                               "empty",
		`{"Uri":"s3://artifacts/full","Digest":"` + digest("y") + `"}`: "digest",
	} {
		_, err := f.Create(t.Context(), doc("com.x", "1.0.0", withArtifacts(uri)), component.CreateOptions{})
		require.ErrorIs(t, err, fault.Invalid)
		assert.Contains(t, fault.Message(err), says)
	}
}

func TestAnImportTakesThePlaceOfAStub(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.EnsureStubs(t.Context()))
	src := doc("aws.greengrass.Cli", "2.4.0", withArtifacts(`{"Uri":"greengrass:cli.jar"},{"Uri":"greengrass:b"}`))
	_, err := f.Create(t.Context(), src, component.CreateOptions{})
	require.ErrorIs(t, err, fault.Exists, "only an import may replace a stub")

	v, err := f.Create(t.Context(), src, component.CreateOptions{Replace: true})
	require.NoError(t, err)
	assert.False(t, v.Stub)
	assert.True(t, v.Public)
	assert.Equal(t, component.Requested, v.State)
	_, err = f.PutArtifact(t.Context(), "aws.greengrass.Cli", "2.4.0", "cli.jar", strings.NewReader("jar"), 3)
	require.NoError(t, err)

	v, err = f.Create(t.Context(), src, component.CreateOptions{Replace: true})
	require.NoError(t, err, "an import that was interrupted goes on")
	assert.Equal(t, []string{"b"}, v.Missing())
	other := doc("aws.greengrass.Cli", "2.4.0", withArtifacts(`{"Uri":"greengrass:c"}`))
	v, err = f.Create(t.Context(), other, component.CreateOptions{Replace: true})
	require.NoError(t, err, "another recipe starts over")
	assert.Equal(t, []string{"c"}, v.Missing())
	assert.Empty(t, f.keys(t))
	v, err = f.PutArtifact(t.Context(), "aws.greengrass.Cli", "2.4.0", "c", strings.NewReader("jar"), 3)
	require.NoError(t, err)
	assert.Equal(t, component.Deployable, v.State)
	assert.Equal(t, "arn:aws:greengrass:us-east-1:aws:components:aws.greengrass.Cli:versions:2.4.0", v.ARN)
}

func TestADeploymentNamesOnlyWhatCanBeDeployed(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.EnsureStubs(t.Context()))
	create(t, f, doc("com.x", "1.0.0", withArtifacts(`{"Uri":"greengrass:t"}`)))
	require.NoError(t, f.Deployable(t.Context(), "aws.greengrass.Nucleus", "2.5.0"))
	err := f.Deployable(t.Context(), "com.x", "1.0.0")
	require.ErrorIs(t, err, fault.Invalid)
	assert.Contains(t, fault.Message(err), "com.x 1.0.0 is REQUESTED")
	err = f.Deployable(t.Context(), "com.y", "1.0.0")
	require.ErrorIs(t, err, fault.NotFound)
	assert.Contains(t, fault.Message(err), "com.y")
}

func TestListsAreInOrder(t *testing.T) {
	f := newFixture(t)
	start(t, f.Service)
	for _, n := range []string{"b", "a", "c", "a.b"} {
		create(t, f, doc(n, "1.9.0", linux))
	}
	create(t, f, doc("a", "1.10.0", linux))
	list, more, err := f.List(t.Context(), component.ScopePrivate, "a", 2)
	require.NoError(t, err)
	assert.True(t, more)
	assert.Equal(t, []string{"a.b", "b"}, []string{list[0].Name, list[1].Name})
	assert.Equal(t, "arn:aws:greengrass:us-east-1:123456789012:components:a.b", list[0].ARN)
	versions, err := f.ListVersions(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, []string{"1.10.0", "1.9.0"}, []string{versions[0].Version, versions[1].Version})
	_, err = f.ListVersions(t.Context(), "z")
	assert.ErrorIs(t, err, fault.NotFound)
}

func TestWhatIsInUseIsNotDeleted(t *testing.T) {
	f := newFixture(t)
	create(t, f, doc("com.x", "1.0.0", linux))
	f.inUse = "template T version 3"
	err := f.Delete(t.Context(), "com.x", "1.0.0")
	require.ErrorIs(t, err, fault.Conflict)
	assert.Contains(t, fault.Message(err), "template T version 3")
	f.inUse = ""
	require.NoError(t, f.Delete(t.Context(), "com.x", "1.0.0"))
	assert.ErrorIs(t, f.Delete(t.Context(), "com.x", "1.0.0"), fault.NotFound)
	create(t, f, doc("com.x", "1.0.0", linux))
}

func TestADeletionThatWasInterruptedIsFinished(t *testing.T) {
	for _, finish := range []string{"at the next start", "when the version is made again"} {
		t.Run(finish, func(t *testing.T) {
			f := newFixture(t)
			src := doc("com.x", "1.0.0", withArtifacts(`{"Uri":"greengrass:t"}`))
			create(t, f, src)
			_, err := f.PutArtifact(t.Context(), "com.x", "1.0.0", "t", strings.NewReader("x"), 1)
			require.NoError(t, err)
			f.objects.Fail = func(op, _ string) error {
				if op == "delete" {
					return fault.Unavailable
				}
				return nil
			}
			require.ErrorIs(t, f.Delete(t.Context(), "com.x", "1.0.0"), fault.Unavailable)
			f.objects.Fail = nil
			_, err = f.Get(t.Context(), "com.x", "1.0.0")
			require.ErrorIs(t, err, fault.NotFound)
			if finish == "at the next start" {
				require.NoError(t, f.another(t).FinishDeletes(t.Context()))
			} else {
				assert.Equal(t, component.Requested, create(t, f, src).State)
			}
			assert.Empty(t, f.keys(t))
		})
	}
}

func TestUploadsAtOnceLoseNothing(t *testing.T) {
	f := newFixture(t)
	var list []string
	for i := range 8 {
		list = append(list, fmt.Sprintf(`{"Uri":"greengrass:f%d"}`, i))
	}
	create(t, f, doc("com.x", "1.0.0", withArtifacts(strings.Join(list, ","))))
	done := make(chan error)
	for i := range 8 {
		go func() {
			_, err := f.PutArtifact(t.Context(), "com.x", "1.0.0", fmt.Sprintf("f%d", i), bytes.NewReader([]byte{byte(i)}), 1)
			done <- err
		}()
	}
	for range 8 {
		assert.NoError(t, <-done)
	}
	v, err := f.Get(t.Context(), "com.x", "1.0.0")
	require.NoError(t, err)
	assert.Equal(t, component.Deployable, v.State)
}
