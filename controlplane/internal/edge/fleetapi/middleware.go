package fleetapi

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/problem"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// Keys of what the middleware leaves in gin's context.
const (
	keyRequestID = "ggfleet.request"
	keyActor     = "ggfleet.actor"
	keyRole      = "ggfleet.role"
)

const headerRequestID = "x-request-id"

var requestID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

// identify gives the request an id: the caller's, if it can stand in a log as it
// is, else a new one.
func (s *server) identify(c *gin.Context) {
	id := c.GetHeader(headerRequestID)
	if !requestID.MatchString(id) {
		id = rand.Text()
	}
	c.Set(keyRequestID, id)
	c.Header(headerRequestID, id)
	if c.Request.ContentLength != 0 {
		// The server reads what is left of a body before it answers, also for a
		// caller that is refused; this bounds how long it waits for that.
		_ = http.NewResponseController(c.Writer).SetReadDeadline(time.Now().Add(s.StallTimeout))
	}
}

func (s *server) attrs(c *gin.Context) []slog.Attr {
	a := []slog.Attr{
		slog.String(logx.Request, c.GetString(keyRequestID)),
		slog.String("method", c.Request.Method),
		slog.String("route", c.FullPath()),
	}
	if actor := c.GetString(keyActor); actor != "" {
		a = append(a, slog.String(logx.Actor, actor))
	}
	return a
}

// accessLog writes one record for each request. Those that probes send all the
// time are for developers only.
func (s *server) accessLog(c *gin.Context) {
	start := time.Now()
	c.Next()
	level := slog.LevelInfo
	if op := s.operation(c); op != nil && (op.id == "GetHealth" || op.id == "GetReadiness" || op.id == "GetMetrics") {
		level = slog.LevelDebug
	}
	s.Log.LogAttrs(c.Request.Context(), level, "request answered", append(s.attrs(c),
		slog.String("path", clip(c.Request.URL.Path)),
		slog.Int("status", c.Writer.Status()),
		slog.Int("bytes", max(c.Writer.Size(), 0)),
		slog.Duration("took", time.Since(start)),
		slog.String(logx.Address, c.Request.RemoteAddr))...)
}

// recover turns a panic into a 500, and lets net/http end the connection when
// that was what the panic is for.
func (s *server) recover(c *gin.Context) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			s.fail(c, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	c.Next()
}

// secure tells browsers to treat answers as data.
func (s *server) secure(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// cors lets pages of one origin call the API, when an operator wants that.
func (s *server) cors(c *gin.Context) {
	if s.CORSOrigin == "" {
		return
	}
	h := c.Writer.Header()
	h.Set("Access-Control-Allow-Origin", s.CORSOrigin)
	h.Set("Access-Control-Expose-Headers", "content-type,location,x-taskid,x-name,x-version,etag,retry-after,idempotency-replayed,x-request-id")
	h.Add("Vary", "Origin")
	if c.Request.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE")
		h.Set("Access-Control-Allow-Headers", "accept,authorization,content-type,idempotency-key,if-match,if-none-match,last-event-id,x-request-id")
		c.AbortWithStatus(http.StatusNoContent)
	}
}

// authenticate finds out who asks, and whether that principal may, and may now.
func (s *server) authenticate(c *gin.Context) {
	op := s.operation(c)
	if op == nil || op.open {
		return
	}
	who, err := s.principal(c)
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Set(keyActor, who.Name)
	c.Set(keyRole, who.Role)
	if need := needs(op.id); !who.Role.Includes(need) {
		s.fail(c, fault.New(fault.Denied, "%s needs the role %s; %q is %s", op.id, need, who.Name, who.Role))
		return
	}
	if !s.limits.allow(who.Name, time.Now()) {
		s.refuse(c, problem.Of(fault.New(fault.Exhausted, "%q sends more than %g requests a second; wait and try again", who.Name, s.Rate)))
	}
}

func (s *server) principal(c *gin.Context) (access.Principal, error) {
	header := c.GetHeader("Authorization")
	if header == "" && s.Anonymous != nil {
		return *s.Anonymous, nil
	}
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return access.Principal{}, fault.New(fault.Unauthenticated, "send a valid token as Authorization: Bearer <token>; the first one is in admin.token of the server's data directory")
	}
	who, err := s.Auth.Authenticate(c.Request.Context(), token)
	if err != nil {
		return access.Principal{}, fmt.Errorf("authenticating: %w", err)
	}
	return who, nil
}
