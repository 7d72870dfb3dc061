package component_test

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (f *fixture) put(t testing.TB, key, text string) {
	require.NoError(t, f.objects.Put(t.Context(), state.PutArtifact, key, strings.NewReader(text), int64(len(text)), ""))
}

func request(t testing.TB, s *component.Service, src []byte) component.Receipt {
	r, err := s.Request(t.Context(), src, nil, "")
	require.NoError(t, err)
	return r
}

// in runs f in a bubble with a replica that runs, and waits for it to end.
func in(t *testing.T, f func(t *testing.T, k *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		k := newFixture(t)
		stop := serve(t, k.Service)
		f(t, k)
		stop()
	})
}

// serve runs s until stop is called.
func serve(t testing.TB, s *component.Service) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()
	return func() {
		cancel()
		assert.NoError(t, <-done)
	}
}

func get(t testing.TB, s *component.Service) component.Version {
	v, err := s.Get(t.Context(), "com.x", "1.0.0")
	require.NoError(t, err)
	return v
}

const ours = `{"Uri":"s3://artifacts/mine/tool.sh"}`

func TestARequestedVersionIsReadAfterTheAnswer(t *testing.T) {
	in(t, func(t *testing.T, k *fixture) {
		k.put(t, "mine/tool.sh", "echo")
		gate := make(chan struct{})
		k.objects.Fail = func(op, _ string) error {
			if op == "open" {
				<-gate
			}
			return nil
		}
		r := request(t, k.Service, doc("com.x", "1.0.0", withArtifacts(ours)))
		assert.Equal(t, "arn:aws:greengrass:us-east-1:123456789012:components:com.x:versions:1.0.0", r.ARN)
		synctest.Wait()
		v := get(t, k.Service)
		assert.Equal(t, component.Initiated, v.State)
		assert.Empty(t, v.Missing(), "nobody need upload anything")
		_, err := k.Resolve(t.Context(), []component.Candidate{{Name: "com.x"}}, component.Platform{Attributes: map[string]string{"os": "linux"}})
		require.ErrorIs(t, err, fault.NotFound)
		assert.Contains(t, fault.Message(err), "being checked")

		close(gate)
		synctest.Wait()
		v = get(t, k.Service)
		assert.Equal(t, component.Deployable, v.State)
		assert.Equal(t, "NONE", v.Message())
		assert.Contains(t, string(v.Normalized), `"Uri":"greengrass:`+v.Artifacts[0].Name+`","Unarchive":"NONE","Digest":"`+digest("echo")+`"`)
		a, err := k.Locate(t.Context(), v.ARN, v.Artifacts[0].Name)
		require.NoError(t, err)
		assert.Equal(t, "mine/tool.sh", a.Key)
	})
}

func TestWhatIsWrongWithTheBytesMakesAVersionFailed(t *testing.T) {
	in(t, func(t *testing.T, k *fixture) {
		k.put(t, "mine/tool.sh", "echo")
		k.put(t, "mine/gone", "x")
		src := doc("com.x", "1.0.0", withArtifacts(`{"Uri":"s3://artifacts/mine/tool.sh","Digest":"`+digest("other")+`"},{"Uri":"s3://artifacts/mine/gone"}`))
		k.objects.Fail = func(op, key string) error {
			if op == "open" && key == "mine/gone" {
				return fault.New(fault.NotFound, "no object")
			}
			return nil
		}
		request(t, k.Service, src)
		synctest.Wait()
		v := get(t, k.Service)
		assert.Equal(t, component.Failed, v.State)
		assert.Equal(t, map[string]string{
			"s3://artifacts/mine/tool.sh": "The digest in the recipe differs from that of the object",
			"s3://artifacts/mine/gone":    "Specified artifact resource cannot be accessed",
		}, v.Errors)
		assert.Equal(t, "Invalid Input: Encountered following errors in Artifacts: {s3://artifacts/mine/gone = Specified artifact resource cannot be accessed, s3://artifacts/mine/tool.sh = The digest in the recipe differs from that of the object}", v.Message())
		err := k.Deployable(t.Context(), "com.x", "1.0.0")
		require.ErrorIs(t, err, fault.Invalid)
		assert.Contains(t, fault.Message(err), "is FAILED")

		_, err = k.Request(t.Context(), src, nil, "")
		require.ErrorIs(t, err, fault.Exists)
		assert.Equal(t, "Component [com.x : 1.0.0] for account [123456789012] already exists with state: [FAILED]", fault.Message(err))
		require.NoError(t, k.Delete(t.Context(), "com.x", "1.0.0"))
		request(t, k.Service, doc("com.x", "1.0.0", withArtifacts(ours)))
		synctest.Wait()
		assert.Equal(t, component.Deployable, get(t, k.Service).State, "deleted, and made again")
	})
}

