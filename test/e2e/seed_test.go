package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

const mediaType = "application/vnd.aws-cdf-v1.0+json"

// The requests of the README that the project was created from, as they stand
// there, with their placeholders, its missing commas added (spec cdf-services
// D-16). Authorization is added when they are sent.
const (
	seedCoreTask = `POST /coreTasks
Accept: application/vnd.aws-cdf-v1.0+json
Content-Type: application/vnd.aws-cdf-v1.0+json

{
  "coreVersion": "2.5.0",
  "type": "Create",
  "cores": [
    {
      "name": "<core-name>",
      "provisioningTemplate": "<provisioning-template>",
      "provisioningParameters": {
        "ThingName": "<core-name>"
      },
      "cdfProvisioningParameters": {
        "caId": "<ca-id>",
        "certInfo": {
          "country": "US"
        }
      },
      "configFileGenerator": "MANUAL_INSTALL"
    }
  ]
}`
	seedTemplate = `POST /templates
Accept: application/vnd.aws-cdf-v1.0+json
Content-Type: application/vnd.aws-cdf-v1.0+json

{
  "name": "<template-name>",
  "components": [
    {
      "key": "aws.greengrass.Cli",
      "version": "2.5.0"
    }
  ]
}`
	seedDeploymentTask = `POST /deploymentTasks
Accept: application/vnd.aws-cdf-v1.0+json
Content-Type: application/vnd.aws-cdf-v1.0+json

{
  "template": {
    "name": "<template-name>",
    "version" : "<template-version>"
  },
  "targets": {
    "thingNames": [
      "<core-name>"
    ]
  }
}`
)

// seedGet is the form of every look-up in the README.
func seedGet(path string) string {
	return "GET " + path + "\nAccept: " + mediaType + "\nContent-Type: " + mediaType
}

