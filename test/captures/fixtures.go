package captures

import (
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

//go:embed testdata/*.txt
var files embed.FS

// Load parses the captures of this repository, in the order of their names.
func Load() ([]Script, error) {
	list, err := files.ReadDir("testdata")
	if err != nil {
		return nil, fmt.Errorf("listing the captures: %w", err)
	}
	var out []Script
	for _, f := range list {
		b, err := files.ReadFile(path.Join("testdata", f.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading a capture: %w", err)
		}
		s, err := Parse(strings.TrimSuffix(f.Name(), ".txt"), b)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Replayable reports whether Replay can play s: not what provisions by claim.
func (s Script) Replayable() bool {
	for _, e := range s.Entries {
		if e.Packet != nil && strings.HasPrefix(e.Packet.Topic, "$aws/certificates/") {
			return false
		}
	}
	return true
}

// Component is a component version that a capture's deployments name.
type Component struct {
	Name, Version string
	Recipe        []byte            // JSON, with greengrass: URIs
	Artifacts     map[string][]byte // by what follows greengrass: in the Uri
}

// Components collects the component versions that the cloud of the captures
// handed out, each once: what a target must have before its deployments.
func Components(scripts ...Script) ([]Component, error) {
	var list []Component
	index := map[string]int{}
	for _, s := range scripts {
		var wanted struct{ arn, name string }
		for _, e := range s.Entries {
			switch {
			case e.Request != nil && e.Service == "dataplane":
				wanted.arn, wanted.name, _ = strings.Cut(strings.TrimPrefix(e.Request.Path, "/greengrass/v2/components/"), "/artifacts/")
			case e.Response != nil && e.Service == "artifacts-http":
				if i, ok := index[wanted.arn]; ok {
					list[i].Artifacts[wanted.name] = e.Response.Body
				}
			case e.Response != nil && e.Service == "dataplane":
				r, ok := resolvedIn(e.Response.Body)
				if _, known := index[r.ARN]; !ok || known {
					continue
				}
				recipe, err := base64.StdEncoding.DecodeString(r.Recipe)
				if err != nil {
					return nil, fault.New(fault.Invalid, "capture %s line %d: recipe: %v", s.Name, e.Line, err)
				}
				index[r.ARN] = len(list)
				list = append(list, Component{Name: r.ComponentName, Version: r.ComponentVersion, Recipe: recipe, Artifacts: map[string][]byte{}})
			}
		}
	}
	return list, nil
}

type resolved struct {
	ARN              string `json:"arn"`
	ComponentName    string `json:"componentName"`
	ComponentVersion string `json:"componentVersion"`
	Recipe           string `json:"recipe"`
}

func resolvedIn(body []byte) (resolved, bool) {
	var a struct {
		Resolved []resolved `json:"resolvedComponentVersions"`
	}
	if json.Unmarshal(body, &a) != nil || len(a.Resolved) != 1 {
		return resolved{}, false
	}
	return a.Resolved[0], true
}

// deployment is a job that the capture's cloud handed out, and the entry before
// which it was made.
type deployment struct {
	before int
	job    string
	doc    protocol.DeploymentDocument
}

// deployments finds the jobs of a capture, in the order they were made.
func (s Script) deployments() ([]deployment, error) {
	var list []deployment
	seen := map[string]bool{}
	for i, e := range s.Entries {
		execution := executionIn(e)
		if execution == nil || seen[execution.JobID] {
			continue
		}
		seen[execution.JobID] = true
		d := deployment{before: i, job: execution.JobID}
		if err := json.Unmarshal(execution.JobDocument, &d.doc); err != nil {
			return nil, fault.New(fault.Invalid, "capture %s line %d: job document: %v", s.Name, e.Line, err)
		}
		made := time.UnixMilli(d.doc.CreationTimestamp).UTC()
		clock := made.Sub(made.Truncate(24 * time.Hour))
		for d.before > 0 && s.Entries[d.before-1].Time > clock {
			d.before--
		}
		list = append(list, d)
	}
	return list, nil
}

// executionIn is the execution that a packet of the cloud carries, if any.
func executionIn(e Entry) *protocol.JobExecution {
	if e.Core || e.Packet == nil || e.Packet.Type != "PUBLISH" {
		return nil
	}
	var a protocol.JobAnswer
	if json.Unmarshal(e.Packet.Payload, &a) != nil || a.Execution == nil {
		return nil
	}
	return a.Execution
}
