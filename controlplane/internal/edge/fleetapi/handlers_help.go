package fleetapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/controlplane/internal/help"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// What a request for help has when it does not say it.
const (
	helpLines  = 200
	helpLength = 1 << 20
)

func (s *server) CreateCoreHelpRequest(ctx context.Context, r gen.CreateCoreHelpRequestRequestObject) (gen.CreateCoreHelpRequestResponseObject, error) {
	made, err := s.askHelp(ctx, protocol.Subject{Role: protocol.RoleCore, Name: r.Name}, *r.Body)
	return gen.CreateCoreHelpRequest201ApplicationVndAwsCdfV10PlusJSONResponse{HelpMadeApplicationVndAwsCdfV10PlusJSONResponse: made}, err
}

func (s *server) CreateDeviceHelpRequest(ctx context.Context, r gen.CreateDeviceHelpRequestRequestObject) (gen.CreateDeviceHelpRequestResponseObject, error) {
	made, err := s.askHelp(ctx, protocol.Subject{Role: protocol.RoleClient, Name: r.Name}, *r.Body)
	return gen.CreateDeviceHelpRequest201ApplicationVndAwsCdfV10PlusJSONResponse{HelpMadeApplicationVndAwsCdfV10PlusJSONResponse: made}, err
}

func (s *server) askHelp(ctx context.Context, device protocol.Subject, b api.NewHelpRequest) (gen.HelpMadeApplicationVndAwsCdfV10PlusJSONResponse, error) {
	ask := protocol.HelpAsk{
		Kind: protocol.HelpKind(b.Kind), Of: b.Of, Component: b.Component, Lines: b.Lines, Since: b.Since.Time, From: b.From, Length: b.Length,
		WaitSeconds: b.WaitSeconds, Diagnostic: b.Diagnostic,
	}
	withDefaults(&ask)
	if err := mayHelp(ctx, ask.Kind); err != nil {
		return gen.HelpMadeApplicationVndAwsCdfV10PlusJSONResponse{}, err
	}
	by, _ := ctx.Value(keyActor).(string)
	made, err := s.Help.Create(ctx, help.New{Subject: device, HelpAsk: ask, By: by, Key: idempotency(ctx), Wait: time.Duration(b.ExpiresSeconds) * time.Second, Follows: b.Follows})
	if err != nil {
		return gen.HelpMadeApplicationVndAwsCdfV10PlusJSONResponse{}, fmt.Errorf("asking %s for %s: %w", device.Name, ask.Kind, err)
	}
	return gen.HelpMadeApplicationVndAwsCdfV10PlusJSONResponse{
		Body: helpRequest(made), Headers: gen.HelpMadeResponseHeaders{Location: "/helpRequests/" + url.PathEscape(made.ID)},
	}, nil
}

func withDefaults(a *protocol.HelpAsk) {
	logs := a.Kind == protocol.HelpLogsTail || a.Kind == protocol.HelpLogsRange
	switch {
	case a.Of != "" || !logs && a.Kind != protocol.HelpRestart:
	case a.Component != "":
		a.Of = protocol.HelpOfComponent
	default:
		a.Of = protocol.HelpOfNucleus
	}
	if a.Kind == protocol.HelpLogsTail && a.Lines == 0 {
		a.Lines = helpLines
	}
	if a.Kind == protocol.HelpLogsRange && a.Length == 0 {
		a.Length = helpLength
	}
}

// mayHelp refuses what only admins may ask for, or see.
func mayHelp(ctx context.Context, kind protocol.HelpKind) error {
	if kind != protocol.HelpBundle && kind != protocol.HelpRestart {
		return nil
	}
	if role, _ := ctx.Value(keyRole).(access.Role); !role.Includes(access.Admin) {
		return fault.New(fault.Denied, "%s needs the role %s", kind, access.Admin)
	}
	return nil
}

func (s *server) ListCoreHelpRequests(ctx context.Context, r gen.ListCoreHelpRequestsRequestObject) (gen.ListCoreHelpRequestsResponseObject, error) {
	list, err := s.helpOf(ctx, r.Name, opt(r.Params.Count), r.Params.ExclusiveStartToken)
	return gen.ListCoreHelpRequests200ApplicationVndAwsCdfV10PlusJSONResponse{HelpFoundApplicationVndAwsCdfV10PlusJSONResponse: list}, err
}

