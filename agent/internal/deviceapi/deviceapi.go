// Package deviceapi is the agent's client of the device HTTPS listener: the
// paths and messages of shared/protocol. It turns answers into values and
// statuses into fault kinds, bounds what it reads, and knows nothing of what
// the agent does with it.
package deviceapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	callTimeout = 30 * time.Second
	stall       = time.Minute // a download that brings nothing for so long is ended
	maxAnswer   = 1 << 20     // bytes of every answer but an archive
	maxArchive  = 2 << 30
)

// Config says whom to call and as whom.
type Config struct {
	URL string      // https://host:port
	TLS *tls.Config // how to trust the server, and the agent's certificate unless enrolling

	// OnDate is told the server's time with each answer; nil: nobody is.
	OnDate func(time.Time)
}

// Client calls one control plane. It may be used concurrently.
type Client struct {
	url  string
	http *http.Client
}

// New returns a client. It connects when first called.
func New(cfg Config) (*Client, error) {
	if !strings.HasPrefix(cfg.URL, "https://") || cfg.TLS == nil {
		return nil, fault.Field("url", "%q is not an https address", cfg.URL)
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: cfg.TLS,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: callTimeout,
		IdleConnTimeout: 10 * time.Second, MaxIdleConns: 2, DisableCompression: true,
	}
	return &Client{
		url: strings.TrimSuffix(cfg.URL, "/"),
		http: &http.Client{
			Transport:     &dated{Transport: transport, onDate: cfg.OnDate},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Core returns what is to be made true on the core device that q tells of.
func (c *Client) Core(ctx context.Context, q protocol.AssignmentQuery) (protocol.CoreAssignment, error) {
	var out protocol.CoreAssignment
	return out, c.callJSON(ctx, http.MethodGet, q.Path(), nil, &out)
}

// CoreCertificate has the core's CSR signed.
func (c *Client) CoreCertificate(ctx context.Context, csr string) (string, error) {
	var out protocol.CSRResponse
	err := c.callJSON(ctx, http.MethodPost, protocol.PathCoreCertificate, protocol.CSRRequest{CSR: csr}, &out)
	return out.CertificatePEM, err
}

// CoreCerts returns certs.zip.
func (c *Client) CoreCerts(ctx context.Context) ([]byte, error) {
	return c.call(ctx, http.MethodGet, protocol.PathCoreCerts, nil)
}

// CoreConfig returns the installer configuration.
func (c *Client) CoreConfig(ctx context.Context) ([]byte, error) {
	return c.call(ctx, http.MethodGet, protocol.PathCoreConfig, nil)
}

// Patches returns the patches that wait for this device, in order.
func (c *Client) Patches(ctx context.Context) (protocol.PatchList, error) {
	var out protocol.PatchList
	return out, c.callJSON(ctx, http.MethodGet, protocol.PathPatches, nil, &out)
}

// TakePatch takes a patch for one run.
func (c *Client) TakePatch(ctx context.Context, id string, t protocol.PatchTake) (protocol.PatchOrder, error) {
	var out protocol.PatchOrder
	return out, c.callJSON(ctx, http.MethodPost, protocol.PatchPath(url.PathEscape(id), protocol.PatchTakePath), t, &out)
}

// PatchPlaybook returns the playbook of a patch that was taken.
func (c *Client) PatchPlaybook(ctx context.Context, id string) ([]byte, error) {
	return c.call(ctx, http.MethodGet, protocol.PatchPath(url.PathEscape(id), protocol.PatchPlaybookPath), nil)
}

// ReportPatch tells how a run ended.
func (c *Client) ReportPatch(ctx context.Context, id string, r protocol.PatchResult) error {
	var out struct{}
	return c.callJSON(ctx, http.MethodPost, protocol.PatchPath(url.PathEscape(id), protocol.PatchResultPath), r, &out)
}

func (c *Client) callJSON(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	b, err := c.call(ctx, method, path, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s %s: the answer is not what is expected: %w", method, path, err)
	}
	return nil
}

func (c *Client) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errors.New("the control plane did not answer in time"))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("calling the control plane: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	case len(b) > maxAnswer:
		return nil, fmt.Errorf("%s %s: the answer has more than %d bytes", method, path, maxAnswer)
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusAccepted:
		return nil, statusError(method, path, resp.StatusCode, b)
	}
	return b, nil
}

// statusError gives a refusal the kind that says what the agent can do.
func statusError(method, path string, status int, body []byte) error {
	var e struct{ Error, Message string }
	_ = json.Unmarshal(body, &e)
	text := e.Message
	if text == "" {
		text = e.Error
	}
	if text == "" {
		text = http.StatusText(status)
	}
	kinds := map[int]fault.Kind{
		http.StatusBadRequest: fault.Invalid, http.StatusUnauthorized: fault.Unauthenticated, http.StatusForbidden: fault.Denied,
		http.StatusNotFound: fault.NotFound, http.StatusConflict: fault.Conflict, http.StatusGone: fault.NotFound,
		http.StatusRequestEntityTooLarge: fault.TooLarge, http.StatusTooManyRequests: fault.Exhausted,
	}
	kind, ok := kinds[status]
	if !ok {
		kind = fault.Unavailable
	}
	return fmt.Errorf("%s %s: %d: %w", method, path, status, fault.New(kind, "%s", fault.Clip(text, 500)))
}

// Download appends the rest of the archive d to f, which holds the part that
// was fetched before, and syncs it. A server that does not go on where f ends
// makes it start over. What is in f afterwards must still be verified.
func (c *Client) Download(ctx context.Context, d protocol.Distribution, f *os.File) error {
	if err := c.fetch(ctx, protocol.PathDistributions+d.Digest, d.Size, maxArchive, f); err != nil {
		return fmt.Errorf("downloading %s %s: %w", d.Name, d.Version, err)
	}
	return nil
}

// Release is Download for a release of the agent.
func (c *Client) Release(ctx context.Context, r protocol.AgentRelease, f *os.File) error {
	if err := c.fetch(ctx, protocol.PathReleases+r.Digest, r.Size, protocol.MaxReleaseFile, f); err != nil {
		return fmt.Errorf("downloading release %s: %w", r.Version, err)
	}
	return nil
}

func (c *Client) fetch(ctx context.Context, path string, size, limit int64, f *os.File) error {
	if size <= 0 || size > limit {
		return fault.Field("size", "%d is not the size of a download; want 1 to %d", size, limit)
	}
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if at > size {
		if at, err = 0, restart(f); err != nil {
			return err
		}
	}
	if at == size {
		return f.Sync()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := c.get(ctx, path, at)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if at > 0 && !continues(resp, at) {
		if at, err = 0, restart(f); err != nil {
			return err
		}
	}
	watch := time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing came for %s", stall)) })
	defer watch.Stop()
	n, err := io.Copy(f, io.LimitReader(&progress{ctx, resp.Body, watch}, size-at))
	if err == nil && at+n < size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return f.Sync()
}

func (c *Client) get(ctx context.Context, path string, from int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		return nil, err
	}
	if from > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("calling the control plane: %w", err)
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent && from > 0 {
		return resp, nil
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return nil, errors.Join(statusError(http.MethodGet, path, resp.StatusCode, b), resp.Body.Close())
}

// continues reports whether the answer goes on at the byte asked for.
func continues(resp *http.Response, at int64) bool {
	return resp.StatusCode == http.StatusPartialContent &&
		strings.HasPrefix(resp.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(at, 10)+"-")
}

func restart(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// progress keeps the watch of a download from running out.
type progress struct {
	ctx   context.Context //nolint:containedctx // whose loop is told
	r     io.Reader
	watch *time.Timer
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.watch.Reset(stall)
		run.Progress(p.ctx)
	}
	return n, err
}
