package captures

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// RecipeProblems lists where a recipe, as handed out to a device, is not in the
// normal form that both runtimes read (nucleus-contract §8, trap 49). It is empty
// for a good one.
func RecipeProblems(raw []byte) []string {
	var r map[string]any
	if err := json.Unmarshal(raw, &r); err != nil {
		return []string{"is not a JSON object: " + err.Error()}
	}
	problems := nulls("", r)
	manifests, ok := r["Manifests"].([]any)
	if !ok || len(manifests) == 0 {
		return append(problems, "has no list of Manifests")
	}
	for i, m := range manifests {
		at := fmt.Sprintf("Manifests[%d]", i)
		manifest, ok := m.(map[string]any)
		if !ok {
			problems = append(problems, at+" is no object")
			continue
		}
		problems = append(problems, manifestProblems(at, manifest, r["Lifecycle"])...)
	}
	return problems
}

func manifestProblems(at string, m map[string]any, global any) []string {
	var problems []string
	lifecycle, ok := m["Lifecycle"].(map[string]any)
	if general, _ := global.(map[string]any); !ok && general["all"] == nil && general["linux"] == nil {
		problems = append(problems, at+".Lifecycle is missing")
	}
	for _, key := range slices.Sorted(maps.Keys(lifecycle)) {
		if lower := strings.ToLower(key); key != lower && slices.Contains([]string{"bootstrap", "install", "startup", "run", "shutdown", "recover"}, lower) {
			problems = append(problems, fmt.Sprintf("%s.Lifecycle.%s is capitalised", at, key))
		}
	}
	artifacts, ok := m["Artifacts"].([]any)
	if !ok {
		return append(problems, at+".Artifacts is missing")
	}
	for i, a := range artifacts {
		member, _ := a.(map[string]any)
		uri, _ := member["Uri"].(string)
		at := fmt.Sprintf("%s.Artifacts[%d]", at, i)
		if !strings.HasPrefix(uri, "greengrass:") {
			problems = append(problems, fmt.Sprintf("%s.Uri is %q, want greengrass:…", at, uri))
		}
		if digest, _ := member["Digest"].(string); digest == "" || member["Algorithm"] != "SHA-256" {
			problems = append(problems, at+" has no Digest with Algorithm SHA-256")
		}
	}
	return problems
}

func nulls(at string, v any) []string {
	var problems []string
	switch v := v.(type) {
	case nil:
		problems = append(problems, strings.TrimPrefix(at, ".")+" is null")
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if at == ".ComponentConfiguration" {
				continue // the author's own values
			}
			problems = append(problems, nulls(at+"."+k, v[k])...)
		}
	case []any:
		for i := range v {
			problems = append(problems, nulls(fmt.Sprintf("%s[%d]", at, i), v[i])...)
		}
	}
	return problems
}
