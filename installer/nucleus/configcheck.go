package nucleus

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Facts are what a plan needs to know of an installer configuration.
type Facts struct {
	ThingName   string // "": provisioning by claim
	RootPath    string
	Certificate string // files; "" with provisioning by claim
	Key         string
	RootCA      string
	PosixUser   string // runWithDefault.posixUser
	ByClaim     bool   // the nucleus gets thing and certificate itself
}

// Limits of nucleus lite in characters (nucleus-contract §1.2, trap 37).
const (
	liteText   = 128
	liteRegion = 24
	liteLeaf   = 1024
)

// regions are the ones that the SDK inside the classic nucleus knows; it refuses
// every other name.
const regions = `
us-east-1 us-east-2 us-west-1 us-west-2 us-gov-east-1 us-gov-west-1 us-iso-east-1 us-iso-west-1 us-isob-east-1
ca-central-1 ca-west-1 mx-central-1 sa-east-1
eu-central-1 eu-central-2 eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3
ap-east-1 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2
ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-7
af-south-1 il-central-1 me-central-1 me-south-1 cn-north-1 cn-northwest-1`

const maxHost = 254 // bytes

// Lengths are checked beside, here and elsewhere: a regular expression that counts
// to hundreds takes as many kilobytes of memory.
var hostPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// CheckConfig checks the installer configuration of a nucleus of the given
// layout, as far as that can be done without the device, and returns what a plan
// needs of it. root is the path that the nucleus is installed in; "" for lite,
// whose root is what the configuration says. What the nucleus would accept and
// then not work with is an error of kind fault.Invalid that names the member.
func CheckConfig(doc []byte, layout Layout, root string) (Facts, error) {
	if len(doc) > config.MaxDocument {
		return Facts{}, fault.New(fault.TooLarge, "the configuration has %d bytes, at most %d are read", len(doc), config.MaxDocument)
	}
	var n yaml.Node
	if err := yaml.Unmarshal(doc, &n); err != nil {
		return Facts{}, fault.New(fault.Invalid, "the configuration is not YAML: %v", err)
	}
	c := checker{lite: layout != LayoutClassic, root: root}
	c.walk("", &n, 0)
	c.identity(&n)
	c.nucleus(&n)
	return c.facts, c.err
}

// checker keeps the first error.
type checker struct {
	lite   bool
	root   string
	region string
	facts  Facts
	err    error
}

func (c *checker) refuse(path, format string, args ...any) {
	if c.err == nil {
		c.err = fault.Field(path, format, args...)
	}
}

// walk looks at every member: no key twice, no aliases, and what lite cannot
// hold.
func (c *checker) walk(at string, n *yaml.Node, depth int) {
	if depth > 64 {
		c.refuse(at, "is nested deeper than 64")
		return
	}
	switch n.Kind {
	case yaml.DocumentNode:
		for _, m := range n.Content {
			c.walk(at, m, depth)
		}
	case yaml.AliasNode:
		c.refuse(at, "is an alias (*%s); write the value out", n.Value)
	case yaml.MappingNode:
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if seen[key] {
				c.refuse(join(at, key), "is there twice")
			}
			seen[key] = true
			c.walk(join(at, key), n.Content[i+1], depth+1)
		}
	case yaml.SequenceNode:
		for i, m := range n.Content {
			c.walk(fmt.Sprintf("%s[%d]", at, i), m, depth+1)
		}
	case yaml.ScalarNode:
		if len(n.Value) > liteLeaf && c.lite {
			c.refuse(at, "has %d bytes; lite stores at most %d", len(n.Value), liteLeaf)
		}
		if c.lite && n.Value == "" && depth > 0 {
			c.refuse(at, "is blank; at every start lite would overwrite what it has stored with nothing: leave the member out")
		}
	}
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

// get finds a member; nil when it is not there.
func get(n *yaml.Node, keys ...string) *yaml.Node {
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	for _, key := range keys {
		if n.Kind != yaml.MappingNode {
			return nil
		}
		i := 0
		for ; i+1 < len(n.Content) && n.Content[i].Value != key; i += 2 { //nolint:revive // the search is the loop
		}
		if i+1 >= len(n.Content) {
			return nil
		}
		n = n.Content[i+1]
	}
	return n
}

