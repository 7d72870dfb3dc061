package fleetapi

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/controlplane/internal/patching"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (s *server) CreatePatchTemplate(ctx context.Context, r gen.CreatePatchTemplateRequestObject) (gen.CreatePatchTemplateResponseObject, error) {
	b := r.Body
	playbook, err := playbook(b.PlaybookFileContents, b.PlaybookFileContent)
	if err != nil {
		return nil, err
	}
	if playbook == "" {
		return nil, fault.Field("playbookFileContents", "is missing")
	}
	t, err := s.Patches.CreateTemplate(ctx, patching.NewTemplate{
		Name:                 b.Name,
		PatchType:            b.PatchType,
		PlaybookName:         b.PlaybookName,
		PlaybookFileContents: playbook,
		Description:          b.Description,
		Enabled:              b.Enabled,
		ExtraVars:            b.ExtraVars,
		Options:              b.Options,
	})
	if err != nil {
		return nil, fmt.Errorf("creating patch template %s: %w", b.Name, err)
	}
	return gen.CreatePatchTemplate201ApplicationVndAwsCdfV10PlusJSONResponse{
		Body:    patchTemplate(t),
		Headers: gen.CreatePatchTemplate201ResponseHeaders{Location: "/patchTemplates/" + url.PathEscape(t.Name), ETag: entityTag(t.Version)},
	}, nil
}

// playbook returns the one that was sent, in whichever spelling (spec
// cdf-services §6.3).
func playbook(contents, content string) (string, error) {
	if contents != "" && content != "" && contents != content {
		return "", fault.Field("playbookFileContent", "differs from playbookFileContents, of which it is another spelling; send one of them")
	}
	field, text := "playbookFileContents", contents
	if text == "" {
		field, text = "playbookFileContent", content
	}
	if n := base64.StdEncoding.DecodedLen(len(text)); n > patching.MaxPlaybook+2 {
		return "", fault.Field(field, "holds more than %d bytes", patching.MaxPlaybook)
	}
	return text, nil
}

func (s *server) GetPatchTemplate(ctx context.Context, r gen.GetPatchTemplateRequestObject) (gen.GetPatchTemplateResponseObject, error) {
	t, err := s.Patches.Template(ctx, r.Name)
	if err != nil {
		return nil, fmt.Errorf("reading patch template %s: %w", r.Name, err)
	}
	return gen.GetPatchTemplate200ApplicationVndAwsCdfV10PlusJSONResponse{
		Body: patchTemplate(t), Headers: gen.GetPatchTemplate200ResponseHeaders{ETag: entityTag(t.Version)},
	}, nil
}

func (s *server) ListPatchTemplates(ctx context.Context, r gen.ListPatchTemplatesRequestObject) (gen.ListPatchTemplatesResponseObject, error) {
	p := r.Params
	ts, next, err := s.Patches.Templates(ctx, patching.Page(page(opt(p.Count), opt(p.ExclusiveStartName))))
	if err != nil {
		return nil, fmt.Errorf("listing patch templates: %w", err)
	}
	return gen.ListPatchTemplates200ApplicationVndAwsCdfV10PlusJSONResponse{
		Templates: each(ts, patchTemplate), Pagination: pagination(opt(p.Count), api.LastEvaluated{Name: next}),
	}, nil
}

