package fleetapi

import (
	"mime"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/problem"
)

const plainJSON = "application/json"

// negotiate chooses the media type of the answer and checks that of the body
// (spec cdf-services §1.1).
func (s *server) negotiate(c *gin.Context) {
	op := s.operation(c)
	if op == nil {
		return
	}
	if op.negotiates {
		answer := accepted(c.Request.Header.Values("Accept"))
		if answer == "" {
			s.refuse(c, problem.New(http.StatusUnsupportedMediaType, "answers are "+api.MediaType+" or "+plainJSON+"; the Accept header asks for neither"))
			return
		}
		// Answers without a body carry the type too, as the original's do.
		c.Header("Content-Type", answer)
		if answer != api.MediaType {
			c.Writer = &retyped{c.Writer, answer}
		}
	}
	if enc := c.GetHeader("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") && op.body != noBody {
		s.refuse(c, problem.New(http.StatusUnsupportedMediaType, "a body with Content-Encoding "+clip(enc)+" is not read; send it plain"))
		return
	}
	if op.body == noBody || op.body == bytesBody || c.Request.ContentLength == 0 {
		return
	}
	if sent := c.GetHeader("Content-Type"); !op.takes(sent) {
		s.refuse(c, problem.New(http.StatusUnsupportedMediaType, "Content-Type "+clip(sent)+" is not read here; send "+op.wants()))
	}
}

func (op *operation) takes(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch t {
	case api.MediaType, plainJSON:
		return true
	case "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml":
		return op.body == recipeBody
	}
	return false
}

func (op *operation) wants() string {
	if op.body == recipeBody {
		return "application/yaml or " + plainJSON
	}
	return api.MediaType + " or " + plainJSON
}

// accepted returns the media type to answer in, or "" if none will do: the
// vendor type unless only plain JSON is acceptable.
func accepted(headers []string) string {
	if len(headers) == 0 {
		return api.MediaType
	}
	best := ""
	for entry := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		t, params, err := mime.ParseMediaType(entry)
		if err != nil || refused(params["q"]) {
			continue
		}
		switch t {
		case api.MediaType, "*/*", "application/*":
			return api.MediaType
		case plainJSON:
			best = plainJSON
		}
	}
	return best
}

// refused reports whether a quality is zero: "0", "0.0" and the like.
func refused(q string) bool { return q != "" && strings.Trim(q, "0.") == "" }

// retyped answers in another media type than the vendor's.
type retyped struct {
	gin.ResponseWriter
	contentType string
}

func (w *retyped) WriteHeader(status int) {
	if w.Header().Get("Content-Type") == api.MediaType {
		w.Header().Set("Content-Type", w.contentType)
	}
	w.ResponseWriter.WriteHeader(status)
}