func TestNothingIsStoredOfARequestThatIsRefusedAtOnce(t *testing.T) {
	in(t, func(t *testing.T, k *fixture) {
		_, err := k.Request(t.Context(), doc("com.x", "1.0.0", withArtifacts(ours)), nil, "tok")
		require.ErrorIs(t, err, fault.Invalid)
		assert.Contains(t, fault.Message(err), "{s3://artifacts/mine/tool.sh = Specified artifact resource cannot be accessed}")
		k.put(t, "mine/tool.sh", "echo")
		_, err = k.Request(t.Context(), doc("com.x", "1.0.0", withArtifacts(ours)), nil, "tok")
		require.NoError(t, err, "the token of a failure may be used again")
	})
}

func TestAClientTokenRepeatsTheAnswerAlsoOfAnotherReplica(t *testing.T) {
	f := newFixture(t)
	src := doc("com.x", "1.0.0", linux)
	first, err := f.Request(t.Context(), src, map[string]string{"a": "b"}, "tok-1")
	require.NoError(t, err)
	again, err := f.another(t).Request(t.Context(), src, map[string]string{"a": "b"}, "tok-1")
	require.NoError(t, err)
	assert.Equal(t, first, again)
	_, err = f.Request(t.Context(), src, nil, "tok-2")
	assert.ErrorIs(t, err, fault.Exists)
}

func TestACheckGoesOnAfterARestartAndOnAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFixture(t)
		k.put(t, "mine/tool.sh", "echo")
		src := doc("com.x", "1.0.0", withArtifacts(ours))
		request(t, k.Service, src)
		assert.Equal(t, component.Requested, get(t, k.Service).State, "nobody runs")

		var dead atomic.Bool
		k.objects.Fail = func(op, _ string) error {
			if op == "open" && !dead.Load() {
				return fault.Unavailable
			}
			return nil
		}
		stop := serve(t, k.Service)
		synctest.Wait()
		assert.Equal(t, component.Initiated, get(t, k.Service).State)
		stop()
		dead.Store(true)
		other := k.another(t)
		stop = serve(t, other)
		defer stop()
		synctest.Wait()
		assert.Equal(t, component.Deployable, get(t, other).State)
	})
}

func TestAStoreThatIsAwayDelaysACheckAndEndsNone(t *testing.T) {
	in(t, func(t *testing.T, k *fixture) {
		k.put(t, "mine/tool.sh", "echo")
		k.put(t, "mine/other", "x")
		var away atomic.Bool
		away.Store(true)
		k.objects.Fail = func(op, key string) error {
			if op == "open" && key == "mine/tool.sh" && away.Load() {
				return fault.Unavailable
			}
			return nil
		}
		request(t, k.Service, doc("com.x", "1.0.0", withArtifacts(ours)))
		request(t, k.Service, doc("com.y", "1.0.0", withArtifacts(`{"Uri":"s3://artifacts/mine/other"}`)))
		time.Sleep(time.Minute)
		v, err := k.Get(t.Context(), "com.y", "1.0.0")
		require.NoError(t, err)
		assert.Equal(t, component.Deployable, v.State, "what fails does not keep the others waiting")
		assert.Equal(t, component.Initiated, get(t, k.Service).State)
		away.Store(false)
		time.Sleep(time.Minute)
		assert.Equal(t, component.Deployable, get(t, k.Service).State)
	})
}

