package awsapi

import (
	"io"
	"net/http"
	"time"
)

// steady ends connections on which no byte moves for stallTimeout: a total
// limit would cut honest transfers of large objects, and none would let a
// silent client hold a connection for ever.
func steady(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if r.Body != nil && r.Body != http.NoBody {
			// A copy: the server looks at its own request's body to know that a
			// refused client still waits for "100 Continue".
			r = r.WithContext(r.Context())
			r.Body = &steadyBody{ReadCloser: r.Body, rc: rc}
		}
		next.ServeHTTP(&steadyWriter{ResponseWriter: w, rc: rc}, r)
		// The server writes the rest of the answer once this returns, and a
		// deadline of an earlier answer would still hold then.
		extend(rc.SetWriteDeadline)
	})
}

// extend ignores the error: a connection that knows no deadlines has none.
func extend(set func(time.Time) error) { _ = set(time.Now().Add(stallTimeout)) }

type steadyBody struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (b *steadyBody) Read(p []byte) (int, error) {
	extend(b.rc.SetReadDeadline)
	n, err := b.ReadCloser.Read(p)
	// From here on the server itself may wait for the next request, and its
	// handler may think for as long as it needs.
	_ = b.rc.SetReadDeadline(time.Time{})
	return n, err
}

type steadyWriter struct {
	http.ResponseWriter
	rc *http.ResponseController
}

func (w *steadyWriter) WriteHeader(status int) {
	extend(w.rc.SetWriteDeadline)
	w.ResponseWriter.WriteHeader(status)
}

func (w *steadyWriter) Write(p []byte) (int, error) {
	extend(w.rc.SetWriteDeadline)
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the server's own writer.
func (w *steadyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
