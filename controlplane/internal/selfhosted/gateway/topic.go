package gateway

import (
	"strings"
	"unicode/utf8"
)

// Limits of iot-api §22.
const (
	maxClientID    = 128
	maxTopicBytes  = 256
	maxTopicLevels = 7 // slashes
)

// rulesPrefix begins topics whose first levels do not count: $aws/rules/<rule>/.
const rulesPrefix = "$aws/rules/"

// checkTopic tells what is wrong with a topic name, or "".
func checkTopic(t string) string {
	switch {
	case t == "":
		return "empty topic"
	case strings.ContainsAny(t, "+#\x00"):
		return "wildcard in topic"
	case !utf8.ValidString(t):
		return "topic is not utf-8"
	}
	return checkLength(t)
}

// checkFilter tells what is wrong with a topic filter, or "".
func checkFilter(f string) string {
	if f == "" || strings.ContainsRune(f, 0) || !utf8.ValidString(f) {
		return "empty or malformed filter"
	}
	if strings.EqualFold(firstLevel(f), "$share") {
		group, inner, ok := cutShare(f)
		if !ok || group == "" || strings.ContainsAny(group, "+#") || inner == "" || inner[0] == '$' {
			// A shared filter must not reach $ topics: the broker would hand
			// $share/g/# everything that begins with $.
			return "shared filter without group or filter, or on a reserved topic"
		}
		f = inner
	}
	levels := strings.Split(f, "/")
	for i, l := range levels {
		if len(l) > 1 && strings.ContainsAny(l, "+#") || l == "#" && i != len(levels)-1 {
			return "misplaced wildcard"
		}
	}
	return checkLength(f)
}

func checkLength(t string) string {
	if len(t) > maxTopicBytes {
		return "topic over 256 bytes"
	}
	if rest, ok := strings.CutPrefix(t, rulesPrefix); ok {
		if _, after, ok := strings.Cut(rest, "/"); ok {
			t = after
		}
	}
	if strings.Count(t, "/") > maxTopicLevels {
		return "topic over 7 slashes"
	}
	return ""
}

func firstLevel(t string) string {
	l, _, _ := strings.Cut(t, "/")
	return l
}

// cutShare splits $share/<group>/<filter>.
func cutShare(f string) (group, filter string, ok bool) {
	if !strings.EqualFold(firstLevel(f), "$share") {
		return "", "", false
	}
	_, rest, _ := strings.Cut(f, "/")
	return strings.Cut(rest, "/")
}

// ownTopic tells whether a topic or filter keeps to what thing may touch: the
// reserved topics of a thing belong to that thing alone, whatever its policies
// say (nucleus-contract §9.1 item 7). T-gci is the Greengrass core's own shadow
// beside T.
func ownTopic(thing, t string) bool {
	if t[0] != '$' {
		return true
	}
	rest, ok := strings.CutPrefix(t, "$aws/")
	if !ok {
		return false
	}
	family, rest, _ := strings.Cut(rest, "/")
	switch family {
	case "", "+", "#":
		return false
	case "things":
		owner, _, _ := strings.Cut(rest, "/")
		return thing != "" && (owner == thing || owner == thing+"-gci")
	}
	return true
}

// matches reports whether an MQTT filter (not a shared one) matches a topic.
// Wildcards at the first level do not match topics that begin with $.
func matches(filter, topic string) bool {
	if topic != "" && topic[0] == '$' && (filter == "" || filter[0] != '$') {
		return false
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, trest, tmore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !fmore || !tmore {
			return fmore == tmore || fmore && frest == "#"
		}
		filter, topic = frest, trest
	}
}

// publishSize returns the bytes of a PUBLISH packet without properties.
func publishSize(topic string, payload []byte, qos byte, v5 bool) int {
	n := 2 + len(topic) + len(payload)
	if qos > 0 {
		n += 2
	}
	if v5 {
		n++
	}
	head := 2
	for rest := n >> 7; rest > 0; rest >>= 7 {
		head++
	}
	return head + n
}
