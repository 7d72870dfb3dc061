package generator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Bounds of one call.
const (
	callTimeout = 30 * time.Second
	maxAnswer   = 1 << 20 // bytes
)

// Config is what a Webhook needs.
type Config struct {
	Alias string // for errors
	// URL is https; http is allowed to loopback and private addresses. User and
	// password in it are sent as basic authentication.
	URL string
}

// Webhook is a generator behind a URL. It may be used concurrently.
type Webhook struct {
	alias, url string
	http       *http.Client
}

// New returns the generator behind c.URL, or an error that says what is wrong
// with the URL. It sends nothing.
func New(c Config) (*Webhook, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" {
		return nil, fmt.Errorf("generator %s: its URL must be https://HOST/PATH, or http to a loopback or private address", c.Alias)
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
	}
	if u.Scheme == "http" {
		transport.Proxy, dialer.Control = nil, privateOnly
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !private(ip) {
			return nil, fmt.Errorf("generator %s: http to %s is refused, parameters of cores would be readable on the way; use https", c.Alias, ip)
		}
	}
	return &Webhook{alias: c.Alias, url: c.URL, http: &http.Client{
		Transport: transport, Timeout: callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// privateOnly refuses connections in plain text to public addresses. It sees
// the address that a name stands for.
func privateOnly(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !private(ap.Addr()) {
		return fault.New(fault.Denied, "http to the public address %s is refused, use https", address)
	}
	return nil
}

func private(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
}

// Generate implements config.Generator. That the program cannot be reached, or
// answers 408, 429 or 5xx, may pass; every other error is final.
func (w *Webhook) Generate(ctx context.Context, in config.Input) ([]byte, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fault.Field("cdfProvisioningParameters", "is not JSON")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return nil, w.fail(fault.Unsupported, "its URL cannot be used")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	res, err := w.http.Do(r)
	if err != nil {
		return nil, w.unreachable(ctx, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, w.unreachable(ctx, err)
	}
	if len(answer) > maxAnswer {
		return nil, w.fail(fault.TooLarge, "it answers with more than %d MiB", maxAnswer>>20)
	}
	if res.StatusCode != http.StatusOK {
		return nil, w.refused(res.StatusCode, answer)
	}
	return w.document(answer)
}

// document takes the document out of an answer and makes sure that a device can
// read it.
func (w *Webhook) document(answer []byte) ([]byte, error) {
	if !utf8.Valid(answer) {
		return nil, w.fail(fault.Unsupported, "its answer is not UTF-8")
	}
	var out struct {
		Config *string `json:"config"`
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, w.fail(fault.Unsupported, `its answer is not {"config": "<text>"}: %v`, err)
	}
	if out.Config == nil || strings.TrimSpace(*out.Config) == "" {
		return nil, w.fail(fault.Unsupported, `its answer has no config%s`, reason(answer))
	}
	doc := []byte(*out.Config)
	if _, err := config.ReadSystem(doc); err != nil {
		return nil, w.fail(fault.Unsupported, "its document cannot be read by a device: %s", fault.Message(err))
	}
	return doc, nil
}

func (w *Webhook) refused(status int, answer []byte) error {
	kind := fault.Unsupported
	switch {
	case status == http.StatusTooManyRequests:
		kind = fault.Exhausted
	case status >= 500 || status == http.StatusRequestTimeout:
		kind = fault.Unavailable
	case status >= 400:
		kind = fault.Invalid
	}
	return w.fail(kind, "it answers with status %d%s", status, reason(answer))
}

func (w *Webhook) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("call generator %s: %w", w.alias, context.Cause(ctx))
	}
	if k := fault.KindOf(err); k != "" { // of privateOnly
		return w.fail(k, "%s", fault.Message(err))
	}
	if e, ok := errors.AsType[*url.Error](err); ok { // it repeats the URL, which may hold a key
		err = e.Err
	}
	return fmt.Errorf("%w (%w)", w.fail(fault.Unavailable, "it does not answer"), err)
}

func (w *Webhook) fail(kind fault.Kind, format string, args ...any) error {
	return fault.New(kind, "generator %s: "+format, append([]any{w.alias}, args...)...)
}

// reason returns what an answer gives as the reason, short and printable, with
// ": " before it.
func reason(answer []byte) string {
	var said map[string]any
	_ = json.Unmarshal(answer, &said) // without a reason the status has to do
	for _, name := range []string{"message", "error", "errorMessage"} {
		text, _ := said[name].(string)
		text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, text)), " ")
		if r := []rune(text); len(r) > 200 {
			text = string(r[:200]) + "…"
		}
		if text != "" {
			return ": " + text
		}
	}
	return ""
}
