package event

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

	"github.com/ggfleet/ggfleet/shared/buildinfo"
)

const (
	postTimeout = 10 * time.Second
	// maxAnswer is how much of an answer is read, so that the connection can be
	// used again.
	maxAnswer = 64 << 10
	// maxRetryAfter bounds what a receiver can make us wait.
	maxRetryAfter = 10 * time.Minute
)

// CloudEvent is an event in the structured JSON form of CloudEvents 1.0: the body
// of a webhook's request.
type CloudEvent struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`              // source, a dot and the slug of the detail-type
	Subject         string    `json:"subject,omitempty"` // the core or client device
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Sequence        string    `json:"sequence"` // extension "sequence": digits, each the place in the log
	Data            Envelope  `json:"data"`
}

// CloudEvent returns e as webhooks get it.
func (e Event) CloudEvent() CloudEvent {
	return CloudEvent{
		SpecVersion: "1.0", ID: e.ID, Source: Source, Type: Source + "." + e.Type.Slug(), Subject: e.Core, Time: e.At,
		DataContentType: "application/json", Sequence: strconv.FormatInt(e.Sequence, 10), Data: e.Envelope(),
	}
}

// verdict is what became of one attempt.
type verdict int

const (
	taken   verdict = iota // the subscriber has it
	again                  // try again
	refused                // this event will never be taken
	closed                 // the subscriber wants no events any more
)

// outcome is a verdict with its reason.
type outcome struct {
	verdict verdict
	reason  string
	wait    time.Duration // at least, before the next attempt
}

// poster sends events to one webhook.
type poster struct {
	client *http.Client
	url    string
	key    []byte
	now    func() time.Time
}

// send makes one attempt.
func (p *poster) send(ctx context.Context, e *Event) outcome {
	body, err := json.Marshal(e.CloudEvent())
	if err != nil {
		return outcome{verdict: refused, reason: "the event cannot be encoded"}
	}
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return outcome{verdict: again, reason: "the URL is not usable"}
	}
	at := strconv.FormatInt(p.now().Unix(), 10)
	req.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	req.Header.Set("User-Agent", "ggfleet/"+buildinfo.Version)
	req.Header.Set("Webhook-Id", e.ID)
	req.Header.Set("Webhook-Timestamp", at)
	req.Header.Set("Webhook-Signature", sign(p.key, e.ID, at, body))
	res, err := p.client.Do(req)
	if err != nil {
		return failed(err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer) // the status has said it all
	return p.judge(res)
}

// failed is what became of an attempt without an answer. The URL, which may hold
// a token, is not part of the reason.
func failed(err error) outcome {
	if e, ok := errors.AsType[*url.Error](err); ok {
		if e.Timeout() {
			return outcome{verdict: again, reason: fmt.Sprintf("no answer within %s", postTimeout)}
		}
		err = e.Err
	}
	return outcome{verdict: again, reason: clip(err.Error())}
}

// judge reads the answer. Redirects are not followed: they are answers that are
// not 2xx.
func (p *poster) judge(res *http.Response) outcome {
	o := outcome{verdict: again, reason: fmt.Sprintf("answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))}
	switch code := res.StatusCode; {
	case code >= 200 && code < 300:
		o.verdict = taken
	case code == http.StatusGone:
		o.verdict = closed
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnsupportedMediaType, code == http.StatusUnprocessableEntity:
		o.verdict = refused
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		o.wait = retryAfter(res.Header.Get("Retry-After"), p.now())
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

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), 200)], "") }