func (s *server) ListDeviceHelpRequests(ctx context.Context, r gen.ListDeviceHelpRequestsRequestObject) (gen.ListDeviceHelpRequestsResponseObject, error) {
	list, err := s.helpOf(ctx, r.Name, opt(r.Params.Count), r.Params.ExclusiveStartToken)
	return gen.ListDeviceHelpRequests200ApplicationVndAwsCdfV10PlusJSONResponse{HelpFoundApplicationVndAwsCdfV10PlusJSONResponse: list}, err
}

func (s *server) helpOf(ctx context.Context, device string, count api.Count, token *api.StartToken) (gen.HelpFoundApplicationVndAwsCdfV10PlusJSONResponse, error) {
	after, err := fromToken(token)
	if err != nil {
		return gen.HelpFoundApplicationVndAwsCdfV10PlusJSONResponse{}, err
	}
	list, next, err := s.Help.Requests(ctx, device, help.Page(page(count, after)))
	if err != nil {
		return gen.HelpFoundApplicationVndAwsCdfV10PlusJSONResponse{}, fmt.Errorf("listing what was asked of %s: %w", device, err)
	}
	return gen.HelpFoundApplicationVndAwsCdfV10PlusJSONResponse{Requests: each(list, helpRequest), Pagination: pagination(count, api.LastEvaluated{NextToken: toToken(next)})}, nil
}

func (s *server) GetHelpRequest(ctx context.Context, r gen.GetHelpRequestRequestObject) (gen.GetHelpRequestResponseObject, error) {
	q, err := s.Help.Request(ctx, r.RequestID)
	if err != nil {
		return nil, fmt.Errorf("reading help request %s: %w", r.RequestID, err)
	}
	return gen.GetHelpRequest200ApplicationVndAwsCdfV10PlusJSONResponse(helpRequest(q)), nil
}

func (s *server) DeleteHelpRequest(ctx context.Context, r gen.DeleteHelpRequestRequestObject) (gen.DeleteHelpRequestResponseObject, error) {
	if err := s.Help.Delete(ctx, r.RequestID); err != nil {
		return nil, fmt.Errorf("deleting help request %s: %w", r.RequestID, err)
	}
	return gen.DeleteHelpRequest204Response{}, nil
}

func (s *server) GetHelpContent(ctx context.Context, r gen.GetHelpContentRequestObject) (gen.GetHelpContentResponseObject, error) {
	c, ok := ctx.(*gin.Context)
	if !ok {
		return nil, errors.New("help content: no request behind the context")
	}
	q, err := s.Help.Request(ctx, r.RequestID)
	if err == nil {
		err = mayHelp(ctx, q.Kind)
	}
	if err != nil {
		return nil, fmt.Errorf("reading help request %s: %w", r.RequestID, err)
	}
	f, q, err := s.Help.Content(c.Request.Context(), r.RequestID)
	if err != nil {
		return nil, fmt.Errorf("opening the content of help request %s: %w", r.RequestID, err)
	}
	return &helpContent{c: c, open: f, of: q}, nil
}

// helpContent answers with what a device sent, or the range of it that was asked
// for.
type helpContent struct {
	c    *gin.Context // of the request, which this answers
	open interface {
		Read(p []byte) (int, error)
		Seek(offset int64, whence int) (int64, error)
		Close() error
	}
	of help.Request
}

// VisitGetHelpContentResponse writes it and closes it.
func (h *helpContent) VisitGetHelpContentResponse(w http.ResponseWriter) error {
	defer func() { _ = h.open.Close() }()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if h.of.Kind == protocol.HelpBundle {
		w.Header().Set("Content-Type", "application/zip")
		w.Header().Set("Content-Disposition", `attachment; filename="support-bundle.zip"`)
	}
	http.ServeContent(w, h.c.Request, "", h.of.UpdatedAt, h.open)
	return nil
}

func helpRequest(q help.Request) api.HelpRequest {
	return api.HelpRequest{
		RequestID: q.ID, DeviceName: q.Device, Role: string(q.Role), Kind: api.HelpKind(q.Kind), Of: q.Of, Component: q.Component, Lines: q.Lines,
		Since: api.At(q.Since), From: q.From, Length: q.Length, WaitSeconds: q.WaitSeconds, Diagnostic: q.Diagnostic, By: q.By, Status: string(q.Status),
		Message: q.Message, CreatedAt: api.At(q.CreatedAt), UpdatedAt: api.At(q.UpdatedAt), ExpiresAt: api.At(q.ExpiresAt), Size: q.Size, Digest: q.Digest,
		Next: q.Next, Lost: q.Lost, More: q.More, Follows: q.Follows,
	}
}
