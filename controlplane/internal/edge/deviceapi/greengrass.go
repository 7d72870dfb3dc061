package deviceapi

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/shared/fault"
)

type resolveRequest struct {
	Candidates []struct {
		Name         string            `json:"componentName"`
		Version      string            `json:"componentVersion"`
		Requirements map[string]string `json:"versionRequirements"`
	} `json:"componentCandidates"`
	Platform struct {
		Name       string            `json:"name"`
		Attributes map[string]string `json:"attributes"`
	} `json:"platform"`
}

type resolvedComponent struct {
	ARN            string `json:"arn"`
	Name           string `json:"componentName"`
	Version        string `json:"componentVersion"`
	Recipe         []byte `json:"recipe"` // base64 of JSON
	VendorGuidance string `json:"vendorGuidance,omitempty"`
}

// resolve is ResolveComponentCandidates (nucleus-contract §4.1).
func (a *API) resolve(w http.ResponseWriter, r *http.Request, id gateway.Identity) error {
	var in resolveRequest
	if err := decode(r, &in); err != nil {
		return err
	}
	candidates := make([]component.Candidate, len(in.Candidates))
	for i, c := range in.Candidates {
		if err := a.allowed(r, id, "greengrass:ResolveComponentCandidates", a.cfg.Realm.ComponentVersion(c.Name, "*")); err != nil {
			return err
		}
		candidates[i] = component.Candidate{Name: c.Name, Version: c.Version, Requirements: c.Requirements}
	}
	resolved, err := a.cfg.Components.Resolve(r.Context(), candidates, component.Platform{Name: in.Platform.Name, Attributes: in.Platform.Attributes})
	if err != nil {
		return err
	}
	out := make([]resolvedComponent, len(resolved))
	for i, x := range resolved {
		out[i] = resolvedComponent{ARN: x.ARN, Name: x.Name, Version: x.Version, Recipe: x.Recipe, VendorGuidance: x.VendorGuidance}
	}
	return answer(w, map[string]any{"resolvedComponentVersions": out})
}

// artifact is GetComponentVersionArtifact (§4.2).
func (a *API) artifact(w http.ResponseWriter, r *http.Request, id gateway.Identity) error {
	arn, name := r.PathValue("arn"), r.PathValue("name")
	if err := a.allowed(r, id, "greengrass:GetComponentVersionArtifact", arn); err != nil {
		return err
	}
	at, err := a.cfg.Components.Locate(r.Context(), arn, name)
	if errors.Is(err, fault.Invalid) { // lite repeats a 400: a name that cannot be is a name that is not there
		return fault.New(fault.NotFound, "%s", fault.Message(err))
	}
	if err != nil {
		return err
	}
	url, err := a.cfg.URLs.URL(at.Key, at.SHA256, path.Base(name))
	if err != nil {
		return fmt.Errorf("make download URL: %w", err)
	}
	return answer(w, map[string]string{"preSignedUrl": url})
}

type thingGroup struct {
	Name  string `json:"thingGroupName"`
	ARN   string `json:"thingGroupArn,omitempty"`
	Roots *[]any `json:"rootToParentThingGroups,omitempty"`
}

// thingGroups is ListThingGroupsForCoreDevice (§4.3). Lite reads 2,048 bytes of
// one page and only the names, and keeps the components of its own thing's
// deployment only if the thing's name is among them.
func (a *API) thingGroups(w http.ResponseWriter, r *http.Request, id gateway.Identity) error {
	thing := r.PathValue("thing")
	if thing != id.Thing {
		return fault.New(fault.Denied, "certificate %s is not of thing %s", id.CertificateID, thing)
	}
	if err := a.allowed(r, id, "greengrass:ListThingGroupsForCoreDevice", a.cfg.Realm.CoreDevice(thing)); err != nil {
		return err
	}
	groups, err := a.cfg.Cores.GroupsOf(r.Context(), thing)
	if err != nil {
		return err
	}
	lite, known, err := a.cfg.Cores.IsLite(r.Context(), thing)
	if err != nil {
		return err
	}
	if !known || r.UserAgent() == "" {
		lite = r.UserAgent() == "" // lite names no agent, the SDK of classic always does
	}
	out := make([]thingGroup, 0, len(groups)+1)
	for _, g := range groups {
		if lite {
			out = append(out, thingGroup{Name: g})
		} else {
			out = append(out, thingGroup{Name: g, ARN: a.cfg.Realm.ThingGroup(g), Roots: &[]any{}})
		}
	}
	if lite {
		out = append(out, thingGroup{Name: thing})
	}
	return answer(w, map[string]any{"thingGroups": out})
}

// credentials is the credentials provider (§5.1, iot-api §17). What it hands out
// tells the AWS endpoint which device calls and opens nothing there: devices come
// with their certificates. But lite needs an answer in every deployment (trap 22).
func (a *API) credentials(w http.ResponseWriter, r *http.Request, id gateway.Identity) error {
	alias := r.PathValue("alias")
	if thing := r.Header.Get("x-amzn-iot-thingname"); thing != "" && thing != id.Thing {
		return fault.New(fault.Denied, "certificate %s is not of thing %s", id.CertificateID, thing)
	}
	if err := a.allowed(r, id, "iot:AssumeRoleWithCertificate", a.cfg.Realm.RoleAlias(alias)); err != nil {
		return err
	}
	ra, err := a.cfg.RoleAliases.RoleAlias(r.Context(), alias)
	if err != nil {
		return err
	}
	s, err := a.cfg.Sessions.Issue(r.Context(), id.Thing, alias, time.Duration(ra.DurationSeconds)*time.Second)
	if err != nil {
		return err
	}
	return answer(w, map[string]any{"credentials": map[string]string{
		"accessKeyId":     s.AccessKey,
		"secretAccessKey": s.Secret.Reveal(),
		"sessionToken":    s.Token,
		"expiration":      s.Expires.Format(time.RFC3339),
	}})
}
