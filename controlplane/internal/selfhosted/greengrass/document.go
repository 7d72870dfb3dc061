package greengrass

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Largest deployment documents by target, in bytes (greengrassv2-api §7).
const (
	maxThingDocument = 7 << 10
	maxGroupDocument = 31 << 10
)

// subDeployments is what a nucleus must be able to do to take up a sub-deployment.
const subDeployments = "SUB_DEPLOYMENTS"

// document is what devices get, without the timestamp that each execution adds
// (nucleus-contract §3).
func (s *Service) document(d Deployment) (json.RawMessage, error) {
	realm := s.registry.Realm()
	doc := protocol.DeploymentDocument{
		SchemaDate: protocol.SchemaDate, DeploymentID: d.ID, DeploymentName: d.Name,
		ConfigurationARN: realm.Configuration(d.Kind, d.Target, d.Revision),
		Components:       map[string]protocol.DocumentComponent{},
		FailureHandling:  d.Policies.FailureHandling,
		ComponentUpdate:  &protocol.DocumentUpdatePolicy{Timeout: d.Policies.UpdateTimeout, Action: d.Policies.UpdateAction},
		ConfigValidation: &protocol.DocumentValidationPolicy{Timeout: d.Policies.ValidationTimeout},
	}
	if d.Parent != "" { // the nucleus counts the components among the parent's
		doc.RequiredCapabilities = []string{subDeployments}
		doc.ParentTargetARN, doc.OnBehalfOf = realm.ThingGroup(d.Parent), realm.ThingGroup(d.Parent)
	}
	for name, c := range d.Components {
		var err error
		if doc.Components[name], err = documentComponent(c); err != nil {
			return nil, fault.Under("components."+name, err)
		}
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode deployment document: %w", err)
	}
	limit := maxGroupDocument
	if d.Kind == names.TargetThing {
		limit = maxThingDocument
	}
	if len(b) > limit {
		return nil, fault.New(fault.Invalid, "the deployment document of %d bytes is over the limit of %d for a %s; deploy fewer components or less configuration", len(b), limit, d.Kind)
	}
	return b, nil
}

func documentComponent(c Component) (protocol.DocumentComponent, error) {
	out := protocol.DocumentComponent{Version: c.Version}
	if u := c.Update; u != nil && (u.Merge != nil || len(u.Reset) > 0) {
		merge, err := object(u.Merge)
		if err != nil {
			return out, fault.Field("configurationUpdate.merge", "%s", err)
		}
		out.ConfigurationUpdate = &protocol.DocumentConfiguration{Merge: merge, Reset: u.Reset}
	}
	if r := c.RunWith; r != nil {
		out.RunWith = &protocol.DocumentRunWith{PosixUser: r.PosixUser, WindowsUser: r.WindowsUser, SystemResourceLimits: r.Limits}
	}
	return out, nil
}

// object checks that text holds one JSON object and returns it compacted.
func object(text *string) (json.RawMessage, error) {
	if text == nil {
		return nil, nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(*text), &m); err != nil || m == nil {
		return nil, errors.New("must be text that holds a JSON object")
	}
	var out bytes.Buffer
	if err := json.Compact(&out, []byte(*text)); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
