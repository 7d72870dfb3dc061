package component_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// behind is a store whose watches do not get on.
type behind struct{ *memory.Store }

func (behind) CatchUp(context.Context, string) error {
	return fault.New(fault.Unavailable, "the watch is behind")
}

func TestCoresGetTheirVersionsAlsoWhenTheIndexIsBehind(t *testing.T) {
	f := newFixture(t)
	cfg := f.config(t)
	cfg.Store = state.NewHub(behind{f.store})
	s, err := component.New(cfg)
	require.NoError(t, err)
	start(t, s)
	create(t, f, doc("com.x", "1.0.0", linux)) // by another replica
	got, err := s.Resolve(t.Context(), []component.Candidate{{Name: "com.x"}}, component.Platform{Attributes: map[string]string{"os": "linux"}})
	require.NoError(t, err)
	assert.Equal(t, "1.0.0", got[0].Version)
	_, _, err = s.List(t.Context(), component.ScopeAll, "", 0)
	require.NoError(t, err, "a list shows what there is")
}

func TestTheHighestVersionThatFitsIsChosen(t *testing.T) {
	f := newFixture(t)
	start(t, f.Service)
	for _, v := range []string{"1.0.0", "1.9.0", "1.10.0", "2.0.0", "2.1.0-beta.1"} {
		create(t, f, doc("com.x", v, linux))
	}
	create(t, f, doc("com.x", "3.0.0", `{"Platform":{"os":"windows"}}`))
	create(t, f, doc("com.x", "1.11.0", withArtifacts(`{"Uri":"greengrass:t"}`)))

	classic := component.Platform{Attributes: map[string]string{"os": "linux", "architecture": "amd64"}}
	lite := component.Platform{Name: "linux", Attributes: map[string]string{"os": "linux", "architecture": "amd64", "runtime": "aws_nucleus_lite"}}
	tests := []struct {
		name     string
		req      map[string]string
		platform component.Platform
		want     string
		says     string
	}{
		{"no requirement", nil, classic, "2.0.0", ""},
		{"what classic sends", map[string]string{"thinggroup/g": ">=1.0.0 <2.0.0"}, classic, "1.10.0", ""},
		{"what lite sends", map[string]string{"requirements": "^1.0 1.9.x"}, lite, "1.9.0", ""},
		{"all requirements hold", map[string]string{"a": ">=1.0.0", "b": "=1.0.0"}, classic, "1.0.0", ""},
		{"a pre-release that is named", map[string]string{"a": "=2.1.0-beta.1"}, classic, "2.1.0-beta.1", ""},
		{"no version", map[string]string{"a": ">=9.0.0"}, classic, "", "no usable version"},
		{"only incomplete", map[string]string{"a": "1.11.0"}, classic, "", "no usable version"},
		{"only for another platform", map[string]string{"a": ">=3.0.0"}, lite, "", "claim platform"},
		{"no range", map[string]string{"a": "latest"}, lite, "", "no usable version"},
	}
	replicas := map[string]*component.Service{"index": f.Service, "store": f.another(t)}
	for _, tc := range tests {
		for from, s := range replicas {
			t.Run(tc.name+" from the "+from, func(t *testing.T) {
				got, err := s.Resolve(t.Context(), []component.Candidate{{Name: "com.x", Version: "1.0.0", Requirements: tc.req}}, tc.platform)
				if tc.want == "" {
					require.ErrorIs(t, err, fault.NotFound)
					assert.Contains(t, fault.Message(err), tc.says)
					return
				}
				require.NoError(t, err)
				require.Len(t, got, 1)
				assert.Equal(t, tc.want, got[0].Version)
				assert.Equal(t, "arn:aws:greengrass:us-east-1:123456789012:components:com.x:versions:"+tc.want, got[0].ARN)
				assert.Equal(t, "ACTIVE", got[0].VendorGuidance)
			})
		}
	}
	_, err := f.Resolve(t.Context(), nil, classic)
	assert.ErrorIs(t, err, fault.Invalid)
	_, err = f.Resolve(t.Context(), []component.Candidate{{Name: "com.none"}}, classic)
	assert.Contains(t, fault.Message(err), "not in the store")
}

func TestARecipeThatLiteCannotReadIsNotOfferedToIt(t *testing.T) {
	f := newFixture(t)
	create(t, f, doc("com.x", "1.0.0", `{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{"run":"`+strings.Repeat("x", 14000)+`"}}`))
	c := []component.Candidate{{Name: "com.x"}}
	_, err := f.Resolve(t.Context(), c, component.Platform{Attributes: map[string]string{"os": "linux"}})
	require.NoError(t, err)
	_, err = f.Resolve(t.Context(), c, component.Platform{Attributes: map[string]string{"os": "linux", "runtime": "aws_nucleus_lite"}})
	require.ErrorIs(t, err, fault.NotFound)
	assert.Contains(t, fault.Message(err), "16 KB")
}

func TestAReplicaThatIsBehindAsksTheStoreBeforeItSaysNo(t *testing.T) {
	f := newFixture(t)
	behind := f.another(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- behind.Run(ctx) }()
	<-behind.Ready()
	cancel() // its watch has stopped; what it knows is old
	require.NoError(t, <-done)
	create(t, f, doc("com.x", "1.0.0", linux))
	got, err := behind.Resolve(t.Context(), []component.Candidate{{Name: "com.x"}}, component.Platform{Attributes: map[string]string{"os": "linux"}})
	require.NoError(t, err)
	assert.Equal(t, "1.0.0", got[0].Version)
}

