package simulator

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	// Sizes of whole answers that lite takes (traps 21, 23).
	liteMaxGroups      = 2048
	liteMaxURL         = 2000
	liteMaxResolve     = 16384
	liteMaxCredentials = 1500
	liteMaxARN         = 256

	classicMaxAnswer = 4 << 20
	maxArtifact      = 1 << 30
	maxPages         = 100
)

// cloud is the HTTPS side of one deployment. Lite opens a connection for every
// request; classic keeps them, so close must be called.
type cloud struct {
	c         *Core
	mtls      *http.Client
	artifacts *http.Client
	base      string
}

func (c *Core) cloud() *cloud {
	withCert := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.cfg.RootCAs, Certificates: []tls.Certificate{c.cfg.Certificate}}
	noCert := &tls.Config{MinVersion: tls.VersionTLS12} // lite: the operating system's store only
	if !c.lite() {
		withCert.NextProtos = []string{"x-amzn-http-ca", "http/1.1"}
		noCert.RootCAs = c.cfg.RootCAs
	}
	client := func(tc *tls.Config) *http.Client {
		return &http.Client{
			Timeout: 2 * time.Minute,
			Transport: &http.Transport{
				DialContext: c.dialer.DialContext, TLSClientConfig: tc, TLSHandshakeTimeout: dialTimeout,
				DisableKeepAlives: c.lite(), ForceAttemptHTTP2: c.lite(), DisableCompression: true, MaxIdleConns: 2,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &cloud{c: c, mtls: client(withCert), artifacts: client(noCert), base: "https://" + c.cfg.DataPlane}
}

func (cl *cloud) close() {
	cl.mtls.CloseIdleConnections()
	cl.artifacts.CloseIdleConnections()
}

// httpError is an answer that is not 2xx.
type httpError struct {
	status int
	kind   string // x-amzn-ErrorType
	body   string
}

func (e *httpError) Error() string {
	return fmt.Sprintf("status %d %s %s", e.status, e.kind, e.body)
}

func status(err error) int {
	var e *httpError
	if errors.As(err, &e) {
		return e.status
	}
	return 0
}

// do sends a request with the device certificate and the runtime's own headers,
// and tries again as the runtime does (§4.1).
func (cl *cloud) do(ctx context.Context, method, address string, body []byte, header map[string]string, limit int64) ([]byte, error) {
	var answer []byte
	err := cl.c.retry(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(string(body)))
		if err != nil {
			return fault.New(fault.Invalid, "request: %v", err)
		}
		if body == nil {
			req.Body, req.ContentLength = nil, 0
		}
		if cl.c.lite() {
			req.Header.Set("User-Agent", "") // sends none
			req.Header.Set("Accept", "*/*")
		} else {
			req.Header.Set("User-Agent", "aws-sdk-java/2.20 Linux/5.10 OpenJDK_64-Bit_Server_VM vendor/Amazon.com_Inc. io/sync http/Apache")
		}
		for k, v := range header {
			req.Header.Set(k, v)
		}
		res, err := cl.mtls.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		answer, err = io.ReadAll(io.LimitReader(res.Body, limit+1))
		if err != nil {
			return err
		}
		if res.StatusCode/100 != 2 {
			return &httpError{status: res.StatusCode, kind: res.Header.Get("X-Amzn-Errortype"), body: string(answer[:min(len(answer), 300)])}
		}
		if int64(len(answer)) > limit {
			return fault.New(fault.TooLarge, "answer is over the %d bytes that this runtime takes (trap 21)", limit)
		}
		return nil
	})
	return answer, err
}

// retry runs step as often as the runtime would: lite seven times with doubling
// waits, classic for ever, on what may pass.
func (c *Core) retry(ctx context.Context, step func(context.Context) error) error {
	passing := []int{400, 408, 429, 500, 502, 503, 504, 509}
	attempts := 7
	if !c.lite() {
		passing, attempts = []int{429, 500, 502, 503, 504}, 0
	}
	wait := run.Backoff{Min: c.cfg.RetryBase, Max: 64 * c.cfg.RetryBase}
	for n := 1; ; n++ {
		err := step(ctx)
		code := status(err)
		if err == nil || ctx.Err() != nil || n == attempts || fault.Permanent(err) || code != 0 && !slices.Contains(passing, code) {
			return err
		}
		if run.Sleep(ctx, wait.Next()) != nil {
			return err
		}
	}
}

