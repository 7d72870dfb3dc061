package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	postTimeout = 10 * time.Second
	// maxAnswer is how much of an answer is read, so that the connection can be
	// used again.
	maxAnswer = 64 << 10
	// maxRetryAfter bounds what a receiver can make us wait.
	maxRetryAfter = 10 * time.Minute
	maxURL        = 2048
)

var _ event.Sender = (*Sender)(nil)

// Config is what a Sender works with.
type Config struct {
	// AllowHTTP lets webhooks be plain http to any address; else only to this
	// machine.
	AllowHTTP bool
	// DenyPrivate refuses loopback and private addresses. Those of the link, where
	// clouds hand out credentials, are refused in any case.
	DenyPrivate bool
	// Transport sends the requests; nil: one that keeps to the allowed addresses.
	Transport http.RoundTripper
	Now       func() time.Time // nil: time.Now
}

// Sender sends events to URLs. Make it with New. Safe for concurrent use.
type Sender struct {
	cfg    Config
	client *http.Client
}

// New returns a Sender.
func New(cfg Config) *Sender {
	if cfg.Transport == nil {
		cfg.Transport = guardedTransport(cfg.DenyPrivate)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Sender{cfg: cfg, client: &http.Client{
		Transport:     cfg.Transport, // each request has a timeout of its own
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// CloudEvent is an event in the structured JSON form of CloudEvents 1.0: the body
// of a webhook's request.
type CloudEvent struct {
	SpecVersion     string         `json:"specversion"`
	ID              string         `json:"id"`
	Source          string         `json:"source"`
	Type            string         `json:"type"`              // source, a dot and the slug of the detail-type
	Subject         string         `json:"subject,omitempty"` // the core or client device
	Time            time.Time      `json:"time"`
	DataContentType string         `json:"datacontenttype"`
	Sequence        string         `json:"sequence"` // extension "sequence": digits, each the place in the log
	Data            event.Envelope `json:"data"`
}

// NewCloudEvent returns e as webhooks get it.
func NewCloudEvent(e event.Event) CloudEvent {
	return CloudEvent{
		SpecVersion: "1.0", ID: e.ID, Source: event.Source, Type: event.Source + "." + e.Type.Slug(), Subject: e.Core, Time: e.At,
		DataContentType: "application/json", Sequence: strconv.FormatInt(e.Sequence, 10), Data: e.Envelope(),
	}
}

// Send implements event.Sender.
func (s *Sender) Send(ctx context.Context, r event.Request) event.Outcome {
	body, err := json.Marshal(NewCloudEvent(r.Event))
	if err != nil {
		return event.Outcome{Verdict: event.Refused, Reason: "the event cannot be encoded"}
	}
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return event.Outcome{Verdict: event.Again, Reason: "the URL is not usable"}
	}
	at := strconv.FormatInt(s.cfg.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	req.Header.Set("User-Agent", "ggfleet/"+buildinfo.Version)
	req.Header.Set("Webhook-Id", r.Event.ID)
	req.Header.Set("Webhook-Timestamp", at)
	req.Header.Set("Webhook-Signature", sign(r.Key, r.Event.ID, at, body))
	res, err := s.client.Do(req)
	if err != nil {
		return failed(err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer) // the status has said it all
	return s.judge(res)
}

// failed is what became of an attempt without an answer. The URL, which may hold
// a token, is not part of the reason.
func failed(err error) event.Outcome {
	if e, ok := errors.AsType[*url.Error](err); ok {
		if e.Timeout() {
			return event.Outcome{Verdict: event.Again, Reason: fmt.Sprintf("no answer within %s", postTimeout)}
		}
		err = e.Err
	}
	return event.Outcome{Verdict: event.Again, Reason: fault.Clip(err.Error(), event.MaxReason)}
}

// judge reads the answer. Redirects are not followed: they are answers that are
// not 2xx.
func (s *Sender) judge(res *http.Response) event.Outcome {
	o := event.Outcome{Verdict: event.Again, Reason: fmt.Sprintf("answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))}
	switch code := res.StatusCode; {
	case code >= 200 && code < 300:
		o.Verdict = event.Taken
	case code == http.StatusGone:
		o.Verdict = event.Closed
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity:
		o.Verdict = event.Refused
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		o.Wait = retryAfter(res.Header.Get("Retry-After"), s.cfg.Now())
	}
	return o
}

// sign returns the value of webhook-signature for a request (Standard Webhooks).
func sign(key []byte, id, at string, body []byte) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(id + "." + at + "."))
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// retryAfter reads a Retry-After header, seconds or a date; 0 if it is neither.
func retryAfter(v string, now time.Time) time.Duration {
	v = strings.TrimSpace(v)
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		if n > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(max(0, n)) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), maxRetryAfter)
}

// CheckURL implements event.Sender. It says what can be said of an address before
// it is resolved; the rest is checked at each connection.
func (s *Sender) CheckURL(raw string) error {
	const field = "url"
	if len(raw) > maxURL || !utf8.ValidString(raw) {
		return fault.Field(field, "is longer than %d bytes or not UTF-8", maxURL)
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil: // the error would repeat the URL
		return fault.Field(field, "is not a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return fault.Field(field, "must begin with https://")
	case u.Hostname() == "" || u.Opaque != "":
		return fault.Field(field, "names no host")
	case u.User != nil:
		return fault.Field(field, "must not hold a user or a password: verify the signature instead")
	case u.Fragment != "":
		return fault.Field(field, "must not have a fragment")
	case u.Scheme == "http" && !s.cfg.AllowHTTP && !loopbackHost(u.Hostname()):
		return fault.Field(field, "must begin with https://: plain http is for this machine only, unless the server allows it")
	}
	if err := checkHost(u.Hostname(), s.cfg.DenyPrivate); err != nil {
		return fault.Field(field, "%s", err)
	}
	return nil
}