// text returns a plain value; "" when it is not there or null.
func (c *checker) text(n *yaml.Node, keys ...string) string {
	m := get(n, keys...)
	if m == nil || m.Tag == "!!null" {
		return ""
	}
	if m.Kind != yaml.ScalarNode {
		c.refuse(strings.Join(keys, "."), "is no plain value")
		return ""
	}
	return m.Value
}

func (c *checker) service() string {
	if c.lite {
		return LiteName
	}
	return ClassicName
}

func (c *checker) identity(n *yaml.Node) {
	byClaim := "aws.greengrass.FleetProvisioningByClaim"
	if c.lite {
		byClaim = "aws.greengrass.fleet_provisioning"
	}
	f := &c.facts
	f.ByClaim = get(n, "services", byClaim) != nil
	rootKey := "rootpath"
	if c.lite {
		rootKey = "rootPath"
		if get(n, "system", "rootpath") != nil {
			c.refuse("system.rootpath", "is classic's spelling; lite reads rootPath")
		}
	} else if get(n, "system", "rootPath") != nil {
		c.refuse("system.rootPath", "is lite's spelling; classic reads rootpath")
	}
	for _, m := range []struct {
		key      string
		at       *string
		required bool
	}{
		{"thingName", &f.ThingName, !f.ByClaim},
		{"certificateFilePath", &f.Certificate, !f.ByClaim},
		{"privateKeyPath", &f.Key, !f.ByClaim},
		{"rootCaPath", &f.RootCA, !f.ByClaim},
		{rootKey, &f.RootPath, c.lite},
	} {
		*m.at = c.text(n, "system", m.key)
		field := "system." + m.key
		switch v := *m.at; {
		case v == "" && m.required:
			c.refuse(field, "is missing; without it the nucleus stays offline")
		case v == "":
		case m.key == "thingName":
			if names.CheckThing(v) != nil {
				c.refuse(field, "%q is no thing name: 1 to 128 letters, digits, colons, underscores, dashes", v)
			}
		case strings.HasPrefix(v, "pkcs11:") && m.key != rootKey:
		case !path.IsAbs(v) || path.Clean(v) != v || strings.ContainsAny(v, "\x00\n"):
			c.refuse(field, "%q is not an absolute, clean path", v)
		}
	}
	switch {
	case c.lite && f.RootPath == "/":
		c.refuse("system.rootPath", "is the whole device; lite's own folder is /var/lib/greengrass")
	case !c.lite && f.RootPath != "" && f.RootPath != c.root:
		c.refuse("system.rootpath", "is %q, but the nucleus is installed in %q", f.RootPath, c.root)
	}
}

func (c *checker) nucleus(n *yaml.Node) {
	service := c.service()
	if get(n, "services", service) == nil {
		other := map[bool]string{true: ClassicName, false: LiteName}[c.lite]
		if get(n, "services", other) != nil {
			c.refuse("services", "configures %s, but the nucleus is %s", other, service)
		}
		c.refuse("services", "has no %s", service)
		return
	}
	if t := c.text(n, "services", service, "componentType"); t != "" && t != "NUCLEUS" {
		c.refuse("services."+service+".componentType", "is %q, want NUCLEUS", t)
	}
	conf := get(n, "services", service, "configuration")
	if conf == nil {
		c.refuse("services."+service+".configuration", "is missing")
		return
	}
	before := c.err
	c.settings(conf)
	if before == nil && c.err != nil {
		c.err = fault.Under("services."+service+".configuration", c.err)
	}
}

