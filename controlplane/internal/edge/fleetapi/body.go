package fleetapi

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// readBody bounds what a caller may send, in bytes and in time. JSON and recipes
// are read whole, and JSON is validated; the rest is handed on as a stream.
func (s *server) readBody(c *gin.Context) {
	op := s.operation(c)
	if op == nil || op.body == noBody {
		return
	}
	if c.Request.Body == nil || c.Request.Body == http.NoBody {
		if op.body != bytesBody { // an empty artifact is an artifact
			s.fail(c, fault.New(fault.Invalid, "this call needs a body"))
		}
		return
	}
	limit := s.MaxBody
	if op.body == bytesBody {
		limit = s.MaxUpload
	}
	if c.Request.ContentLength > limit {
		s.fail(c, &http.MaxBytesError{Limit: limit})
		return
	}
	body := &impatient{
		ReadCloser: http.MaxBytesReader(c.Writer, c.Request.Body, limit),
		deadline:   http.NewResponseController(c.Writer),
		patience:   s.StallTimeout,
		header:     c.Writer.Header(),
	}
	c.Request.Body = body
	if op.body == bytesBody {
		return
	}
	data, err := io.ReadAll(body)
	if err != nil {
		s.fail(c, fmt.Errorf("reading the body: %w", err))
		return
	}
	c.Set(keyBody, sha256.Sum256(data))
	c.Request.Body = io.NopCloser(bytes.NewReader(data))
	if op.body != jsonBody {
		return
	}
	value, err := decodeStrict(data)
	if err != nil {
		s.fail(c, err)
		return
	}
	if err := validateJSON(op.schema, value); err != nil {
		s.fail(c, err)
	}
}

// impatient is a body that gives up on a sender who sends nothing.
type impatient struct {
	io.ReadCloser
	deadline *http.ResponseController
	patience time.Duration
	header   http.Header
}

// Read fails with fault.Invalid when nothing came in time. Without a
// connection that takes deadlines (a test's recorder) it waits.
func (b *impatient) Read(p []byte) (int, error) {
	_ = b.deadline.SetReadDeadline(time.Now().Add(b.patience))
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	// The server goes on reading the connection behind our back, to learn
	// whether the caller goes away; a deadline left there would look like it.
	if errors.Is(err, io.EOF) {
		_ = b.deadline.SetReadDeadline(time.Time{})
		return n, err //nolint:wrapcheck // io.EOF must stay what it is
	}
	// After any other error the connection is of no use, and its deadline keeps
	// the server from waiting for the rest.
	b.header.Set("Connection", "close")
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, fault.New(fault.Invalid, "the body stopped arriving for %s", b.patience)
	}
	return n, fmt.Errorf("reading the connection: %w", err)
}