func (cl *cloud) limit(lite int64) int64 {
	if cl.c.lite() {
		return lite
	}
	return classicMaxAnswer
}

// thingGroups lists the names of ListThingGroupsForCoreDevice: lite reads one
// page and names, classic all pages and the parents too.
func (cl *cloud) thingGroups(ctx context.Context) ([]string, error) {
	type group struct {
		Name    string `json:"thingGroupName"`
		Parents []struct {
			Name string `json:"thingGroupName"`
		} `json:"rootToParentThingGroups"`
	}
	address := cl.base + "/greengrass/v2/coreDevices/" + url.PathEscape(cl.c.cfg.Thing) + "/thingGroups"
	var list []string
	token := ""
	for range maxPages {
		query := ""
		if token != "" {
			query = "?nextToken=" + url.QueryEscape(token)
		}
		b, err := cl.do(ctx, http.MethodGet, address+query, nil, map[string]string{"Content-type": "application/json"}, cl.limit(liteMaxGroups))
		if err != nil {
			return nil, err
		}
		var page struct {
			ThingGroups []group `json:"thingGroups"`
			NextToken   string  `json:"nextToken"`
		}
		if err := json.Unmarshal(b, &page); err != nil {
			return nil, fault.New(fault.Invalid, "thing groups: %v", err)
		}
		for _, g := range page.ThingGroups {
			list = append(list, g.Name)
			for _, p := range g.Parents {
				list = append(list, p.Name)
			}
		}
		if token = page.NextToken; token == "" || cl.c.lite() {
			break
		}
	}
	return list, nil
}

var componentARN = regexp.MustCompile(`^arn:[a-z-]+:greengrass:([a-z0-9-]+):(?:aws|\d+):components:([a-zA-Z0-9._-]{1,128}):versions:(.+)$`)

// resolve asks the cloud for one component that meets the requirements.
func (cl *cloud) resolve(ctx context.Context, name, have string, requirements map[string]string) (*recipe, error) {
	b, err := cl.do(ctx, http.MethodPost, cl.base+"/greengrass/v2/resolveComponentCandidates", cl.candidate(name, have, requirements),
		map[string]string{"Content-type": "application/json"}, cl.limit(liteMaxResolve))
	if err != nil {
		return nil, err
	}
	var res struct {
		Resolved []struct{ ARN, ComponentName, ComponentVersion, Recipe, VendorGuidance string } `json:"resolvedComponentVersions"`
	}
	if err := json.Unmarshal(b, &res); err != nil {
		return nil, fault.New(fault.Invalid, "resolve answer: %v", err)
	}
	if len(res.Resolved) != 1 {
		return nil, fault.New(fault.Invalid, "resolve answer has %d entries, want one", len(res.Resolved))
	}
	v := res.Resolved[0]
	m := componentARN.FindStringSubmatch(v.ARN)
	if m == nil || m[2] != name || m[3] != v.ComponentVersion || v.ComponentName != name || cl.c.lite() && len(v.ARN) > liteMaxARN {
		return nil, fault.New(fault.Invalid, "resolve answer for %s has the ARN %q and names %s-%s (trap 28)", name, v.ARN, v.ComponentName, v.ComponentVersion)
	}
	if m[1] != cl.c.cfg.Region {
		return nil, fault.New(fault.Invalid, "component ARN %q is not of the device's region %s (trap 28)", v.ARN, cl.c.cfg.Region)
	}
	if !satisfies(v.ComponentVersion, requirements) {
		return nil, fault.New(fault.Invalid, "%s-%s does not meet %v", name, v.ComponentVersion, requirements)
	}
	r, err := readRecipe(cl.c.cfg.Runtime, v.Recipe)
	if err != nil {
		return nil, fmt.Errorf("recipe of %s-%s: %w", name, v.ComponentVersion, err)
	}
	if r.Name != name || r.Version != v.ComponentVersion {
		return nil, fault.New(fault.Invalid, "recipe says %s-%s, the answer %s-%s", r.Name, r.Version, name, v.ComponentVersion)
	}
	r.ARN = v.ARN
	return r, nil
}

