package load_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

const (
	awsThings = "arn:aws:iot:us-east-1:000000000000:"
	awsLine   = "bench-line"
)

// awsClients are clients of the AWS endpoint with a key of their own.
func awsClients(t *testing.T, w *world.World) (*greengrassv2.Client, *iot.Client) {
	t.Helper()
	key := w.NewAccessKey(t)
	creds := credentials.NewStaticCredentialsProvider(key.ID, key.Secret, "")
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	return greengrassv2.New(greengrassv2.Options{Region: "us-east-1", BaseEndpoint: aws.String(w.AWS), Credentials: creds, HTTPClient: client}),
		iot.New(iot.Options{Region: "us-east-1", BaseEndpoint: aws.String(w.AWS), Credentials: creds, HTTPClient: client})
}

// TestRollout measures a deployment that an AWS client makes for a group of many
// connected cores, without a rate: until the last core was notified, and until all
// have reported.
func TestRollout(t *testing.T) {
	n := size(t, "ROLLOUT", 10_000, 30)
	w, profiles := startAWS(t)
	names := coreNames(n)
	provision(t, w, names)
	dir, list := identities(t, w, names)
	w.PutComponent(t, []byte(fmt.Sprintf(benchRecipe, "1.0.0")), map[string][]byte{"hello.sh": []byte("sleep 1\n")})
	gg, things := awsClients(t, w)
	ctx := t.Context()
	_, err := things.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String(awsLine)})
	require.NoError(t, err)
	began := time.Now()
	parallel(n, 16, func(i int) {
		_, err := things.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingGroupName: aws.String(awsLine), ThingName: aws.String(names[i])})
		if err != nil {
			t.Errorf("adding %s to the group: %v", names[i], err)
		}
	})
	row(t, "AddThingToThingGroup", fmt.Sprintf("%.0f/s", float64(n)/time.Since(began).Seconds()), "", "", "")
	fleet := startFleet(t, w, dir)
	fleet.await(t, "connected", n)
	_, err = things.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("bench-alone")})
	require.NoError(t, err)
	readsOfAWS(t, w, gg, "bench-alone", n)

	before := used(t, w.PID())
	began = time.Now()
	var accepted, notified, reported, seen time.Duration
	profile(t, profiles, "rollout", func() {
		_, err := gg.CreateDeployment(ctx, &greengrassv2.CreateDeploymentInput{
			TargetArn: aws.String(awsThings + "thinggroup/" + awsLine), DeploymentName: aws.String("bench"),
			Components: map[string]types.ComponentDeploymentSpecification{"com.example.Bench": {ComponentVersion: aws.String("1.0.0")}},
		})
		require.NoError(t, err)
		accepted = time.Since(began)
		notified = fleet.await(t, "jobs", n).Sub(began)
		reported = fleet.await(t, "succeeded", n).Sub(began)
		world.Eventually(t, func() string {
			if done := succeeded(t, gg); done < n {
				return fmt.Sprintf("ListCoreDevices shows %d of %d cores of the group", done, n)
			}
			return ""
		})
		seen = time.Since(began)
	})
	after := used(t, w.PID())
	fleet.stop(t)
	raw := rawCalls(t, w, list)
	row(t, "CreateDeployment for a group of "+strconv.Itoa(n)+" connected cores, until all have reported",
		fmt.Sprintf("%.0f/s, %.2f ms CPU a core", float64(n)/seen.Seconds(), ms(after.cpu-before.cpu)/float64(n)),
		fmt.Sprintf("%.0f/s: %d mTLS connections with one request each", float64(n)/raw.Seconds(), n*callsPerCore), fmt.Sprintf("%.2f", raw.Seconds()/seen.Seconds()), "the handshakes")
	row(t, "– step by step", fmt.Sprintf("accepted %.3f s, last job taken up %.2f s, last result sent %.2f s, listed %.2f s",
		accepted.Seconds(), notified.Seconds(), reported.Seconds(), seen.Seconds()), "", "", "last notification 10 s")
}

// startAWS is start without a limit for one access key.
func startAWS(t *testing.T) (*world.World, string) {
	t.Helper()
	return start(t, "--aws-rate", "0")
}

// succeeded is how many cores have run a deployment for the group.
func succeeded(t *testing.T, gg *greengrassv2.Client) int {
	t.Helper()
	n := 0
	pages := greengrassv2.NewListCoreDevicesPaginator(gg, &greengrassv2.ListCoreDevicesInput{
		ThingGroupArn: aws.String(awsThings + "thinggroup/" + awsLine), MaxResults: aws.Int32(100),
	})
	for pages.HasMorePages() {
		p, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		n += len(p.CoreDevices)
	}
	return n
}

