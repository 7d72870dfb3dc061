package names

import (
	"crypto/rand"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxThing is the longest thing or thing group name in bytes (iot-api §15).
const MaxThing = 128

// shape is what a name is made of. The length is not part of a regular
// expression: one that counts to 128 takes a hundred kilobytes of memory.
type shape struct {
	punctuation string // allowed beside letters and digits
	max         int    // bytes
}

//nolint:gochecknoglobals // constants
var (
	thingShape     = shape{":_-", MaxThing}
	componentShape = shape{"_.-", 128}
	templateShape  = shape{"_-", 86}
	policyShape    = shape{"_+=,.@-", 128}
	aliasShape     = shape{"_=,@-", 128}
	documentShape  = shape{"._-", 128}
)

func (p shape) fits(s string) bool {
	if s == "" || len(s) > p.max {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(p.punctuation, c) >= 0:
		default:
			return false
		}
	}
	return true
}

func check(what, s string, p shape, rule string) error {
	if p.fits(s) {
		return nil
	}
	if len(s) > 160 {
		s = s[:160] + "…"
	}
	return fault.New(fault.Invalid, "%s %q is not valid: want %s", what, s, rule)
}

// CheckThing accepts 1 to 128 of letters, digits, colon, underscore, hyphen.
func CheckThing(s string) error {
	return check("thing name", s, thingShape, "1 to 128 characters of a-z A-Z 0-9 : _ -")
}

// CheckThingGroup accepts what CheckThing accepts.
func CheckThingGroup(s string) error {
	return check("thing group name", s, thingShape, "1 to 128 characters of a-z A-Z 0-9 : _ -")
}

// CheckThingType accepts the name of a thing type.
func CheckThingType(s string) error {
	return check("thing type name", s, thingShape, "1 to 128 characters of a-z A-Z 0-9 : _ -")
}

// CheckComponent accepts a component name: 1 to 128 of letters, digits, dot,
// underscore, hyphen (nucleus-contract §8).
func CheckComponent(s string) error {
	return check("component name", s, componentShape, "1 to 128 characters of a-z A-Z 0-9 . _ -")
}

// CheckTemplate accepts the name of a fleet template. It becomes part of a
// thing group name of at most 128 characters together with a prefix of 31 and a
// version of up to 10 digits, hence 86 (cdf-services §3.8).
func CheckTemplate(s string) error {
	return check("template name", s, templateShape, "1 to 86 characters of a-z A-Z 0-9 _ -, because it becomes part of a thing group name")
}

// CheckProvisioningTemplate accepts the id of a provisioning template, which is
// part of an object key.
func CheckProvisioningTemplate(s string) error {
	if err := check("provisioning template", s, documentShape, "1 to 128 characters of a-z A-Z 0-9 . _ -"); err != nil {
		return err
	}
	if strings.Trim(s, ".") == "" {
		return fault.New(fault.Invalid, "provisioning template %q is not valid: it must not consist of dots", s)
	}
	return nil
}

// CheckPolicy accepts an IoT policy name.
func CheckPolicy(s string) error {
	return check("policy name", s, policyShape, "1 to 128 characters of a-z A-Z 0-9 _ + = , . @ -")
}

// CheckRoleAlias accepts a role alias name.
func CheckRoleAlias(s string) error {
	return check("role alias", s, aliasShape, "1 to 128 characters of a-z A-Z 0-9 _ = , @ -")
}

const taskAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// NewTaskID returns a fresh task id: nine characters of the URL-safe alphabet
// (cdf-services §1.3), of which the first is a letter or a digit: a command line
// takes a leading hyphen for a flag. 62 times 64^8 values: the writer still checks
// for a collision.
func NewTaskID() string {
	b := make([]byte, 9)
	rand.Read(b)
	for i := range b {
		of := len(taskAlphabet)
		if i == 0 {
			of -= len("-_")
		}
		b[i] = taskAlphabet[int(b[i])%of]
	}
	return string(b)
}

// ThingOfClientID returns the thing that the MQTT client id belongs to by the
// rule of nucleus-contract §1.5: T, T#<number> and T#endpoint-switch all belong
// to T.
func ThingOfClientID(clientID string) string {
	thing, suffix, ok := strings.Cut(clientID, "#")
	if !ok {
		return clientID
	}
	if suffix == "endpoint-switch" {
		return thing
	}
	if n, err := strconv.Atoi(suffix); err == nil && n > 0 && strconv.Itoa(n) == suffix {
		return thing
	}
	return clientID
}