func (cl *cloud) candidate(name, have string, requirements map[string]string) []byte {
	type candidate struct {
		Name         string            `json:"componentName"`
		Version      string            `json:"componentVersion,omitempty"`
		Requirements map[string]string `json:"versionRequirements"`
	}
	type platform struct {
		Name       string `json:"name,omitempty"`
		Attributes any    `json:"attributes"`
	}
	type request struct {
		Candidates []candidate `json:"componentCandidates"`
		Platform   platform    `json:"platform"`
	}
	if !cl.c.lite() {
		normal := map[string]string{}
		for k, v := range requirements {
			normal[k] = normalForm(v)
		}
		return compact(request{[]candidate{{name, have, normal}}, platform{Attributes: map[string]string{"os": "linux", "architecture": architecture()}}})
	}
	var texts []string
	for _, key := range sortedKeys(requirements) {
		texts = append(texts, requirements[key])
	}
	return compact(request{
		[]candidate{{Name: name, Requirements: map[string]string{"requirements": strings.Join(texts, " ")}}},
		platform{"linux", struct {
			Runtime      string `json:"runtime"`
			OS           string `json:"os"`
			Architecture string `json:"architecture"`
		}{"aws_nucleus_lite", "linux", architecture()}},
	})
}

// credentials calls the token exchange and checks the answer as lite does.
func (cl *cloud) credentials(ctx context.Context) error {
	host := cl.c.cfg.Credentials
	if h, port, err := net.SplitHostPort(host); err == nil && port == "443" {
		host = h
	}
	b, err := cl.do(ctx, http.MethodGet, "https://"+host+"/role-aliases/"+url.PathEscape(cl.c.cfg.RoleAlias)+"/credentials", nil,
		map[string]string{"x-amzn-iot-thingname": cl.c.cfg.Thing}, liteMaxCredentials)
	if err != nil {
		return err
	}
	var res struct {
		Credentials map[string]string `json:"credentials"`
	}
	if err := json.Unmarshal(b, &res); err != nil {
		return fault.New(fault.Invalid, "credentials: %v", err)
	}
	if len(res.Credentials) != 4 || res.Credentials["accessKeyId"] == "" || res.Credentials["secretAccessKey"] == "" || res.Credentials["sessionToken"] == "" {
		return fault.New(fault.Invalid, "credentials have the wrong members (trap 23)")
	}
	if t, err := time.Parse(time.RFC3339, res.Credentials["expiration"]); err != nil || !strings.HasSuffix(res.Credentials["expiration"], "Z") || time.Until(t) <= 0 {
		return fault.New(fault.Invalid, "credentials expire at %q, want a coming time as 2006-01-02T15:04:05Z", res.Credentials["expiration"])
	}
	return nil
}

// artifactURL asks where the bytes of an artifact are.
func (cl *cloud) artifactURL(ctx context.Context, arn, uri string) (string, error) {
	segments := strings.Split(strings.TrimPrefix(uri, "greengrass:"), "/")
	for i := range segments {
		segments[i] = url.PathEscape(segments[i])
	}
	header := map[string]string{"Content-type": "application/json"}
	query := ""
	if !cl.c.lite() {
		arn = url.QueryEscape(arn) // classic escapes the colons, lite does not (trap 34)
		query = "?s3EndpointType=GLOBAL"
		header = map[string]string{"x-amz-iot-endpoint-type": "GLOBAL"}
	}
	b, err := cl.do(ctx, http.MethodGet, cl.base+"/greengrass/v2/components/"+arn+"/artifacts/"+strings.Join(segments, "/")+query, nil, header, cl.limit(liteMaxURL-1))
	if err != nil {
		return "", err
	}
	var res struct {
		URL string `json:"preSignedUrl"`
	}
	if err := json.Unmarshal(b, &res); err != nil || res.URL == "" {
		return "", fault.New(fault.Invalid, "artifact URL answer %q", b[:min(len(b), 200)])
	}
	return res.URL, nil
}