func TestAVersionThatIsDeletedWhileItIsCheckedStaysDeleted(t *testing.T) {
	in(t, func(t *testing.T, k *fixture) {
		k.put(t, "mine/tool.sh", "echo")
		gate := make(chan struct{})
		k.objects.Fail = func(op, _ string) error {
			if op == "open" {
				<-gate
			}
			return nil
		}
		request(t, k.Service, doc("com.x", "1.0.0", withArtifacts(ours)))
		synctest.Wait()
		require.NoError(t, k.Delete(t.Context(), "com.x", "1.0.0"))
		close(gate)
		synctest.Wait()
		_, err := k.Get(t.Context(), "com.x", "1.0.0")
		assert.ErrorIs(t, err, fault.NotFound)
	})
}

func TestUploadsAndChecksOfOneVersionCompleteItTogether(t *testing.T) {
	in(t, func(t *testing.T, k *fixture) {
		k.put(t, "mine/tool.sh", "echo")
		request(t, k.Service, doc("com.x", "1.0.0", withArtifacts(ours+`,{"Uri":"greengrass:m.bin"}`)))
		synctest.Wait()
		v := get(t, k.Service)
		assert.Equal(t, component.Initiated, v.State)
		assert.Equal(t, []string{"m.bin"}, v.Missing())
		v, err := k.PutArtifact(t.Context(), "com.x", "1.0.0", "m.bin", strings.NewReader("model"), 5)
		require.NoError(t, err)
		assert.Equal(t, component.Deployable, v.State)
	})
}

func TestOfTwoReplicasOneChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFixture(t)
		k.put(t, "mine/tool.sh", "echo")
		var opened atomic.Int32
		k.objects.Fail = func(op, _ string) error {
			if op == "open" {
				opened.Add(1)
			}
			return nil
		}
		other := k.another(t)
		defer serve(t, k.Service)()
		defer serve(t, other)()
		request(t, other, doc("com.x", "1.0.0", withArtifacts(ours)))
		synctest.Wait()
		assert.Equal(t, component.Deployable, get(t, other).State)
		assert.Equal(t, int32(1), opened.Load())
	})
}

func TestTheLimitOfTwoGigabytesIsToldBeforeAByteIsRead(t *testing.T) {
	f := newFixture(t)
	for _, key := range []string{"a", "b", "c"} {
		f.put(t, key, "x")
	}
	big := &zeros{Store: f.objects, sizes: map[string]int64{"a": component.MaxArtifactBytes / 2, "b": component.MaxArtifactBytes / 2, "c": 1}}
	s := f.over(t, big)
	_, err := s.Request(t.Context(), doc("com.x", "1.0.0", withArtifacts(`{"Uri":"s3://artifacts/a"},{"Uri":"s3://artifacts/b"},{"Uri":"s3://artifacts/c"}`)), nil, "")
	require.ErrorIs(t, err, fault.TooLarge)
	request(t, s, doc("com.x", "1.0.0", withArtifacts(`{"Uri":"s3://artifacts/a"},{"Uri":"s3://artifacts/b"}`)))
	assert.Zero(t, big.read.Load())
}

func TestMemoryStaysFlatHoweverLargeAnArtifactIs(t *testing.T) {
	f := newFixture(t)
	f.put(t, "mine/tool.sh", "x")
	const size = 64 << 20
	s := f.over(t, &zeros{Store: f.objects, sizes: map[string]int64{"mine/tool.sh": size}})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	v, err := s.Create(t.Context(), doc("com.x", "1.0.0", withArtifacts(ours)), component.CreateOptions{})
	require.NoError(t, err)
	assert.Equal(t, component.Deployable, v.State)
	_, err = s.Create(t.Context(), doc("com.y", "1.0.0", withArtifacts(`{"Uri":"greengrass:m"}`)), component.CreateOptions{})
	require.NoError(t, err)
	_, err = s.PutArtifact(t.Context(), "com.y", "1.0.0", "m", &stream{left: size}, size)
	require.ErrorIs(t, err, errDiscarded)
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20), "bytes allocated for twice 64 MiB")
}

