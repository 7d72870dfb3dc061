package fleetapi

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func (s *server) ListProvisioningTemplates(ctx context.Context, _ gen.ListProvisioningTemplatesRequestObject) (gen.ListProvisioningTemplatesResponseObject, error) {
	ts, err := s.ProvisioningTemplates.ProvisioningTemplates(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing provisioning templates: %w", err)
	}
	return gen.ListProvisioningTemplates200ApplicationVndAwsCdfV10PlusJSONResponse{
		ProvisioningTemplates: each(ts, func(t ProvisioningTemplateInfo) api.ProvisioningTemplateInfo {
			return api.ProvisioningTemplateInfo{ID: t.ID, Size: t.Size, UpdatedAt: api.At(t.UpdatedAt)}
		}),
	}, nil
}

// document answers with JSON that is not written anew.
type document struct {
	text []byte
	etag string
}

func (d document) VisitGetProvisioningTemplateResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", api.MediaType)
	w.Header().Set("ETag", quoted(d.etag))
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(d.text)
	return err //nolint:wrapcheck // the caller went away
}

func (s *server) GetProvisioningTemplate(ctx context.Context, r gen.GetProvisioningTemplateRequestObject) (gen.GetProvisioningTemplateResponseObject, error) {
	text, etag, err := s.ProvisioningTemplates.ProvisioningTemplate(ctx, r.ID)
	if err != nil {
		return nil, fmt.Errorf("reading provisioning template %s: %w", r.ID, err)
	}
	return document{text, etag}, nil
}

func (s *server) PutProvisioningTemplate(ctx context.Context, r gen.PutProvisioningTemplateRequestObject) (gen.PutProvisioningTemplateResponseObject, error) {
	m, err := demand(r.Params.IfMatch, r.Params.IfNoneMatch)
	if err != nil {
		return nil, err
	}
	etag, err := s.ProvisioningTemplates.PutProvisioningTemplate(ctx, r.ID, *r.Body, m)
	if err != nil {
		return nil, fmt.Errorf("storing provisioning template %s: %w", r.ID, err)
	}
	return gen.PutProvisioningTemplate204Response{Headers: gen.PutProvisioningTemplate204ResponseHeaders{ETag: quoted(etag)}}, nil
}

func (s *server) DeleteProvisioningTemplate(ctx context.Context, r gen.DeleteProvisioningTemplateRequestObject) (gen.DeleteProvisioningTemplateResponseObject, error) {
	m, err := demand(r.Params.IfMatch, nil)
	if err != nil {
		return nil, err
	}
	if err := s.ProvisioningTemplates.DeleteProvisioningTemplate(ctx, r.ID, m); err != nil {
		return nil, fmt.Errorf("deleting provisioning template %s: %w", r.ID, err)
	}
	return gen.DeleteProvisioningTemplate204Response{}, nil
}

// What an activation may be left to (spec cdf-services §6.2: the defaults of
// AWS).
const (
	defaultActivationSeconds = 24 * 60 * 60
	defaultRegistrations     = 1
)

var (
	// deviceID is letters, separators and digits of any script and a few signs.
	// Its length is in the document.
	deviceID     = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]+$`)
	activationID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
)

// maxDeviceID is the limit of a device id in bytes (spec cdf-services §6.2).
const maxDeviceID = 256

func (s *server) CreateActivation(ctx context.Context, r gen.CreateActivationRequestObject) (gen.CreateActivationResponseObject, error) {
	b := r.Body
	if len(b.DeviceID) > maxDeviceID || !deviceID.MatchString(b.DeviceID) {
		return nil, fault.Field("deviceId", "%s is no device id: 1 to %d bytes of letters, separators and digits of any script and _ . : / = + - @", show(b.DeviceID), maxDeviceID)
	}
	a := NewActivation{DeviceID: b.DeviceID, ValidFor: defaultActivationSeconds * time.Second, Registrations: defaultRegistrations, Role: protocol.Role(b.Role)}
	if b.ExpiresInSeconds > 0 {
		a.ValidFor = time.Duration(b.ExpiresInSeconds) * time.Second
	}
	if b.RegistrationLimit > 0 {
		a.Registrations = b.RegistrationLimit
	}
	issued, err := s.Activations.CreateActivation(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("creating an activation for %s: %w", b.DeviceID, err)
	}
	return gen.CreateActivation200ApplicationVndAwsCdfV10PlusJSONResponse{
		ActivationID:     issued.ID,
		ActivationCode:   issued.Code,
		ActivationRegion: issued.Region,
		Enrollment:       issued.Enrollment,
	}, nil
}

func (s *server) GetActivation(ctx context.Context, r gen.GetActivationRequestObject) (gen.GetActivationResponseObject, error) {
	a, err := s.Activations.Activation(ctx, r.ActivationID)
	if err != nil {
		return nil, fmt.Errorf("reading activation %s: %w", r.ActivationID, err)
	}
	return gen.GetActivation200ApplicationVndAwsCdfV10PlusJSONResponse{
		ActivationID:      a.ID,
		DeviceID:          a.DeviceID,
		CreatedAt:         api.At(a.CreatedAt),
		UpdatedAt:         api.At(a.UpdatedAt),
		ExpiresAt:         api.At(a.ExpiresAt),
		RegistrationLimit: a.RegistrationLimit,
		Registrations:     a.Registrations,
		Role:              api.AgentRole(a.Role),
	}, nil
}

// DeleteActivation answers an unknown id as if it had been there (spec
// cdf-services §6.2).
func (s *server) DeleteActivation(ctx context.Context, r gen.DeleteActivationRequestObject) (gen.DeleteActivationResponseObject, error) {
	if !activationID.MatchString(r.ActivationID) {
		return nil, fault.Field("activationId", "%s is no lower-case UUID", show(r.ActivationID))
	}
	if err := s.Activations.DeleteActivation(ctx, r.ActivationID); err != nil && fault.KindOf(err) != fault.NotFound {
		return nil, fmt.Errorf("deleting activation %s: %w", r.ActivationID, err)
	}
	return gen.DeleteActivation204Response{}, nil
}
