package fleetapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gin-gonic/gin"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/problem"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// server implements the generated StrictServerInterface; its methods are in the
// handlers_*.go files.
type server struct {
	Config
	operations map[string]*operation // by method and gin route
	limits     *limits
	streams    chan struct{} // one for each open stream of events
}

var _ gen.StrictServerInterface = (*server)(nil)

// New returns the handler of the fleet API. It starts nothing.
func New(cfg Config) (http.Handler, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	spec, err := api.GetSpec()
	if err != nil {
		return nil, fmt.Errorf("fleetapi: reading the embedded API document: %w", err)
	}
	s := &server{Config: cfg, operations: operations(spec), limits: newLimits(cfg.Rate, cfg.Burst), streams: make(chan struct{}, cfg.MaxStreams)}

	gin.SetMode(gin.ReleaseMode) // gin's debug mode prints to stdout
	e := gin.New()
	e.HandleMethodNotAllowed = true
	e.RedirectTrailingSlash = false
	e.UseRawPath = true // an artifact's name may hold an escaped slash
	e.ContextWithFallback = true
	e.Use(s.identify, s.accessLog, s.recover, s.secure, s.cors, s.authenticate, s.negotiate, s.readBody, s.validate, s.once)
	e.NoRoute(func(c *gin.Context) {
		s.refuse(c, problem.New(http.StatusNotFound, "there is nothing under "+clip(c.Request.URL.Path)))
	})
	e.NoMethod(func(c *gin.Context) {
		s.refuse(c, problem.New(http.StatusMethodNotAllowed, "this path takes "+c.Writer.Header().Get("Allow")))
	})

	badRequest := func(c *gin.Context, err error) { s.fail(c, decodeError(err)) }
	gen.RegisterHandlersWithOptions(e, gen.NewStrictHandlerWithOptions(s, []gen.StrictMiddlewareFunc{outlive}, gen.StrictGinServerOptions{
		RequestErrorHandlerFunc:  badRequest,
		HandlerErrorFunc:         s.fail,
		ResponseErrorHandlerFunc: s.fail,
	}), gen.GinServerOptions{ErrorHandler: func(c *gin.Context, err error, _ int) { badRequest(c, err) }})
	return underBase(s.BasePath, slashedArtifacts(e)), nil
}

// outlive hands the handler a copy of gin's context. The original is used again
// for another request as soon as this one ends, while something that a service
// started may still look at it.
func outlive(next gen.StrictHandlerFunc, _ string) gen.StrictHandlerFunc {
	return func(c *gin.Context, request any) (any, error) { return next(c.Copy(), request) }
}

// underBase removes base from the front of paths, where it stands as whole
// segments (spec cdf-services W-04). Other paths are served as they are.
func underBase(base string, next http.Handler) http.Handler {
	if base == "" {
		return next
	}
	stripped := http.StripPrefix(base, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.EscapedPath(), base+"/") && strings.HasPrefix(r.URL.Path, base+"/") {
			stripped.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// slashedArtifacts lets the name of an artifact hold slashes as they are. The
// document can not say that, so they are escaped before the request is routed.
func slashedArtifacts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := strings.SplitN(r.URL.EscapedPath(), "/", 7)
		if len(p) == 7 && p[1] == "components" && p[3] == "versions" && p[5] == "artifacts" && strings.Contains(p[6], "/") {
			r = r.Clone(r.Context())
			r.URL.RawPath = strings.Join(p[:6], "/") + "/" + strings.ReplaceAll(p[6], "/", "%2F")
		}
		next.ServeHTTP(w, r)
	})
}

// operation is one operation of the API document, prepared for requests.
type operation struct {
	id         string
	open       bool // needs no token
	parameters openapi3.Parameters
	body       bodyKind
	schema     *openapi3.Schema // of a JSON body
	negotiates bool             // answers in the vendor media type
}

type bodyKind int

const (
	noBody bodyKind = iota
	jsonBody
	recipeBody
	bytesBody
)

func operations(spec *openapi3.T) map[string]*operation {
	m := make(map[string]*operation)
	for path, item := range spec.Paths.Map() {
		for method, o := range item.Operations() {
			op := &operation{
				id:         o.OperationID,
				open:       o.Security != nil && len(*o.Security) == 0,
				parameters: append(append(openapi3.Parameters{}, item.Parameters...), o.Parameters...),
				negotiates: true,
			}
			if o.RequestBody != nil {
				content := o.RequestBody.Value.Content
				switch {
				case content[api.MediaType] != nil:
					op.body, op.schema = jsonBody, content[api.MediaType].Schema.Value
				case content["application/octet-stream"] != nil:
					op.body = bytesBody
				default:
					op.body = recipeBody
				}
			}
			for status, r := range o.Responses.Map() {
				if status != "default" && len(r.Value.Content) > 0 && r.Value.Content[api.MediaType] == nil {
					op.negotiates = false
				}
			}
			m[method+" "+ginPath(path)] = op
		}
	}
	return m
}

func ginPath(path string) string {
	return strings.NewReplacer("{", ":", "}", "").Replace(path)
}

// operation returns what the document says of this request, nil when the path
// or method is not in it.
func (s *server) operation(c *gin.Context) *operation {
	return s.operations[c.Request.Method+" "+c.FullPath()]
}

// fail answers err and logs it, once.
func (s *server) fail(c *gin.Context, err error) {
	p := problem.Of(err)
	p.Log(c.Request.Context(), s.Log, err, s.attrs(c)...)
	s.refuse(c, p)
}

// refuse answers p and ends the request.
func (s *server) refuse(c *gin.Context, p problem.Problem) {
	c.Abort()
	if !c.Writer.Written() {
		p.WriteFleet(c.Writer, api.MediaType)
	}
}

// clip shortens what a caller sent for an answer or a log.
func clip(s string) string {
	return fault.Clip(s, 160)
}