func TestQuotasAreTold(t *testing.T) {
	f := newFixture(t)
	s := f.limited(t, 2, 2)
	for _, running := range []string{"from the store", "from the index"} {
		if running == "from the index" {
			defer serve(t, s)()
		}
		t.Run(running, func(t *testing.T) {
			try := func(name, version string) error {
				_, err := s.Request(t.Context(), doc(name, version, linux), nil, "")
				return err
			}
			require.NoError(t, try("com.a", "1.0.0"))
			require.NoError(t, try("com.a", "2.0.0"))
			require.ErrorIs(t, try("com.a", "3.0.0"), fault.Exhausted)
			require.ErrorIs(t, try("com.a", "1.0.0"), fault.Exists)
			require.NoError(t, s.EnsureStubs(t.Context()), "what AWS provides counts for nobody")
			require.NoError(t, try("com.b", "1.0.0"))
			require.ErrorIs(t, try("com.c", "1.0.0"), fault.Exhausted)
			require.NoError(t, s.Delete(t.Context(), "com.b", "1.0.0"))
			require.NoError(t, try("com.c", "1.0.0"))
			for _, v := range [][2]string{{"com.a", "1.0.0"}, {"com.a", "2.0.0"}, {"com.c", "1.0.0"}} {
				require.NoError(t, s.Delete(t.Context(), v[0], v[1]))
			}
		})
	}
}

func TestTagsAreSetByARN(t *testing.T) {
	f := newFixture(t)
	r, err := f.Request(t.Context(), doc("com.x", "1.0.0", linux), map[string]string{"a": "1", "b": "2"}, "")
	require.NoError(t, err)
	require.NoError(t, f.SetTags(t.Context(), r.ARN, func(tags map[string]string) { tags["c"] = ""; delete(tags, "a") }))
	assert.Equal(t, map[string]string{"b": "2", "c": ""}, get(t, f.Service).Tags)
	err = f.SetTags(t.Context(), r.ARN, func(tags map[string]string) { tags["aws:x"] = "" })
	require.ErrorIs(t, err, fault.Invalid)
	assert.Equal(t, "tags", fault.FieldOf(err))
	assert.Len(t, get(t, f.Service).Tags, 2)
	for _, arn := range []string{strings.Replace(r.ARN, "1.0.0", "9.0.0", 1), strings.Replace(r.ARN, "123456789012", "aws", 1)} {
		assert.ErrorIs(t, f.SetTags(t.Context(), arn, func(map[string]string) {}), fault.NotFound)
	}
}

func TestAnImportCompletesWhatAnotherRequested(t *testing.T) {
	f := newFixture(t)
	f.put(t, "mine/tool.sh", "echo")
	src := doc("com.x", "1.0.0", withArtifacts(ours))
	request(t, f.Service, src)
	v, err := f.Create(t.Context(), src, component.CreateOptions{Replace: true})
	require.NoError(t, err)
	assert.Equal(t, component.Deployable, v.State)
}

func TestACheckSurvivesACrashAtEveryCommit(t *testing.T) {
	for after := range 5 { // the office, INITIATED, the outcome
		synctest.Test(t, func(t *testing.T) {
			k := newFixture(t)
			k.put(t, "mine/tool.sh", "echo")
			request(t, k.Service, doc("com.x", "1.0.0", withArtifacts(ours)))
			var commits atomic.Int64
			commits.Store(int64(after))
			k.store.FailCommit = func(*state.Batch) error {
				if commits.Add(-1) < 0 {
					return fault.Unavailable
				}
				return nil
			}
			stop := serve(t, k.Service)
			time.Sleep(time.Second)
			stop()
			commits.Store(1 << 40)
			other := k.another(t)
			defer serve(t, other)()
			time.Sleep(30 * time.Second) // the office of the dead one ends with its lease
			assert.Equal(t, component.Deployable, get(t, other).State, "after %d commits", after)
		})
	}
}
