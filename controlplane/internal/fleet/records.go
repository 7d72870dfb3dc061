package fleet

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

const (
	prefix         = state.Root + "fleet/"
	corePrefix     = prefix + "core/"
	templatePrefix = prefix + "template/"
	cursorKey      = prefix + "results-cursor"

	statusCursorKey = prefix + "status-cursor"
)

func coreKey(name string) string     { return corePrefix + name }
func templateKey(name string) string { return templatePrefix + name }

func versionPrefix(name string) string { return prefix + "template-version/" + name + "/" }

// versionKey pads the number so that key order is number order.
func versionKey(name string, version int) string {
	return versionPrefix(name) + fmt.Sprintf("%010d", version)
}

func deployedPrefix(name string) string { return prefix + "template-deployment/" + name + "/" }

func deployedKey(t TemplateRef) string { return deployedPrefix(t.Name) + strconv.Itoa(t.Version) }

// groupPrefix begins the names of the thing groups of template versions
// (cdf-services §3.8).
const groupPrefix = "cdf_ggv2_deploymentForTemplate_"

// groupOf returns the thing group of a template version.
func groupOf(t TemplateRef) string { return groupPrefix + t.Name + "_" + strconv.Itoa(t.Version) }

// isTemplateGroup reports whether the group belongs to a template version.
func isTemplateGroup(group string) bool { return strings.HasPrefix(group, groupPrefix) }

// templateOf is the reverse of groupOf. A template's name may itself hold
// underscores and digits, so the version is what follows the last one.
func templateOf(group string) (TemplateRef, bool) {
	rest, ok := strings.CutPrefix(group, groupPrefix)
	if !ok {
		return TemplateRef{}, false
	}
	i := strings.LastIndexByte(rest, '_')
	if i < 1 {
		return TemplateRef{}, false
	}
	n, err := strconv.Atoi(rest[i+1:])
	if err != nil || n < 1 || strconv.Itoa(n) != rest[i+1:] {
		return TemplateRef{}, false
	}
	return TemplateRef{Name: rest[:i], Version: n}, true
}
