package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"

	"github.com/minio/minio-go/v7"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// classify gives err, as minio-go returned it, the kind that callers act on. A
// refused signature or a missing bucket stays without a kind: it is our own
// configuration, not something that an API caller could act on.
func classify(ctx context.Context, err error, key string) error {
	if err == nil {
		return nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return errors.Join(ctx.Err(), err)
	}
	// minio-go compares types, not chains: the raw error must be asked.
	switch r := minio.ToErrorResponse(err); {
	case r.Code == "NoSuchKey" && key != "":
		return fmt.Errorf("%w: %w", fault.New(fault.NotFound, "no object %s", key), err)
	case r.Code == "EntityTooLarge":
		return fmt.Errorf("%w: %w", fault.TooLarge, err)
	case r.Code == "SlowDown" || r.Code == "SlowDownRead" || r.Code == "SlowDownWrite" ||
		r.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %w", fault.Exhausted, err)
	case r.StatusCode >= 500:
		return fmt.Errorf("%w: %w", away(), err)
	}
	if passing(err) {
		return fmt.Errorf("%w: %w", away(), err)
	}
	return err
}

func away() error {
	return fault.New(fault.Unavailable, "the artifact store does not answer; try again later")
}

// passing reports whether err is a failure of the connection. *url.Error itself
// is a net.Error, so that interface alone says nothing.
func passing(err error) bool {
	var (
		ne  net.Error
		op  *net.OpError
		dns *net.DNSError
	)
	return errors.As(err, &ne) && ne.Timeout() || errors.As(err, &op) || errors.As(err, &dns) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
