package fleetapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ggfleet/ggfleet/controlplane/internal/once"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

const (
	headerIdempotencyKey = "Idempotency-Key"
	headerReplayed       = "Idempotency-Replayed"
	keyBody              = "ggfleet.body"   // digest of the body that readBody read
	keyIdempotency       = "ggfleet.once"   // what services are given as the key
	keepTimeout          = 10 * time.Second // to keep an answer after the caller went away
)

// keptHeaders returns those of an answer that say something about its content.
func keptHeaders() [6]string {
	return [...]string{"Content-Type", "Location", "X-Taskid", "X-Name", "X-Version", "Etag"}
}

// once answers a POST that was answered before with the same answer.
func (s *server) once(c *gin.Context) {
	key := c.GetHeader(headerIdempotencyKey)
	if c.Request.Method != http.MethodPost || key == "" {
		return
	}
	r := once.Request{Principal: c.GetString(keyActor), Key: key, Method: c.Request.Method, Path: c.Request.URL.RequestURI()}
	r.Body, _ = c.Value(keyBody).([sha256.Size]byte)
	c.Set(keyIdempotency, scoped(r))
	ctx := c.Request.Context()
	before, ticket, err := s.Once.Begin(ctx, r)
	switch {
	case err != nil:
		if fault.KindOf(err) == fault.Conflict {
			c.Header("Retry-After", "1")
		}
		s.fail(c, fmt.Errorf("looking for an earlier answer: %w", err))
		return
	case before != nil:
		for name, value := range before.Header {
			if name != "Content-Type" || len(before.Body) > 0 {
				c.Header(name, value)
			}
		}
		c.Header(headerReplayed, "true")
		c.Abort()
		c.Status(before.Status)
		_, _ = c.Writer.Write(before.Body)
		return
	}
	work, cancel := context.WithTimeout(ctx, once.MaxWork)
	defer cancel()
	c.Request = c.Request.WithContext(work)
	held := &heldBack{ResponseWriter: c.Writer, status: http.StatusOK}
	c.Writer = held
	defer func() {
		// The answer counts whether or not the caller still waits for it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
		defer cancel()
		var err error
		if p := recover(); p != nil {
			c.Writer = held.ResponseWriter
			_ = s.Once.Forget(ctx, ticket)
			panic(p)
		}
		if held.status < http.StatusOK || held.status >= http.StatusMultipleChoices {
			err = s.Once.Forget(ctx, ticket)
		} else {
			err = s.Once.Finish(ctx, ticket, held.answer())
		}
		if err != nil { // it stays an intent for a minute
			s.Log.WarnContext(ctx, "answer not kept for its idempotency key", logx.Err, err)
		}
		held.release()
	}()
	c.Next()
}

// scoped is the key for services: keys of different principals are different.
func scoped(r once.Request) string {
	h := sha256.Sum256([]byte(r.Principal + "\x00" + r.Key))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// idempotency is the key that services are to be given, "" without one.
func idempotency(ctx context.Context) string {
	key, _ := ctx.Value(keyIdempotency).(string)
	return key
}

// heldBack holds an answer back until it is kept: a caller who has it can rely
// on getting it again.
type heldBack struct {
	gin.ResponseWriter
	status int
	body   []byte
	wrote  bool
}

func (w *heldBack) WriteHeader(status int) {
	if !w.wrote {
		w.status, w.wrote = status, true
	}
}

func (w *heldBack) WriteHeaderNow() { w.wrote = true }

func (w *heldBack) Write(b []byte) (int, error) {
	w.wrote = true
	w.body = append(w.body, b...)
	return len(b), nil
}

func (w *heldBack) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

func (w *heldBack) Written() bool { return w.wrote }

func (w *heldBack) Status() int { return w.status }

func (w *heldBack) Size() int { return len(w.body) }

func (w *heldBack) answer() once.Answer {
	a := once.Answer{Status: w.status, Header: map[string]string{}, Body: w.body}
	for _, name := range keptHeaders() {
		if v := w.Header().Get(name); v != "" {
			a.Header[name] = v
		}
	}
	return a
}

// release sends what was held back.
func (w *heldBack) release() {
	w.ResponseWriter.WriteHeader(w.status)
	if len(w.body) > 0 {
		_, _ = w.ResponseWriter.Write(w.body)
	}
}
