package rest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Authenticator decides who sent a request.
type Authenticator interface {
	// Authenticate returns the caller, or an *Error. payload reads the body and
	// returns its hex SHA-256: who is refused without it has sent nothing that is kept.
	// Its error is returned as it is.
	Authenticate(r *http.Request, payload func() (string, error)) (Caller, error)
}

// ThrottledError is what Config.Error gets for a caller that asks too often.
type ThrottledError struct{ After time.Duration } // until it may come back

func (*ThrottledError) Error() string { return "Rate exceeded" }

// Config is what a service is made of. Error and Auth are required.
type Config struct {
	Name       string
	Operations []Operation
	Patterns   map[string]*regexp.Regexp
	// Error words an error for the service's clients: *InvalidError, *UnparsableError,
	// *ThrottledError, or what an operation returned. nil: it is nobody's fault but ours;
	// it is logged and answered with Internal.
	Error    func(error) *Error
	Internal Error
	Auth     Authenticator

	// Rate is how many requests a second one access key may send, with as many at
	// once; 0: no limit.
	Rate    float64
	MaxBody int64 // bytes; 0: 1 MiB
	Observe func(service, operation string, status int, took time.Duration)
	Log     *slog.Logger
}

// Service answers the requests of one service.
type Service struct {
	cfg    Config
	routes *routes

	mu     sync.Mutex // guards limits
	limits map[string]*rate.Limiter
}

type operation struct {
	Operation
	labels []string
	plan   *plan
}

// New compiles the operations.
func New(cfg Config) (*Service, error) {
	if cfg.Error == nil || cfg.Auth == nil {
		return nil, errors.New("rest: Error and Auth are required")
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 1 << 20
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, string, int, time.Duration) {}
	}
	s := &Service{cfg: cfg, routes: newRoutes(), limits: map[string]*rate.Limiter{}}
	for _, o := range cfg.Operations {
		p, err := compile(o.Call.in, cfg.Patterns)
		if err != nil {
			return nil, fmt.Errorf("operation %s: %w", o.Name, err)
		}
		op := &operation{Operation: o, plan: p}
		if op.Status == 0 {
			op.Status = http.StatusOK
		}
		if err := s.routes.add(op); err != nil {
			return nil, fmt.Errorf("operation %s: %w", o.Name, err)
		}
		if err := op.bound(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// bound checks that every label of the path is a member and the other way round.
func (o *operation) bound() error {
	members := o.plan.byPlace[inPath]
	if len(members) != len(o.labels) {
		return fmt.Errorf("operation %s: the path has %d labels, the input %d members for them", o.Name, len(o.labels), len(members))
	}
	for _, l := range o.labels {
		found := false
		for _, m := range members {
			found = found || m.name == l
		}
		if !found {
			return fmt.Errorf("operation %s: no member is for label %s", o.Name, l)
		}
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	w.Header().Set("X-Amzn-Requestid", names.NewUUID())
	name, status := "-", 0
	func() {
		defer func() {
			if p := recover(); p != nil {
				status = s.fail(w, r, name, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
		}()
		name, status = s.serve(w, r)
	}()
	s.cfg.Observe(s.cfg.Name, name, status, time.Since(began))
}

// serve carries a request out and returns its operation and status.
func (s *Service) serve(w http.ResponseWriter, r *http.Request) (string, int) {
	read := sync.OnceValues(func() ([]byte, error) { return s.body(w, r) })
	caller, err := s.cfg.Auth.Authenticate(r, func() (string, error) {
		b, err := read()
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:]), err
	})
	if err != nil {
		return "-", s.fail(w, r, "-", err)
	}
	body, err := read()
	if err != nil {
		return "-", s.fail(w, r, "-", err)
	}
	op, values, err := s.routes.find(r.Method, r.URL.EscapedPath())
	if err != nil {
		return "-", s.fail(w, r, "-", Fail(http.StatusNotFound, "UnknownOperationException", "This service has no operation "+r.Method+" "+cut(r.URL.Path)+".", nil))
	}
	if err := s.admit(caller, op); err != nil {
		return op.Name, s.fail(w, r, op.Name, err)
	}
	labels := make(map[string]string, len(values))
	for i, v := range values {
		labels[op.labels[i]] = v
	}
	in, err := op.plan.bind(r, labels, body)
	if err != nil {
		return op.Name, s.fail(w, r, op.Name, err)
	}
	out, err := op.Call.call(context.WithValue(r.Context(), callerKey{}, caller), in)
	var answer []byte
	if err == nil {
		answer, err = encode(out)
	}
	if err != nil {
		return op.Name, s.fail(w, r, op.Name, err)
	}
	if op.changes() { // the audit trail
		s.cfg.Log.InfoContext(r.Context(), "aws operation", "service", s.cfg.Name, "operation", op.Name, "access_key", caller.AccessKey,
			"path", r.URL.Path, logx.Address, r.RemoteAddr)
	}
	write(w, op.Status, answer)
	return op.Name, op.Status
}

// body reads the body of the request, as far as it may be long.
func (s *Service) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.cfg.MaxBody))
	if err == nil {
		return b, nil
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, &UnparsableError{fmt.Sprintf("the request body has more than %d bytes", s.cfg.MaxBody)}
	}
	return nil, &UnparsableError{"the request body did not arrive whole"}
}

// admit decides whether the caller may call the operation now.
func (s *Service) admit(c Caller, o *operation) error {
	if c.ReadOnly && o.changes() {
		return fault.New(fault.Denied, "Access key %s may only read: it is not authorized to perform %s.", c.AccessKey, o.Name)
	}
	if s.cfg.Rate <= 0 {
		return nil
	}
	s.mu.Lock()
	l := s.limits[c.AccessKey] // there are no more than access keys
	if l == nil {
		l = rate.NewLimiter(rate.Limit(s.cfg.Rate), max(1, int(s.cfg.Rate)))
		s.limits[c.AccessKey] = l
	}
	s.mu.Unlock()
	if l.Allow() {
		return nil
	}
	return &ThrottledError{After: time.Second}
}

// fail answers an error and returns the status.
func (s *Service) fail(w http.ResponseWriter, r *http.Request, op string, err error) int {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = s.cfg.Error(err)
	}
	switch {
	case e != nil:
		s.cfg.Log.DebugContext(r.Context(), "aws request refused", "service", s.cfg.Name, "operation", op, "code", e.Code, logx.Err, err)
	case r.Context().Err() != nil: // nobody waits for the answer
		e = &s.cfg.Internal
	default:
		s.cfg.Log.ErrorContext(r.Context(), "aws request failed", "service", s.cfg.Name, "operation", op, logx.Err, err)
		e = &s.cfg.Internal
	}
	e.write(w)
	return e.Status
}