// readsOfAWS measures the reads of the Greengrass V2 API, of a fleet of so many
// cores and of a deployment for thing.
func readsOfAWS(t *testing.T, w *world.World, gg *greengrassv2.Client, thing string, cores int) {
	t.Helper()
	ctx := t.Context()
	components := size(t, "COMPONENTS", 1000, 20)
	parallel(components, 8, func(i int) {
		recipe := strings.Replace(fmt.Sprintf(benchRecipe, "1.0.0"), "com.example.Bench", fmt.Sprintf("com.example.Bench%04d", i), 1)
		recipe = strings.Replace(recipe, "    Artifacts:\n      - URI: greengrass:hello.sh\n", "", 1)
		_, err := gg.CreateComponentVersion(ctx, &greengrassv2.CreateComponentVersionInput{InlineRecipe: []byte(recipe)})
		if err != nil {
			t.Errorf("creating component %d: %v", i, err)
		}
	})
	made, err := gg.CreateDeployment(ctx, &greengrassv2.CreateDeploymentInput{TargetArn: aws.String(awsThings + "thing/" + thing)})
	require.NoError(t, err)
	last := fmt.Sprintf("com.example.Bench%04d", components-1)
	world.Eventually(t, func() string {
		_, err := gg.ResolveComponentCandidates(ctx, resolve(last))
		if err != nil {
			return err.Error()
		}
		return ""
	})
	rounds := 500
	if !full() {
		rounds = 10
	}
	measure := func(call func() error) (p50, p99 time.Duration) {
		took := make([]time.Duration, rounds)
		tick := time.NewTicker(4 * time.Millisecond)
		defer tick.Stop()
		for i := range took {
			<-tick.C
			began := time.Now()
			err := call()
			took[i] = time.Since(began)
			require.NoError(t, err)
		}
		return quantile(took, 0.5), quantile(took, 0.99)
	}
	bare50, bare99 := measure(func() error {
		a, err := w.Do(ctx, http.MethodGet, "/healthz", nil)
		if err == nil && a.Status != http.StatusOK {
			err = fmt.Errorf("status %d", a.Status)
		}
		return err
	})
	for _, r := range []struct {
		what string
		call func() error
	}{
		{"GetDeployment", func() error {
			_, err := gg.GetDeployment(ctx, &greengrassv2.GetDeploymentInput{DeploymentId: made.DeploymentId})
			return err
		}},
		{"ListCoreDevices, 100 of " + strconv.Itoa(cores), func() error {
			_, err := gg.ListCoreDevices(ctx, &greengrassv2.ListCoreDevicesInput{MaxResults: aws.Int32(100)})
			return err
		}},
		{"ListCoreDevices, a filter that none passes", func() error {
			_, err := gg.ListCoreDevices(ctx, &greengrassv2.ListCoreDevicesInput{Status: types.CoreDeviceStatusUnhealthy, Runtime: aws.String("none")})
			return err
		}},
		{"ResolveComponentCandidates, " + strconv.Itoa(components) + " components", func() error {
			_, err := gg.ResolveComponentCandidates(ctx, resolve(last))
			return err
		}},
	} {
		p50, p99 := measure(r.call)
		row(t, r.what, fmt.Sprintf("p50 %.2f, p99 %.2f ms", ms(p50), ms(p99)),
			fmt.Sprintf("p50 %.2f, p99 %.2f ms, `/healthz`", ms(bare50), ms(bare99)), "", "p99 10 ms")
	}
}

func resolve(component string) *greengrassv2.ResolveComponentCandidatesInput {
	return &greengrassv2.ResolveComponentCandidatesInput{
		Platform: &types.ComponentPlatform{Attributes: map[string]string{"os": "linux", "architecture": "amd64", "runtime": "*"}},
		ComponentCandidates: []types.ComponentCandidate{{
			ComponentName: aws.String(component), VersionRequirements: map[string]string{"thinggroup/" + awsLine: ">=1.0.0 <2.0.0"},
		}},
	}
}

// TestArtifactThroughput measures the download of an artifact by its link against
// the same object from the S3 gateway.
func TestArtifactThroughput(t *testing.T) {
	n := size(t, "ARTIFACT_MB", 256, 4)
	w, profiles := startAWS(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), n*mb/16)
	w.PutComponent(t, []byte(fmt.Sprintf(benchRecipe, "1.0.0")), map[string][]byte{"hello.sh": content})
	gg, _ := awsClients(t, w)
	out, err := gg.GetComponentVersionArtifact(t.Context(), &greengrassv2.GetComponentVersionArtifactInput{
		Arn: aws.String("arn:aws:greengrass:us-east-1:000000000000:components:com.example.Bench:versions:1.0.0"), ArtifactName: aws.String("hello.sh"),
	})
	require.NoError(t, err)
	w.PutObject(t, "ggfleet", "bench/object", content)
	bare := w.Presign(t, "ggfleet", "bench/object", time.Hour)
	const at = 4 // at once
	var perSecond [2]float64
	for round := range 2 { // the first warms the page cache
		for i, link := range []string{*out.PreSignedUrl, bare} {
			began := time.Now()
			profile(t, profiles, fmt.Sprintf("artifact-%d-%d", i, round), func() { parallel(at, at, func(int) { download(t, link, int64(len(content))) }) })
			perSecond[i] = float64(at*n) / time.Since(began).Seconds()
		}
	}
	row(t, fmt.Sprintf("artifact of %d MB, %d downloads at once", n, at), fmt.Sprintf("%.0f MB/s", perSecond[0]),
		fmt.Sprintf("%.0f MB/s: the object from the S3 gateway", perSecond[1]), fmt.Sprintf("%.2f", perSecond[0]/perSecond[1]), "")
}

func download(t *testing.T, link string, want int64) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, link, nil)
	if err != nil {
		t.Errorf("link %s: %v", link, err)
		return
	}
	res, err := (&http.Client{Timeout: 5 * time.Minute}).Do(req)
	if err != nil {
		t.Errorf("download: %v", err)
		return
	}
	defer func() { _ = res.Body.Close() }()
	if got, err := io.Copy(io.Discard, res.Body); err != nil || got != want || res.StatusCode != http.StatusOK {
		t.Errorf("download: status %d, %d of %d bytes: %v", res.StatusCode, got, want, err)
	}
}