func (c *checker) settings(n *yaml.Node) {
	c.region = c.text(n, "awsRegion")
	switch {
	case c.region == "":
		c.refuse("awsRegion", "is missing; without it the nucleus stays offline. Any region serves a self-hosted fleet, us-east-1 is safe")
	case !c.lite && !slices.Contains(strings.Fields(regions), c.region):
		c.refuse("awsRegion", "%q is no region that the nucleus knows, so it would refuse to start; any serves a self-hosted fleet, us-east-1 is safe", c.region)
	case c.lite && len(c.region) > liteRegion:
		c.refuse("awsRegion", "has %d characters; lite takes at most %d", len(c.region), liteRegion)
	}
	c.endpoint(n, "iotDataEndpoint", false)
	c.endpoint(n, "iotCredEndpoint", true)
	alias := c.text(n, "iotRoleAlias")
	if alias == "" {
		c.refuse("iotRoleAlias", "is missing; any text serves a self-hosted fleet")
	} else if c.lite && len(alias) > liteText {
		c.refuse("iotRoleAlias", "has %d characters; lite takes at most %d", len(alias), liteText)
	}
	c.dataPlane(n)
	c.mqtt(n)
	if iv := c.text(n, "fleetStatus", "periodicStatusPublishIntervalSeconds"); iv != "" {
		if s, err := strconv.Atoi(iv); err != nil || s < 1 {
			c.refuse("fleetStatus.periodicStatusPublishIntervalSeconds", "%q is no number of seconds above 0", iv)
		}
	}
	if p := c.text(n, "networkProxy", "proxy", "url"); p != "" {
		u, err := url.Parse(p)
		if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme) {
			c.refuse("networkProxy.proxy.url", "%q is no proxy; want http://HOST:PORT, https:// or socks5://", p)
		}
	}
	if c.facts.PosixUser = c.text(n, "runWithDefault", "posixUser"); c.facts.PosixUser != "" {
		if _, _, err := ParseAccount(c.facts.PosixUser); err != nil {
			c.refuse("runWithDefault.posixUser", "%s", fault.Message(err))
		}
	}
}

// endpoint checks a host name that may be followed by a port.
func (c *checker) endpoint(n *yaml.Node, key string, port bool) {
	v := c.text(n, key)
	if v == "" {
		if !c.facts.ByClaim {
			c.refuse(key, "is missing; without it the nucleus stays offline")
		}
		return
	}
	if c.lite && len(v) > liteText {
		c.refuse(key, "has %d characters; lite takes at most %d", len(v), liteText)
	}
	host := v
	if h, p, err := net.SplitHostPort(v); err == nil {
		if host = h; !port {
			c.refuse(key, "%q has a port; want the host name only, the port goes into mqtt.port", v)
		} else if !isPort(p) {
			c.refuse(key, "%q has no port between 1 and 65535 behind the colon", v)
		}
	}
	if net.ParseIP(strings.Trim(host, "[]")) == nil && (len(host) > maxHost || !hostPattern.MatchString(host)) {
		c.refuse(key, "%q is no host name; want it without https:// and without a path", v)
	}
	if strings.Contains(v, ".amazonaws.") && !strings.Contains(v, c.region) {
		c.refuse(key, "%q is AWS's, but of another region than awsRegion %q", v, c.region)
	}
}

func (c *checker) dataPlane(n *yaml.Node) {
	if port := get(n, "greengrassDataPlanePort"); port != nil {
		switch {
		case !isPort(port.Value):
			c.refuse("greengrassDataPlanePort", "%q is no port between 1 and 65535", port.Value)
		case c.lite && port.Tag != "!!str":
			c.refuse("greengrassDataPlanePort", "is a number; lite reads text only: write \"%s\", with the quotes", port.Value)
		}
	}
	v := c.text(n, "greengrassDataPlaneEndpoint")
	switch {
	case v == "" || v == "iotdata":
	case c.lite:
		c.refuse("greengrassDataPlaneEndpoint", "is not known to lite: its data plane is on the host of iotDataEndpoint")
	default:
		u, err := url.Parse("https://" + strings.TrimPrefix(v, "https://"))
		if err != nil || u.Host == "" {
			c.refuse("greengrassDataPlaneEndpoint", "%q is neither iotdata nor a host", v)
		} else if strings.Contains(v, ".amazonaws.") && !strings.Contains(v, c.region) {
			c.refuse("greengrassDataPlaneEndpoint", "%q is AWS's, but of another region than awsRegion %q", v, c.region)
		}
	}
}

func (c *checker) mqtt(n *yaml.Node) {
	if p := c.text(n, "mqtt", "port"); p != "" {
		if !isPort(p) {
			c.refuse("mqtt.port", "%q is no port between 1 and 65535", p)
		} else if c.lite && p != "8883" {
			c.refuse("mqtt.port", "is %s, but lite connects to 8883 whatever is said", p)
		}
	}
	if v := c.text(n, "mqtt", "version"); !slices.Contains([]string{"", "mqtt3", "mqtt5"}, v) {
		c.refuse("mqtt.version", "%q is neither mqtt5 nor mqtt3", v)
	}
}

func isPort(s string) bool {
	p, err := strconv.Atoi(s)
	return err == nil && p > 0 && p <= 65535
}
