package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 256 << 20

// client calls the API and reads its refusals.
type client struct {
	*api.Client
	out io.Writer // for what is printed while it arrives
	log io.Writer // for progress
}

func (a *app) connect(out, log io.Writer) (*client, error) {
	switch a.format {
	case "table", "json", "yaml", "env":
	default:
		return nil, failure(ExitUsage, "--output %q: want table, json, yaml or env", a.format)
	}
	a.server = a.address()
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 2 * time.Minute,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
	}
	if strings.HasPrefix(a.server, "https://") {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if pem, err := os.ReadFile(filepath.Join(a.dataDir, "ca.pem")); err == nil {
			pool.AppendCertsFromPEM(pem)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	token, err := a.bearer()
	if err != nil {
		return nil, err
	}
	c, err := api.NewClient(a.server, api.WithHTTPClient(&http.Client{Transport: transport}), api.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept", api.MediaType)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		if a.key != "" && r.Method == http.MethodPost {
			r.Header.Set("Idempotency-Key", a.key)
		}
		if a.ifMatch != "" && r.Method != http.MethodGet && r.Method != http.MethodPost {
			r.Header.Set("If-Match", entityTag(a.ifMatch))
		}
		return nil
	}))
	if err != nil {
		return nil, failure(ExitUsage, "--server %q: %w", a.server, err)
	}
	return &client{c, out, log}, nil
}

// entityTag lets a version stand without its quotes.
func entityTag(text string) string {
	if text == "*" || strings.HasPrefix(text, `"`) {
		return text
	}
	return `"` + text + `"`
}

// address finds the server: flag, environment, what a server wrote into the data
// directory, the default port.
func (a *app) address() string {
	if a.server != "" {
		return a.server
	}
	if b, err := os.ReadFile(filepath.Join(a.dataDir, "api.url")); err == nil {
		return strings.TrimSpace(string(b))
	}
	return "http://127.0.0.1:8080"
}

// bearer finds the token: flag, environment, the server's data directory. Having
// none is no error here: the server says so where it needs one.
func (a *app) bearer() (string, error) {
	if a.token != "" {
		return a.token, nil
	}
	if t := os.Getenv("GGFLEET_TOKEN"); t != "" {
		return t, nil
	}
	b, err := os.ReadFile(filepath.Join(a.dataDir, "admin.token"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", failure(ExitDenied, "reading the token: %w; give one with --token or GGFLEET_TOKEN", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// read turns a response into its body, or into the error that it stands for.
func read(res *http.Response, err error) (http.Header, []byte, error) {
	if err != nil {
		return nil, nil, failure(ExitUnreachable, "the server cannot be reached: %w; is \"ggfleet serve\" running, and is --server right?", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, nil, failure(ExitUnreachable, "reading the answer: %w", err)
	}
	if res.StatusCode < 300 {
		return res.Header, body, nil
	}
	var refusal api.Error
	_ = json.Unmarshal(body, &refusal)
	if refusal.Message == "" {
		refusal.Message = http.StatusText(res.StatusCode)
	}
	code := ExitFailed
	switch res.StatusCode {
	case http.StatusNotFound:
		code = ExitNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		code = ExitDenied
	}
	if res.StatusCode >= 500 {
		return nil, nil, failure(code, "%s (status %d, request %s)", refusal.Message, res.StatusCode, res.Header.Get("x-request-id"))
	}
	return nil, nil, failure(code, "%s", refusal.Message)
}

// get reads a response's JSON body into T.
func get[T any](res *http.Response, err error) (T, error) {
	var v T
	_, body, err := read(res, err)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, failure(ExitFailed, "the answer is not what the API promises: %w", err)
	}
	return v, nil
}

// done reads a response without a body of interest.
func done(res *http.Response, err error) error {
	_, _, err = read(res, err)
	return err
}

// body encodes a request.
func body(v any) (io.Reader, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding the request: %w", err)
	}
	return bytes.NewReader(b), nil
}
