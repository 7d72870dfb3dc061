package assetlibrary

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// mediaType is what the services of the framework speak.
const mediaType = "application/vnd.aws-cdf-v1.0+json"

// Bounds of one request.
const (
	requestTimeout = 30 * time.Second // a front door cuts at 29
	maxAnswer      = 16 << 20         // bytes
	maxRedirects   = 3
)

// Config is what a Client needs.
type Config struct {
	URL     string   // base, http or https, may have a path
	Headers []string // of each request, NAME=VALUE; one named Accept takes the place of the usual one
	Region  string   // things of other regions are left out

	Transport http.RoundTripper // nil: a new one, with the proxy of the environment
}

// Client looks things up in one Asset Library. It may be used concurrently.
type Client struct {
	base   string // without slash at the end
	region string
	header http.Header
	http   *http.Client
}

// New returns a client, or an error that names what is wrong with the
// configuration. It sends nothing.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("URL of the Asset Library must be http://HOST or https://HOST, with or without a path")
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("URL of the Asset Library %s must end with the path", u.Redacted())
	}
	if c.Region == "" {
		return nil, errors.New("region of the things is missing")
	}
	header, err := parseHeaders(c.Headers)
	if err != nil {
		return nil, err
	}
	transport := c.Transport
	if transport == nil {
		transport = newTransport()
	}
	return &Client{
		base: strings.TrimRight(u.String(), "/"), region: c.Region, header: header,
		http: &http.Client{Transport: transport, Timeout: requestTimeout, CheckRedirect: sameServer},
	}, nil
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: parallel, IdleConnTimeout: time.Minute,
		MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
	}
}

// sameServer lets a redirect stay where it began: the headers may hold a key.
func sameServer(r *http.Request, via []*http.Request) error {
	if r.URL.Host != via[0].URL.Host || r.URL.Scheme != via[0].URL.Scheme {
		return fault.New(fault.Unsupported, "the Asset Library redirects to another server, %s; set its URL to where it answers", r.URL.Host)
	}
	if len(via) > maxRedirects {
		return fault.New(fault.Unsupported, "the Asset Library redirects more than %d times", maxRedirects)
	}
	return nil
}

func parseHeaders(list []string) (http.Header, error) {
	h := http.Header{"Accept": {mediaType}, "Content-Type": {mediaType}}
	for i, entry := range list {
		name, value, ok := strings.Cut(entry, "=")
		if !ok || !token(name) {
			return nil, fmt.Errorf("header %d of the Asset Library must be NAME=VALUE", i+1) // the value may be a key: not shown
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, fmt.Errorf("header %s of the Asset Library: its value has a control character", name)
		}
		switch http.CanonicalHeaderKey(name) {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection":
			return nil, fmt.Errorf("header %s of the Asset Library cannot be set", name)
		}
		h.Set(name, strings.TrimSpace(value))
	}
	return h, nil
}

// token reports whether s can be the name of a header.
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// get reads path, which begins with a slash and is encoded, into answer.
func (c *Client) get(ctx context.Context, path string, answer any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return fault.New(fault.Invalid, "the Asset Library cannot be asked for %.100q", path)
	}
	r.Header = c.header.Clone()
	res, err := c.http.Do(r)
	if err != nil {
		return unreachable(ctx, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return unreachable(ctx, err)
	}
	if len(body) > maxAnswer {
		return fault.New(fault.TooLarge, "the Asset Library answers with more than %d MiB", maxAnswer>>20)
	}
	if res.StatusCode != http.StatusOK {
		return refused(res.StatusCode, body)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fault.New(fault.Unavailable, "the Asset Library's answer is not understood; is its URL right? %v", err)
	}
	return nil
}

func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("ask the Asset Library: %w", context.Cause(ctx))
	}
	if fault.KindOf(err) != "" { // of sameServer
		return err
	}
	return fmt.Errorf("%w (%w)", fault.New(fault.Unavailable, "the Asset Library does not answer"), err)
}

// refused makes the error of a status.
func refused(status int, body []byte) error {
	kind := fault.Unsupported
	switch {
	case status == http.StatusBadRequest || status == http.StatusRequestURITooLong:
		kind = fault.Invalid
	case status == http.StatusNotFound:
		kind = fault.NotFound
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		kind = fault.Denied
	case status == http.StatusTooManyRequests:
		kind = fault.Exhausted
	case status >= 500 || status == http.StatusRequestTimeout:
		kind = fault.Unavailable
	}
	var said struct{ Error, Message any }
	_ = json.Unmarshal(body, &said) // without a reason the status has to do
	for _, v := range []any{said.Message, said.Error} {
		if text, ok := v.(string); ok && text != "" {
			return fault.New(kind, "the Asset Library answers with status %d: %s", status, printable(text))
		}
	}
	return fault.New(kind, "the Asset Library answers with status %d", status)
}

// printable returns at most 200 characters of s without control characters.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	if r := []rune(s); len(r) > 200 {
		return string(r[:200]) + "…"
	}
	return s
}
