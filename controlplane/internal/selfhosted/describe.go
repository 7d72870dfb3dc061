package selfhosted

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Describe implements cloud.Things.
func (c *Cloud) Describe(ctx context.Context, name string) (cloud.ThingDetail, error) {
	t, err := c.Registry.Thing(ctx, name)
	if err != nil {
		return cloud.ThingDetail{}, err
	}
	realm := c.Registry.Realm()
	out := cloud.ThingDetail{
		Name: t.Value.Name, ARN: realm.Thing(t.Value.Name), Type: t.Value.Type, Attributes: t.Value.Attributes, Version: t.Value.Version,
	}
	certificates, err := c.Registry.Certificates(ctx, t.Value)
	if err != nil {
		return out, err
	}
	var policies []string
	for _, x := range certificates {
		out.Certificates = append(out.Certificates, cloud.CertificateDetail{ID: x.ID, ARN: realm.Certificate(x.ID), Status: x.Status, PEM: x.PEM})
		policies = append(policies, x.Policies...)
	}
	slices.Sort(policies)
	for _, n := range slices.Compact(policies) {
		p, err := c.Registry.Policy(ctx, n)
		if errors.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return out, fmt.Errorf("read policy %s of thing %s: %w", n, name, err)
		}
		out.Policies = append(out.Policies, cloud.PolicyDetail{Name: n, ARN: realm.Policy(n), Document: p.Document})
	}
	for _, n := range t.Value.Groups {
		g, err := c.Registry.Group(ctx, n)
		if err != nil && !errors.Is(err, fault.NotFound) {
			return out, fmt.Errorf("read thing group %s of thing %s: %w", n, name, err)
		}
		attributes := map[string]string{}
		maps.Copy(attributes, g.Value.Attributes)
		out.Groups = append(out.Groups, cloud.GroupDetail{Name: n, ARN: realm.ThingGroup(n), Attributes: attributes})
	}
	return out, nil
}