func TestStubsStandInForWhatAWSProvides(t *testing.T) {
	f := newFixture(t)
	start(t, f.Service)
	require.NoError(t, f.EnsureStubs(t.Context()))
	require.NoError(t, f.EnsureStubs(t.Context()), "a second start changes nothing")

	public, _, err := f.List(t.Context(), component.ScopePublic, "", 0)
	require.NoError(t, err)
	latest := map[string]string{}
	for _, c := range public {
		assert.True(t, c.Latest.Stub, c.Name)
		latest[c.Name] = c.Latest.Version
	}
	assert.Equal(t, map[string]string{
		"aws.greengrass.TokenExchangeService": "2.0.3", "aws.greengrass.NucleusLite": "2.6.0", "aws.greengrass.Nucleus": "2.5.0",
		"aws.greengrass.Cli": "2.5.0", "aws.greengrass.clientdevices.Auth": "2.1.0", "aws.greengrass.clientdevices.mqtt.Moquette": "2.1.0",
		"aws.greengrass.clientdevices.mqtt.Bridge": "2.1.1", "aws.greengrass.clientdevices.IPDetector": "2.1.1",
	}, latest)
	private, _, err := f.List(t.Context(), component.ScopePrivate, "", 0)
	require.NoError(t, err)
	assert.Empty(t, private)

	for _, attrs := range []map[string]string{
		{"os": "linux", "architecture": "amd64"},
		{"os": "linux", "architecture": "amd64", "runtime": "aws_nucleus_lite"},
	} {
		got, err := f.Resolve(t.Context(), []component.Candidate{{Name: "aws.greengrass.Cli", Requirements: map[string]string{"t": "=2.4.0"}}}, component.Platform{Attributes: attrs})
		require.NoError(t, err)
		assert.Equal(t, "arn:aws:greengrass:us-east-1:aws:components:aws.greengrass.Cli:versions:2.4.0", got[0].ARN)
		_, err = f.Resolve(t.Context(), []component.Candidate{{Name: "aws.greengrass.Nucleus"}}, component.Platform{Attributes: attrs})
		require.ErrorIs(t, err, fault.NotFound, "a core must not replace its nucleus by a stub")
	}
}

func TestReplicasThatStartAtOnceMakeTheStubsOnce(t *testing.T) {
	f := newFixture(t)
	done := make(chan error)
	for range 4 {
		s := f.another(t)
		go func() { done <- s.EnsureStubs(t.Context()) }()
	}
	for range 4 {
		require.NoError(t, <-done)
	}
	versions, err := f.ListVersions(t.Context(), "aws.greengrass.Cli")
	require.NoError(t, err)
	assert.Len(t, versions, 2)
}

func TestAConfigurationWithoutItsPartsIsRefused(t *testing.T) {
	realm := names.Realm{Region: "us-east-1", Account: "123456789012"}
	for _, c := range []component.Config{
		{Objects: objects.New("b"), Realm: realm, Prefix: "c/"},
		{Store: memory.New(), Realm: realm, Prefix: "c/"},
		{Store: memory.New(), Objects: objects.New("b"), Prefix: "c/"},
		{Store: memory.New(), Objects: objects.New("b"), Realm: realm, Prefix: "c"},
	} {
		_, err := component.New(c)
		assert.Error(t, err)
	}
}

func TestAFailedCommitLeavesAVersionThatCanBeCompleted(t *testing.T) {
	f := newFixture(t)
	create(t, f, doc("com.x", "1.0.0", withArtifacts(`{"Uri":"greengrass:t"}`)))
	f.store.FailCommit = func(*state.Batch) error { return fault.Unavailable }
	_, err := f.PutArtifact(t.Context(), "com.x", "1.0.0", "t", strings.NewReader("x"), 1)
	require.ErrorIs(t, err, fault.Unavailable)
	f.store.FailCommit = nil
	v, err := f.PutArtifact(t.Context(), "com.x", "1.0.0", "t", strings.NewReader("x"), 1)
	require.NoError(t, err)
	assert.Equal(t, component.Deployable, v.State)
	assert.Len(t, f.keys(t), 1, "the retry wrote the same object again")
}

func BenchmarkResolve(b *testing.B) {
	for _, bench := range []struct {
		name                 string
		components, versions int
	}{
		{"among 1,000 components of 5 versions", 1000, 5},
		{"among 5,000 versions of one component", 1, 5000},
	} {
		b.Run(bench.name, func(b *testing.B) {
			f := newFixture(b)
			s := f.Service
			start(b, s)
			for i := range bench.components {
				for v := range bench.versions {
					_, err := f.Create(b.Context(), doc(fmt.Sprintf("com.x%d", i), fmt.Sprintf("1.%d.0", v), linux), component.CreateOptions{})
					require.NoError(b, err)
				}
			}
			p := component.Platform{Attributes: map[string]string{"os": "linux", "architecture": "amd64"}}
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				name, began := fmt.Sprintf("com.x%d", i%bench.components), time.Now()
				if _, err := s.Resolve(b.Context(), []component.Candidate{{Name: name, Requirements: map[string]string{"a": "^1", "b": "<1.3.0"}}}, p); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2])/1e3, "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100])/1e3, "p99-µs")
		})
	}
}