var (
	taskID   = regexp.MustCompile(`^[A-Za-z0-9_\-]{9}$`)
	dateText = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$`)
)

// seedServer is a running control plane: GGFLEET_E2E_URL and GGFLEET_E2E_TOKEN
// say where, and who asks.
type seedServer struct {
	*testing.T
	url, token string
}

// send fills the placeholders of a raw request, sends it, and checks status and
// media type.
func (s seedServer) send(raw string, want int, fill ...string) (http.Header, map[string]any) {
	s.Helper()
	raw = strings.NewReplacer(fill...).Replace(raw)
	head, body, _ := strings.Cut(raw, "\n\n")
	lines := strings.SplitN(head, "\n", 2)
	head = lines[0] + " HTTP/1.1\r\nHost: seed\r\nConnection: close\r\n" + fmt.Sprintf("Content-Length: %d\r\n", len(body))
	if len(lines) > 1 {
		head += strings.ReplaceAll(lines[1], "\n", "\r\n") + "\r\n"
	}
	if s.token != "" {
		head += "Authorization: Bearer " + s.token + "\r\n"
	}
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\r\n" + body)))
	if err != nil {
		s.Fatalf("the request is not HTTP: %v\n%s", err, head)
	}
	u, err := url.Parse(s.url)
	if err != nil {
		s.Fatal(err)
	}
	req.URL.Scheme, req.URL.Host, req.RequestURI, req.Host = u.Scheme, u.Host, "", u.Host
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	defer cancel()
	res, err := http.DefaultClient.Do(req.WithContext(ctx))
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	if res.StatusCode != want {
		s.Fatalf("%s: status %d, want %d: %s", lines[0], res.StatusCode, want, b)
	}
	if got := res.Header.Get("Content-Type"); got != mediaType {
		s.Errorf("%s: Content-Type %q", lines[0], got)
	}
	var v map[string]any
	if len(bytes.TrimSpace(b)) > 0 {
		if err := json.Unmarshal(b, &v); err != nil {
			s.Fatalf("%s: the body is no JSON object: %s", lines[0], b)
		}
	}
	return res.Header, v
}

// task waits until a task has ended, and wants Success unless anyEnd.
func (s seedServer) task(path string, anyEnd bool) map[string]any {
	s.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); <-tick.C {
		_, t := s.send(seedGet(path), 200)
		switch status := t["taskStatus"]; {
		case status == "Success", status == "Failure" && anyEnd:
			return t
		case status == "Failure":
			s.Fatalf("%s ended in Failure: %v", path, t)
		}
	}
	s.Fatalf("%s did not end within a minute", path)
	return nil
}

func (s seedServer) date(of string, v any) {
	s.Helper()
	if text, _ := v.(string); !dateText.MatchString(text) {
		s.Errorf("%s: %v is no date of three fractional digits", of, v)
	}
}

func (s seedServer) equal(what string, got, want any) {
	s.Helper()
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if !bytes.Equal(g, w) {
		s.Errorf("%s: got %s, want %s", what, g, w)
	}
}

// TestSeedWalkthrough walks through the README against a running server.
func TestSeedWalkthrough(t *testing.T) {
	s := seedServer{t, os.Getenv("GGFLEET_E2E_URL"), os.Getenv("GGFLEET_E2E_TOKEN")}
	if s.url == "" {
		t.Skip("GGFLEET_E2E_URL names no running server")
	}
	run := strings.ToLower(rand.Text()[:8])
	core, template := "seed-core-"+run, "seed-template-"+run
	_, ca := s.send(seedGet("/ca"), 200)
	caID, _ := ca["caId"].(string)

	header, _ := s.send(seedCoreTask, 202, "<core-name>", core, "<provisioning-template>", "default", "<ca-id>", caID)
	id := header.Get("x-taskid")
	if !taskID.MatchString(id) {
		t.Errorf("x-taskid %q is not nine characters of the URL-safe alphabet", id)
	}
	s.equal("location", header.Get("Location"), "/coreTasks/"+id)

	task := s.task("/coreTasks/"+id, false)
	s.equal("id", task["id"], id)
	s.equal("coreVersion", task["coreVersion"], "2.5.0")
	s.equal("type", task["type"], "Create")
	s.date("createdAt", task["createdAt"])
	s.date("updatedAt", task["updatedAt"])
	item := task["cores"].([]any)[0].(map[string]any)
	s.equal("item", []any{item["name"], item["taskStatus"]}, []any{core, "Success"})
	s.date("item.updatedAt", item["updatedAt"])
	_, alias := s.send(seedGet("/cores/"+core+"/coreTasks/"+id), 200)
	s.equal("the task under its core", alias["id"], id)

	_, c := s.send(seedGet("/cores/"+core), 200)
	artifacts := c["artifacts"].(map[string]any)
	for kind, file := range map[string]string{"certs": "certs.zip", "config": "installerConfig.yml"} {
		a, ok := artifacts[kind].(map[string]any)
		if !ok {
			t.Fatalf("core without artifact %s: %v", kind, c)
		}
		if key, _ := a["key"].(string); !strings.HasSuffix(key, core+"/"+core+"/"+file) {
			t.Errorf("key of %s: %v", kind, a["key"])
		}
		s.date(kind+".createdAt", a["createdAt"])
	}
	device := c["device"].(map[string]any)
	s.equal("device", []any{device["installedComponents"], device["effectiveDeployments"], device["status"]}, []any{[]any{}, []any{}, "UNKNOWN"})
	s.equal("template", c["template"], map[string]any{
		"desired":  map[string]any{"name": "None", "version": 0},
		"reported": map[string]any{"name": "None", "version": 0, "deploymentStatus": "None"},
	})

	header, _ = s.send(seedTemplate, 201, "<template-name>", template)
	s.equal("location", header.Get("Location"), "/templates/"+template)
	_, tpl := s.send(seedGet("/templates/"+template), 200)
	s.date("createdAt", tpl["createdAt"])
	delete(tpl, "createdAt")
	s.equal("template", tpl, map[string]any{"name": template, "version": 1, "components": []any{map[string]any{"key": "aws.greengrass.Cli", "version": "2.5.0"}}, "updatedAt": nil})

	// The core is not powered on, so what becomes of it is not asserted here.
	header, _ = s.send(seedDeploymentTask, 202, "<template-name>", template, "<template-version>", "1", "<core-name>", core)
	id = header.Get("x-taskid")
	s.equal("location", header.Get("Location"), "/deploymentTasks/"+id)
	task = s.task("/deploymentTasks/"+id, true)
	s.equal("template", task["template"], map[string]any{"name": template, "version": 1})
	s.equal("targets", task["targets"], map[string]any{"thingNames": []any{core}})
	s.equal("core", task["deployments"].([]any)[0].(map[string]any)["coreName"], core)
	s.equal("batches", []any{task["batchesComplete"], task["batchesTotal"]}, []any{1, 1})

	_, summary := s.send(seedGet("/fleet/summary"), 200)
	row := summary["templates"].(map[string]any)[template].(map[string]any)
	s.equal("latestVersion", row["latestVersion"], 1)
	for _, counter := range []string{"desiredInUse", "reportedInUse", "lastDeploymentSuccess", "lastDeploymentFailed", "lastDeploymentInProgress"} {
		if _, ok := row["versions"].(map[string]any)["1"].(map[string]any)[counter]; !ok {
			t.Errorf("the summary lacks %s", counter)
		}
	}
}