// download fetches an artifact and checks its digest. Lite does one GET; classic
// asks for the size first and then reads ranges, with a URL for each (§5.3).
func (cl *cloud) download(ctx context.Context, r *recipe, a artifact) error {
	fetch := cl.fetchRanges
	if cl.c.lite() {
		fetch = cl.fetchWhole
	}
	sum, err := fetch(ctx, r.ARN, a.URI)
	if err != nil {
		return err
	}
	if got := base64.StdEncoding.EncodeToString(sum); a.Digest != "" && got != a.Digest {
		return fault.New(fault.Invalid, "artifact %s of %s-%s has digest %s, the recipe says %s", a.URI, r.Name, r.Version, got, a.Digest)
	}
	return nil
}

func (cl *cloud) fetchWhole(ctx context.Context, arn, uri string) ([]byte, error) {
	address, err := cl.artifactURL(ctx, arn, uri)
	if err != nil {
		return nil, err
	}
	var sum []byte
	err = cl.c.retry(ctx, func(ctx context.Context) error {
		h := sha256.New()
		_, err := cl.fetch(ctx, address, "", h)
		sum = h.Sum(nil)
		return err
	})
	return sum, err
}

// fetchRanges goes on after a broken connection with the bytes that are missing.
func (cl *cloud) fetchRanges(ctx context.Context, arn, uri string) ([]byte, error) {
	var size, n int64
	h := sha256.New()
	err := cl.c.retry(ctx, func(ctx context.Context) (err error) {
		if size == 0 {
			if size, err = cl.artifactSize(ctx, arn, uri); err != nil {
				return err
			}
		}
		for n < size {
			address, err := cl.artifactURL(ctx, arn, uri)
			if err != nil {
				return err
			}
			got, err := cl.fetch(ctx, address, fmt.Sprintf("bytes=%d-%d", n, size-1), h)
			n += got
			if err != nil {
				return err
			}
		}
		return nil
	})
	return h.Sum(nil), err
}

func (cl *cloud) artifactSize(ctx context.Context, arn, uri string) (int64, error) {
	address, err := cl.artifactURL(ctx, arn, uri)
	if err != nil {
		return 0, err
	}
	res, err := cl.get(ctx, address, "")
	if err != nil {
		return 0, err
	}
	_ = res.Body.Close()
	n, err := strconv.ParseInt(res.Header.Get("Content-Length"), 10, 64)
	if res.StatusCode != http.StatusOK || err != nil || n < 1 || n > maxArtifact {
		return 0, fault.New(fault.Invalid, "artifact %s: status %d with Content-Length %q (trap 26)", uri, res.StatusCode, res.Header.Get("Content-Length"))
	}
	return n, nil
}

func (cl *cloud) fetch(ctx context.Context, address, byteRange string, w io.Writer) (int64, error) {
	res, err := cl.get(ctx, address, byteRange)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.ContentLength < 0 {
		return 0, fault.New(fault.Invalid, "artifact answer has no Content-Length (trap 26)")
	}
	n, err := io.Copy(w, io.LimitReader(res.Body, maxArtifact))
	if err == nil && n == 0 && byteRange != "" {
		err = fault.New(fault.Invalid, "reading no byte counts as an error (trap 26)")
	}
	return n, err
}

func (cl *cloud) get(ctx context.Context, address, byteRange string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fault.New(fault.Invalid, "artifact URL: %v", err)
	}
	if cl.c.lite() {
		req.Header.Set("User-Agent", "")
		req.Header.Set("Accept", "*/*")
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	res, err := cl.artifacts.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK && (res.StatusCode != http.StatusPartialContent || byteRange == "") {
		_ = res.Body.Close()
		return nil, &httpError{status: res.StatusCode}
	}
	return res, nil
}
