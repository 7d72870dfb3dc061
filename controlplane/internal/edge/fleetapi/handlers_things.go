package fleetapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
)

func (s *server) CreateThing(ctx context.Context, r gen.CreateThingRequestObject) (gen.CreateThingResponseObject, error) {
	b := r.Body
	t, err := s.Things.Provision(ctx, provisioning.NewThing{TemplateID: b.ProvisioningTemplateID, Parameters: b.Parameters, CDF: b.CdfProvisioningParameters})
	if err != nil {
		return nil, fmt.Errorf("provisioning a thing by template %s: %w", b.ProvisioningTemplateID, err)
	}
	out := api.ProvisionedThing{CertificatePem: t.CertificatePEM, PrivateKey: t.PrivateKey, ResourceArns: filled(t.ResourceARNs)}
	return gen.CreateThing201ApplicationVndAwsCdfV10PlusJSONResponse{
		Body:    out,
		Headers: gen.CreateThing201ResponseHeaders{Location: "/things/" + url.PathEscape(t.ThingName)},
	}, nil
}

func (s *server) GetThing(ctx context.Context, r gen.GetThingRequestObject) (gen.GetThingResponseObject, error) {
	t, err := s.Things.Thing(ctx, r.Name)
	if err != nil {
		return nil, fmt.Errorf("reading thing %s: %w", r.Name, err)
	}
	return gen.GetThing200ApplicationVndAwsCdfV10PlusJSONResponse(thing(t)), nil
}

func (s *server) DeleteThing(ctx context.Context, r gen.DeleteThingRequestObject) (gen.DeleteThingResponseObject, error) {
	if err := s.Things.Delete(ctx, r.Name); err != nil {
		return nil, fmt.Errorf("deleting thing %s: %w", r.Name, err)
	}
	return gen.DeleteThing204Response{}, nil
}

func (s *server) UpdateThingCertificates(ctx context.Context, r gen.UpdateThingCertificatesRequestObject) (gen.UpdateThingCertificatesResponseObject, error) {
	status := cloud.CertificateStatus(r.Body.CertificateStatus)
	if r.Body.CertificateStatus == api.CertificateInActive {
		status = cloud.Inactive
	}
	if err := s.Things.SetCertificates(ctx, r.Name, status); err != nil {
		return nil, fmt.Errorf("setting the certificates of thing %s to %s: %w", r.Name, status, err)
	}
	return gen.UpdateThingCertificates204Response{}, nil
}

func (s *server) CreateBulkThings(ctx context.Context, r gen.CreateBulkThingsRequestObject) (gen.CreateBulkThingsResponseObject, error) {
	id, err := s.Things.CreateBulk(ctx, provisioning.NewBulk{TemplateID: r.Body.ProvisioningTemplateID, Things: r.Body.Parameters}, idempotency(ctx))
	if err != nil {
		return nil, fmt.Errorf("creating a bulk task of template %s: %w", r.Body.ProvisioningTemplateID, err)
	}
	return gen.CreateBulkThings201ApplicationVndAwsCdfV10PlusJSONResponse{
		Body:    api.BulkThingsAccepted{TaskID: id},
		Headers: gen.CreateBulkThings201ResponseHeaders{Location: "/bulkthings/" + url.PathEscape(id), XTaskid: id},
	}, nil
}

func (s *server) GetBulkThings(ctx context.Context, r gen.GetBulkThingsRequestObject) (gen.GetBulkThingsResponseObject, error) {
	b, err := s.Things.Bulk(ctx, r.TaskID)
	if err != nil {
		return nil, fmt.Errorf("reading bulk task %s: %w", r.TaskID, err)
	}
	return gen.GetBulkThings200ApplicationVndAwsCdfV10PlusJSONResponse{
		TaskID:             b.TaskID,
		Status:             api.BulkThingsStatus(b.Status),
		CreationDate:       api.At(b.CreatedAt),
		LastModifiedDate:   api.At(b.UpdatedAt),
		SuccessCount:       b.Success,
		FailureCount:       b.Failure,
		PercentageProgress: b.Percentage,
	}, nil
}

// thing shows a certificate as INACTIVE in every state in which it can not
// connect (spec cdf-services §4.2).
func thing(t cloud.ThingDetail) api.Thing {
	return api.Thing{
		ThingName:  t.Name,
		Arn:        t.ARN,
		ThingType:  t.Type,
		Attributes: filled(t.Attributes),
		Certificates: each(t.Certificates, func(c cloud.CertificateDetail) api.ThingCertificate {
			status := api.CertificateShownInactive
			if c.Status == cloud.Active {
				status = api.CertificateShownActive
			}
			return api.ThingCertificate{CertificateID: c.ID, Arn: c.ARN, CertificateStatus: status, CertificatePem: c.PEM}
		}),
		Policies: each(t.Policies, func(p cloud.PolicyDetail) api.ThingPolicy {
			return api.ThingPolicy{PolicyName: p.Name, Arn: p.ARN, PolicyDocument: json.RawMessage(p.Document)}
		}),
		Groups: each(t.Groups, func(g cloud.GroupDetail) api.ThingGroup {
			return api.ThingGroup{GroupName: g.Name, Arn: g.ARN, Attributes: filled(g.Attributes)}
		}),
	}
}

// filled is never nil, so that an empty map is written as {}.
func filled(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
