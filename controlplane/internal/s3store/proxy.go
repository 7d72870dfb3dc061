package s3store

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"

	"github.com/ggfleet/ggfleet/shared/logx"
)

// Proxy returns a handler that hands S3 requests to the server as they came:
// host, path and query unchanged, because the signature covers them, and both
// bodies streamed.
func (e *Embedded) Proxy() http.Handler {
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme = "http"
			r.Out.URL.Host = "s3.internal"
			r.Out.URL.RawQuery = r.In.URL.RawQuery // else cleaned of what the standard library cannot parse
			r.Out.Host = r.In.Host
		},
		Transport:     e.transport,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				return // the client is gone
			}
			e.log.WarnContext(r.Context(), "embedded s3 did not answer", logx.Err, err)
			w.Header().Set("Content-Type", "application/xml")
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			if r.Method != http.MethodHead {
				_, _ = fmt.Fprint(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
					`<Error><Code>ServiceUnavailable</Code><Message>The artifact store does not answer; try again.</Message></Error>`)
			}
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch { // versitygw's user administration, no part of S3
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusMethodNotAllowed)
			_, _ = fmt.Fprint(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
				`<Error><Code>MethodNotAllowed</Code><Message>The specified method is not allowed against this resource.</Message></Error>`)
			return
		}
		p.ServeHTTP(lowerMetadata{w}, r)
	})
}

// lowerMetadata writes the names of users' metadata in lower case, as S3 does:
// clients hand them to their users as they come.
type lowerMetadata struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w lowerMetadata) WriteHeader(status int) {
	h := w.Header()
	for name, values := range h {
		if strings.HasPrefix(name, "X-Amz-Meta-") {
			delete(h, name)
			h[strings.ToLower(name)] = values
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the server's own writer.
func (w lowerMetadata) Unwrap() http.ResponseWriter { return w.ResponseWriter }
