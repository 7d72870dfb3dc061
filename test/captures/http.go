package captures

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// maxBody bounds what a replay reads of one answer.
const maxBody = 64 << 20

func newClient(t Target) *http.Client {
	cert := t.Certificate
	if len(cert.Certificate) > 1 {
		cert.Certificate = cert.Certificate[:1]
	}
	return &http.Client{
		Timeout: max(t.AnswerTimeout, time.Second),
		Transport: &http.Transport{ // lite opens a connection for every request
			TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.RootCAs, Certificates: []tls.Certificate{cert}},
			DisableKeepAlives: true, ForceAttemptHTTP2: true, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// request plays one HTTP request and checks the answer.
func (r *replayer) request(ctx context.Context, i int, e Entry) error {
	captured := r.responseAfter(i, e.Service)
	path, body := r.rewrite(e.Request.Path), []byte(r.rewrite(string(e.Request.Body)))
	host := r.t.DataPlane
	switch e.Service {
	case "dataplane":
	case "credentials":
		host = r.t.Credentials
	case "artifacts-http":
		return r.artifact(ctx)
	default:
		return fault.New(fault.Invalid, "unknown service %q", e.Service)
	}
	if strings.Contains(path, "/artifacts/") {
		_, name, _ := strings.Cut(path, "/artifacts/")
		path = strings.TrimSuffix(path, name) + r.artifactName(name)
	}
	header, got, err := r.do(ctx, e.Request, "https://"+host+path, body)
	if err != nil {
		return err
	}
	if header.status != http.StatusOK {
		r.violate("%s %s: status %d, want 200: %s", e.Request.Method, path, header.status, short(got))
		return nil
	}
	switch {
	case e.Service == "credentials":
		r.checkCredentials(got)
	case strings.HasSuffix(path, "/resolveComponentCandidates"):
		r.checkResolve(body, got, captured)
	case strings.HasSuffix(path, "/thingGroups"):
		r.checkThingGroups(got)
	case strings.Contains(path, "/artifacts/"):
		r.presigned = r.checkArtifactURL(got)
	}
	return nil
}

type answerHead struct {
	status int
	header http.Header
	length int64
}

func (r *replayer) do(ctx context.Context, captured *Request, address string, body []byte) (answerHead, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, captured.Method, address, strings.NewReader(string(body)))
	if err != nil {
		return answerHead{}, nil, fmt.Errorf("request: %w", err)
	}
	if len(body) == 0 {
		req.Body, req.ContentLength = nil, 0
	}
	req.Header.Set("User-Agent", "") // lite sends none
	for _, h := range captured.Header {
		if h[0] != "Host" && h[0] != "Content-Length" {
			req.Header.Set(h[0], r.rewrite(h[1]))
		}
	}
	r.res.Sent++
	r.res.Awaited++
	return r.read(req)
}

func (r *replayer) read(req *http.Request) (answerHead, []byte, error) {
	res, err := r.client.Do(req)
	if err != nil {
		return answerHead{}, nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return answerHead{}, nil, fmt.Errorf("reading the answer to %s %s: %w", req.Method, req.URL.Path, err)
	}
	r.res.Answered++
	return answerHead{res.StatusCode, res.Header, res.ContentLength}, b, nil
}

// artifact fetches the bytes as lite does, then once more as classic would, with
// a range: the same URL must serve both (trap 25).
func (r *replayer) artifact(ctx context.Context) error {
	if r.presigned == "" {
		return fault.New(fault.Invalid, "no artifact URL was answered before")
	}
	address := r.presigned
	r.presigned = ""
	get := &Request{Method: http.MethodGet, Header: [][2]string{{"Accept", "*/*"}}}
	head, body, err := r.do(ctx, get, address, nil)
	if err != nil {
		return err
	}
	switch {
	case head.status != http.StatusOK:
		r.violate("artifact bytes: status %d, want 200", head.status)
		return nil
	case head.header.Get("Content-Length") == "" && head.length < 0:
		r.violate("artifact bytes without Content-Length (trap 26)")
	case head.header.Get("Content-Encoding") != "":
		r.violate("artifact bytes are encoded as %s; the digest is over the stored bytes", head.header.Get("Content-Encoding"))
	}
	r.checkDigest(body)
	if len(body) < 2 {
		return nil
	}
	get.Header = append(get.Header, [2]string{"Range", fmt.Sprintf("bytes=1-%d", len(body)-1)})
	head, part, err := r.do(ctx, get, address, nil)
	if err != nil {
		return err
	}
	if head.status != http.StatusPartialContent || string(part) != string(body[1:]) {
		r.violate("artifact bytes with Range: status %d and %d bytes, want 206 and %d", head.status, len(part), len(body)-1)
	}
	return nil
}

// responseAfter is what the capture's cloud answered to the request at i.
func (r *replayer) responseAfter(i int, service string) []byte {
	for _, e := range r.s.Entries[i+1:] {
		if e.Kind == KindResponse && e.Service == service {
			return e.Response.Body
		}
	}
	return nil
}

// artifact of a recipe: its name in the capture, and at the target.
type artifact struct{ captured, name, digest string }

func (r *replayer) artifactName(captured string) string {
	for _, a := range r.artifacts {
		if a.captured == captured {
			return a.name
		}
	}
	return captured
}

func (r *replayer) checkDigest(body []byte) {
	sum := sha256.Sum256(body)
	got := base64.StdEncoding.EncodeToString(sum[:])
	for _, a := range r.artifacts {
		if a.digest == got {
			return
		}
	}
	r.violate("artifact bytes have digest %s, which no recipe answered before names", got)
}

// learnComponent maps the component ARN and the artifact names.
func (r *replayer) learnComponent(got resolved, gotRecipe map[string]any, captured []byte) {
	r.presigned = ""
	was, ok := resolvedIn(captured)
	if !ok {
		return
	}
	r.learn(was.ARN, got.ARN)
	raw, err := base64.StdEncoding.DecodeString(was.Recipe)
	var recipe map[string]any
	if err != nil || json.Unmarshal(raw, &recipe) != nil {
		return
	}
	before, now := artifactsOf(recipe), artifactsOf(gotRecipe)
	for i := range now {
		now[i].captured = now[i].name
		if i < len(before) {
			now[i].captured = before[i].name
		}
	}
	r.artifacts = append(now, r.artifacts...)
}

func artifactsOf(recipe map[string]any) []artifact {
	var list []artifact
	manifests, _ := recipe["Manifests"].([]any)
	for _, m := range manifests {
		manifest, _ := m.(map[string]any)
		artifacts, _ := manifest["Artifacts"].([]any)
		for _, a := range artifacts {
			member, _ := a.(map[string]any)
			uri, _ := member["Uri"].(string)
			digest, _ := member["Digest"].(string)
			list = append(list, artifact{name: strings.TrimPrefix(uri, "greengrass:"), digest: digest})
		}
	}
	return list
}

func short(b []byte) string { return string(b[:min(len(b), 300)]) }
