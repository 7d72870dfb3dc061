package fleetapi

import (
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// entityTag writes a version as an ETag.
func entityTag(version int) string { return quoted(strconv.Itoa(version)) }

func quoted(etag string) string { return `"` + etag + `"` }

// ifVersion returns the version that an If-Match names: 0 when there is none or
// when any will do. The document lets only * and a quoted text pass.
func ifVersion(header *string) (int, error) {
	tag := strings.Trim(opt(header), `"`)
	if tag == "" || tag == "*" {
		return 0, nil
	}
	n, err := strconv.Atoi(tag)
	if err != nil || n < 1 {
		return 0, fault.New(fault.Stale, "If-Match: %s is no version of it; read it again", quoted(clip(tag)))
	}
	return n, nil
}

// demand returns what If-Match and If-None-Match ask for.
func demand(ifMatch, ifNoneMatch *string) (provisioning.Match, error) {
	switch tag := strings.Trim(opt(ifMatch), `"`); {
	case tag != "" && opt(ifNoneMatch) != "":
		return "", fault.Field("If-None-Match", "contradicts If-Match; send one of them")
	case opt(ifNoneMatch) != "":
		return provisioning.IfAbsent, nil
	case tag == string(provisioning.IfAbsent): // no ETag of ours
		return "-", nil
	default:
		return provisioning.Match(tag), nil
	}
}
