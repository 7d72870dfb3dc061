package standin

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
)

func (c *Cloud) dataPlane(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	c.mu.Lock()
	c.requests = append(c.requests, r.Method+" "+path)
	fault := c.faults.HTTP
	th := c.things[r.TLS.PeerCertificates[0].Subject.CommonName]
	c.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	switch {
	case th == nil:
		refuse(w, http.StatusForbidden, "AccessDeniedException")
	case path == "/greengrass/v2/resolveComponentCandidates":
		c.resolve(w, r)
	case strings.HasPrefix(path, "/greengrass/v2/coreDevices/"):
		c.thingGroups(w, r, th)
	case strings.HasPrefix(path, "/greengrass/v2/components/"):
		c.artifactURL(w, path)
	case strings.HasPrefix(path, "/role-aliases/"):
		answer(w, map[string]any{"credentials": map[string]string{
			"accessKeyId": "ASIAEXAMPLE", "secretAccessKey": "secret", "sessionToken": "token", "expiration": time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z"),
		}})
	default:
		refuse(w, http.StatusNotFound, "ResourceNotFoundException")
	}
}

func (c *Cloud) thingGroups(w http.ResponseWriter, r *http.Request, th *thing) {
	type group struct {
		Name string `json:"thingGroupName"`
	}
	c.mu.Lock()
	list := append([]string{th.name}, th.groups...)
	c.mu.Unlock()
	if r.UserAgent() == "" { // lite: one page
		out := []group{}
		for _, g := range list {
			out = append(out, group{g})
		}
		answer(w, map[string]any{"thingGroups": out})
		return
	}
	page, i := map[string]any{}, 0 // classic: one group a page
	if token := r.URL.Query().Get("nextToken"); token != "" {
		i = max(0, slices.Index(list, token))
	}
	page["thingGroups"] = []group{{list[i]}}
	if i+1 < len(list) {
		page["nextToken"] = list[i+1]
	}
	answer(w, page)
}

func (c *Cloud) resolve(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Candidates []struct {
			Name         string            `json:"componentName"`
			Requirements map[string]string `json:"versionRequirements"`
		} `json:"componentCandidates"`
	}
	b, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if json.Unmarshal(b, &req) != nil || len(req.Candidates) != 1 {
		refuse(w, http.StatusForbidden, "ValidationException")
		return
	}
	name := req.Candidates[0].Name
	c.mu.Lock()
	defer c.mu.Unlock()
	var best *component
	for i, candidate := range c.components[name] {
		if fits(candidate.version, req.Candidates[0].Requirements) && (best == nil || semver.MustParse(candidate.version).GreaterThan(semver.MustParse(best.version))) {
			best = &c.components[name][i]
		}
	}
	if best == nil {
		refuse(w, http.StatusNotFound, "ResourceNotFoundException")
		return
	}
	answer(w, map[string]any{"resolvedComponentVersions": []map[string]any{{
		"arn": Realm.ComponentVersion(name, best.version), "componentName": name, "componentVersion": best.version, "recipe": best.recipe,
	}}})
}

func fits(version string, requirements map[string]string) bool {
	for _, r := range requirements {
		constraint, err := semver.NewConstraint(r)
		if err != nil || !constraint.Check(semver.MustParse(version)) {
			return false
		}
	}
	return true
}

func (c *Cloud) artifactURL(w http.ResponseWriter, path string) {
	arn, name, _ := strings.Cut(strings.TrimPrefix(path, "/greengrass/v2/components/"), "/artifacts/")
	arn, _ = url.PathUnescape(arn)
	parts := strings.Split(arn, ":")
	if len(parts) != 9 {
		refuse(w, http.StatusNotFound, "ResourceNotFoundException")
		return
	}
	answer(w, map[string]string{"preSignedUrl": c.ArtifactURL + "/" + parts[6] + "/" + parts[8] + "/" + name + "?X-Amz-Signature=abc"})
}

func (c *Cloud) artifact(w http.ResponseWriter, r *http.Request) {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 3)
	c.mu.Lock()
	var body []byte
	if len(parts) == 3 {
		for _, comp := range c.components[parts[0]] {
			if comp.version == parts[1] {
				body = comp.artifacts[parts[2]]
			}
		}
	}
	c.mu.Unlock()
	if body == nil {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, code int, kind string) {
	w.Header().Set("x-amzn-ErrorType", kind)
	w.WriteHeader(code)
	_, _ = w.Write([]byte(`{"message":"no usable version"}`))
}
