package artifact

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

const (
	// DefaultMaxDownloads is how many downloads run at once if the Config does
	// not say.
	DefaultMaxDownloads = 512
	// DefaultStall is how long one write to a client may take.
	DefaultStall = time.Minute
)

// Objects is what the handler reads from; object.Store is one.
type Objects interface {
	// Open returns fault.NotFound if key is absent. The caller closes the reader.
	Open(ctx context.Context, key string) (object.Reader, object.Info, error)
}

// HandlerConfig is what NewHandler needs.
type HandlerConfig struct {
	Signer       *Signer
	Objects      Objects
	MaxDownloads int           // at once; 0: DefaultMaxDownloads. Beyond it: 503 with Retry-After
	Stall        time.Duration // after which a client that does not read is cut off; 0: DefaultStall
	Log          *slog.Logger  // nil: none
}

// Handler serves the URLs of a Signer: GET and HEAD, ranges, Content-Length
// always, never compressed (the digest is over the stored bytes). A link that is
// forged or expired gets 403; nothing is ever listed.
type Handler struct {
	cfg   HandlerConfig
	slots chan struct{}
}

// NewHandler checks cfg.
func NewHandler(cfg HandlerConfig) (*Handler, error) {
	if cfg.Signer == nil || cfg.Objects == nil {
		return nil, errors.New("artifact handler: Signer and Objects are required")
	}
	if cfg.MaxDownloads < 0 || cfg.Stall < 0 {
		return nil, fmt.Errorf("artifact handler: limits of %d downloads and %v per write must not be negative", cfg.MaxDownloads, cfg.Stall)
	}
	if cfg.MaxDownloads == 0 {
		cfg.MaxDownloads = DefaultMaxDownloads
	}
	if cfg.Stall == 0 {
		cfg.Stall = DefaultStall
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	return &Handler{cfg: cfg, slots: make(chan struct{}, cfg.MaxDownloads)}, nil
}

// ServeHTTP implements http.Handler. Nothing of the URL is logged: it is a
// credential.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Set for every answer: the deadline of an earlier one on the connection stays.
	conn := http.NewResponseController(w)
	_ = conn.SetWriteDeadline(time.Now().Add(h.cfg.Stall)) // a test's writer has none
	w.Header().Set("X-Content-Type-Options", "nosniff")
	rest, ok := strings.CutPrefix(r.URL.Path, pathPrefix)
	if !ok {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	token, _, _ := strings.Cut(rest, "/")
	g, err := h.cfg.Signer.check(token)
	if err != nil {
		h.cfg.Log.InfoContext(r.Context(), "artifact download refused", logx.Address, r.RemoteAddr, logx.Err, err)
		http.Error(w, fault.Message(err), http.StatusForbidden)
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		busy(w, "too many downloads at once")
		return
	}
	h.serve(&pacedWriter{ResponseWriter: w, conn: conn, stall: h.cfg.Stall}, r, g)
}

func (h *Handler) serve(w *pacedWriter, r *http.Request, g grant) {
	body, info, err := h.cfg.Objects.Open(r.Context(), g.key)
	switch {
	case errors.Is(err, fault.NotFound):
		http.Error(w, "the artifact is gone", http.StatusNotFound)
		return
	case err != nil:
		h.cfg.Log.ErrorContext(r.Context(), "artifact not readable", "key", g.key, logx.Err, err)
		busy(w, "the artifact cannot be read now")
		return
	}
	defer func() { _ = body.Close() }()
	w.Header().Set("ETag", g.etag)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "private, no-transform")
	http.ServeContent(w, r, "", info.ModTime, body)
	w.extend() // for what is still buffered
}

// busy is an answer that both runtimes try again after (nucleus-contract §4.1).
func busy(w http.ResponseWriter, text string) {
	w.Header().Set("Retry-After", "2")
	http.Error(w, text, http.StatusServiceUnavailable)
}

// pacedWriter gives each write its own deadline: a long download may take as
// long as it likes, a client that stopped reading loses its slot.
type pacedWriter struct {
	http.ResponseWriter
	conn  *http.ResponseController
	stall time.Duration
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	p.extend()
	return p.ResponseWriter.Write(b)
}

func (p *pacedWriter) extend() { _ = p.conn.SetWriteDeadline(time.Now().Add(p.stall)) }