func (s *server) UpdatePatchTemplate(ctx context.Context, r gen.UpdatePatchTemplateRequestObject) (gen.UpdatePatchTemplateResponseObject, error) {
	version, err := ifVersion(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	b := r.Body
	text, err := playbook(b.PlaybookFileContents, b.PlaybookFileContent)
	if err != nil {
		return nil, err
	}
	t, err := s.Patches.UpdateTemplate(ctx, r.Name, patching.TemplateChange{
		PatchType:            given(b.PatchType),
		PlaybookName:         given(b.PlaybookName),
		PlaybookFileContents: given(text),
		Description:          b.Description,
		Enabled:              b.Enabled,
		ExtraVars:            b.ExtraVars,
		Options:              b.Options,
	}, version)
	if err != nil {
		return nil, fmt.Errorf("updating patch template %s: %w", r.Name, err)
	}
	return gen.UpdatePatchTemplate204Response{Headers: gen.UpdatePatchTemplate204ResponseHeaders{ETag: entityTag(t.Version)}}, nil
}

// given is nil for an absent text; the document lets no empty one pass.
func given(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (s *server) DeletePatchTemplate(ctx context.Context, r gen.DeletePatchTemplateRequestObject) (gen.DeletePatchTemplateResponseObject, error) {
	version, err := ifVersion(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	if err := s.Patches.DeleteTemplate(ctx, r.Name, version); err != nil {
		return nil, fmt.Errorf("deleting patch template %s: %w", r.Name, err)
	}
	return gen.DeletePatchTemplate204Response{}, nil
}

func (s *server) CreatePatchTask(ctx context.Context, r gen.CreatePatchTaskRequestObject) (gen.CreatePatchTaskResponseObject, error) {
	if n := len(r.Body.Patches); n > patching.MaxPatches {
		return nil, fault.Field("patches", "has %d elements, want %d or fewer", n, patching.MaxPatches)
	}
	id, err := s.Patches.CreateTask(ctx, patching.NewTask{Patches: each(r.Body.Patches, func(p api.NewPatch) patching.NewPatch {
		return patching.NewPatch{DeviceID: p.DeviceID, PatchTemplateName: p.PatchTemplateName, PatchType: p.PatchType, ExtraVars: p.ExtraVars}
	})}, idempotency(ctx))
	if err != nil {
		return nil, fmt.Errorf("creating a patch task: %w", err)
	}
	return gen.CreatePatchTask202Response{Headers: taskAccepted("/patchTasks/", id)}, nil
}

func (s *server) GetPatchTask(ctx context.Context, r gen.GetPatchTaskRequestObject) (gen.GetPatchTaskResponseObject, error) {
	t, err := s.Patches.Task(ctx, r.TaskID)
	if err != nil {
		return nil, fmt.Errorf("reading patch task %s: %w", r.TaskID, err)
	}
	return gen.GetPatchTask200ApplicationVndAwsCdfV10PlusJSONResponse{TaskID: t.ID, CreatedAt: api.At(t.CreatedAt), UpdatedAt: api.At(t.UpdatedAt)}, nil
}

func (s *server) ListPatchTaskPatches(ctx context.Context, r gen.ListPatchTaskPatchesRequestObject) (gen.ListPatchTaskPatchesResponseObject, error) {
	after, err := fromToken(r.Params.ExclusiveStartToken)
	if err != nil {
		return nil, err
	}
	ps, next, err := s.Patches.TaskPatches(ctx, r.TaskID, patching.Page(page(opt(r.Params.Count), after)))
	if err != nil {
		return nil, fmt.Errorf("listing the patches of task %s: %w", r.TaskID, err)
	}
	return gen.ListPatchTaskPatches200ApplicationVndAwsCdfV10PlusJSONResponse{PatchesFoundApplicationVndAwsCdfV10PlusJSONResponse: patches(ps, opt(r.Params.Count), next)}, nil
}

func (s *server) ListDevicePatches(ctx context.Context, r gen.ListDevicePatchesRequestObject) (gen.ListDevicePatchesResponseObject, error) {
	after, err := fromToken(r.Params.ExclusiveStartToken)
	if err != nil {
		return nil, err
	}
	f := patching.Filter{Status: patching.Status(opt(r.Params.PatchStatus))}
	ps, next, err := s.Patches.DevicePatches(ctx, r.Name, f, patching.Page(page(opt(r.Params.Count), after)))
	if err != nil {
		return nil, fmt.Errorf("listing the patches of device %s: %w", r.Name, err)
	}
	return gen.ListDevicePatches200ApplicationVndAwsCdfV10PlusJSONResponse{PatchesFoundApplicationVndAwsCdfV10PlusJSONResponse: patches(ps, opt(r.Params.Count), next)}, nil
}

func patches(ps []patching.Patch, count api.Count, next string) gen.PatchesFoundApplicationVndAwsCdfV10PlusJSONResponse {
	return gen.PatchesFoundApplicationVndAwsCdfV10PlusJSONResponse{Patches: each(ps, patch), Pagination: pagination(count, api.LastEvaluated{NextToken: toToken(next)})}
}

func (s *server) GetPatch(ctx context.Context, r gen.GetPatchRequestObject) (gen.GetPatchResponseObject, error) {
	p, err := s.Patches.Patch(ctx, r.PatchID)
	if err != nil {
		return nil, fmt.Errorf("reading patch %s: %w", r.PatchID, err)
	}
	return gen.GetPatch200ApplicationVndAwsCdfV10PlusJSONResponse(patch(p)), nil
}

// UpdatePatch knows one change: running the patch again.
func (s *server) UpdatePatch(ctx context.Context, r gen.UpdatePatchRequestObject) (gen.UpdatePatchResponseObject, error) {
	retry := patching.Retry{PatchTemplateName: r.Body.PatchTemplateName, ExtraVars: r.Body.ExtraVars}
	if err := s.Patches.RetryPatch(ctx, r.PatchID, retry); err != nil {
		return nil, fmt.Errorf("retrying patch %s: %w", r.PatchID, err)
	}
	return gen.UpdatePatch204Response{}, nil
}

func (s *server) DeletePatch(ctx context.Context, r gen.DeletePatchRequestObject) (gen.DeletePatchResponseObject, error) {
	if err := s.Patches.DeletePatch(ctx, r.PatchID); err != nil {
		return nil, fmt.Errorf("deleting patch %s: %w", r.PatchID, err)
	}
	return gen.DeletePatch204Response{}, nil
}

func patchTemplate(t patching.Template) api.PatchTemplate {
	return api.PatchTemplate{
		Name:           t.Name,
		PlaybookName:   t.PlaybookName,
		PlaybookSource: api.PlaybookSource{Bucket: t.Playbook.Bucket, Key: t.Playbook.Key},
		PatchType:      t.PatchType,
		ExtraVars:      t.ExtraVars,
		Options:        t.Options,
		VersionNo:      t.Version,
		Enabled:        t.Enabled,
		Description:    t.Description,
		CreatedAt:      api.At(t.CreatedAt),
		UpdatedAt:      api.At(t.UpdatedAt),
	}
}

func patch(p patching.Patch) api.Patch {
	return api.Patch{
		PatchID:           p.ID,
		TaskID:            p.TaskID,
		DeviceID:          p.DeviceID,
		PatchTemplateName: p.PatchTemplateName,
		PatchType:         p.PatchType,
		PatchStatus:       string(p.Status),
		StatusMessage:     p.StatusMessage,
		ExtraVars:         p.ExtraVars,
		AssociationID:     given(p.AssociationID),
		CreatedAt:         api.At(p.CreatedAt),
		UpdatedAt:         api.At(p.UpdatedAt),
	}
}
