package deviceapi

import (
	"net/http"
	"os"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
)

const (
	// A transfer that takes nothing for so long is ended.
	transferStall = 30 * time.Second
	// slowest is the least that a transfer without certificate takes in, in bytes a
	// second, once it has kept the server waiting for transferStall in all. Who is
	// slower asks for the rest when it was ended (Range).
	slowest = 16 << 10
)

// send answers with an object, ranges included, and closes it. Who does not read is
// given up.
func send(w http.ResponseWriter, r *http.Request, contentType string, f object.Reader, info object.Info, err error) error {
	return transfer(&impatient{ResponseWriter: w, deadline: http.NewResponseController(w)}, r, contentType, f, info, err)
}

// sendSoon is send that gives up also who reads slower than slowest.
func sendSoon(w http.ResponseWriter, r *http.Request, contentType string, f object.Reader, info object.Info, err error) error {
	return transfer(&impatient{ResponseWriter: w, deadline: http.NewResponseController(w), slowest: slowest}, r, contentType, f, info, err)
}

func transfer(w http.ResponseWriter, r *http.Request, contentType string, f object.Reader, info object.Info, err error) error {
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	http.ServeContent(w, r, "", info.ModTime, f)
	return nil
}

// impatient is an answer that is given up when nobody reads it, or too slowly. Only
// what the reader takes counts, not what the store of objects does.
type impatient struct {
	http.ResponseWriter

	deadline *http.ResponseController
	slowest  int // bytes a second; 0: each piece has its time and no more is asked

	sent   int
	waited time.Duration
}

func (w *impatient) Write(b []byte) (int, error) {
	begun, left := time.Now(), transferStall
	if w.slowest > 0 {
		left = min(left, transferStall+time.Duration(w.sent/w.slowest)*time.Second-w.waited)
	}
	if left <= 0 {
		return 0, os.ErrDeadlineExceeded
	}
	_ = w.deadline.SetWriteDeadline(begun.Add(left)) // a test's recorder knows none
	n, err := w.ResponseWriter.Write(b)
	_ = w.deadline.SetWriteDeadline(time.Time{})
	w.sent += n
	w.waited += time.Since(begun)
	return n, err
}
