package gateway

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/pki"
)

type identityKey struct{}

// FromContext returns the identity that AdmitHTTP put there.
func FromContext(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}

// AdmitHTTP wraps handlers that only devices may call. Each request looks the
// client certificate up anew, so that an open connection is no way around a
// revocation. Without a certificate, or with one that the registry refuses, the
// answer is 403; while the registry is away it is 503.
func AdmitHTTP(ids Identities, log *slog.Logger) func(http.Handler) http.Handler {
	if log == nil {
		log = logx.Discard()
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
				refuse(w, http.StatusForbidden, "a client certificate is required")
				return
			}
			leaf := r.TLS.PeerCertificates[0]
			id, err := ids.Identify(r.Context(), leaf)
			switch {
			case err == nil:
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, id)))
			case fault.Permanent(err):
				log.WarnContext(r.Context(), "device request refused", logx.Certificate, pki.ID(leaf.Raw), logx.Address, r.RemoteAddr, "path", r.URL.Path, logx.Err, err)
				refuse(w, http.StatusForbidden, "the client certificate is not accepted")
			default:
				log.ErrorContext(r.Context(), "device request not checked", logx.Certificate, pki.ID(leaf.Raw), logx.Err, err)
				w.Header().Set("Retry-After", "2")
				refuse(w, http.StatusServiceUnavailable, "the registry is not available, try again")
			}
		})
	}
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message}) // the client may be gone
}
