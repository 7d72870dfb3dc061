package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/recipe/semver"
)

// Limits of one template.
const (
	maxTemplateComponents = 200
	maxMerge              = 64 << 10 // bytes of one component's merge
	maxResets             = 100      // pointers of one component
	maxTemplate           = 512 << 10
)

// posixUser is user[:group] in names or numbers, as a nucleus takes it.
var posixUser = regexp.MustCompile(`^[^:\s/]{1,64}(:[^:\s/]{1,64})?$`)

// checkTemplate refuses what no deployment could be made of. Whether a component
// exists is for the deployment to find.
func checkTemplate(n *NewTemplate) error {
	if err := names.CheckTemplate(n.Name); err != nil {
		return fault.Field("name", "%s", fault.Message(err))
	}
	if n.Name == NoTemplate {
		return fault.Field("name", "%q stands for a core without template; choose another name", NoTemplate)
	}
	if len(n.Components) == 0 || len(n.Components) > maxTemplateComponents {
		return fault.Field("components", "has %d entries, want 1 to %d", len(n.Components), maxTemplateComponents)
	}
	seen := map[string]int{}
	size := 0
	for i, c := range n.Components {
		at := fmt.Sprintf("components[%d]", i)
		if err := checkComponent(c); err != nil {
			return fault.Under(at, err)
		}
		if j, dup := seen[c.Key]; dup {
			return fault.Field(at+".key", "%q stands at components[%d] already", c.Key, j)
		}
		seen[c.Key] = i
		size += c.size()
	}
	n.JobConfig, n.Policies = present(n.JobConfig), present(n.Policies)
	if size += len(n.JobConfig) + len(n.Policies); size > maxTemplate {
		return fault.New(fault.TooLarge, "the template has %d bytes, over the limit of %d; move configuration into the components' recipes", size, maxTemplate)
	}
	if _, err := ParseJobConfig(n.JobConfig); err != nil {
		return below("jobConfig", err)
	}
	return below("deploymentPolicies", checkPolicies(n.Policies))
}

// present makes an explicit null what it means: nothing given.
func present(raw json.RawMessage) json.RawMessage {
	if string(bytes.TrimSpace(raw)) == "null" {
		return nil
	}
	return raw
}

// below puts a member's name before an error, whether it names a field or not.
func below(member string, err error) error {
	if err == nil || fault.KindOf(err) != fault.Invalid || fault.FieldOf(err) != "" {
		return fault.Under(member, err)
	}
	return fault.Field(member, "%s", fault.Message(err))
}

func (c TemplateComponent) size() int {
	n := len(c.Key) + len(c.Version)
	if c.Config != nil {
		n += len(c.Config.Merge)
		for _, r := range c.Config.Reset {
			n += len(r)
		}
	}
	return n
}

func checkComponent(c TemplateComponent) error {
	if err := names.CheckComponent(c.Key); err != nil {
		return fault.Field("key", "%s", fault.Message(err))
	}
	if _, err := semver.Parse(c.Version); err != nil { // no component can have it
		return fault.Field("version", "INVALID_COMPONENT: %s", fault.Message(err))
	}
	if c.RunWith != nil && c.RunWith.PosixUser != "" && !posixUser.MatchString(c.RunWith.PosixUser) {
		return fault.Field("runWith.posixUser", "%q is not of the form user or user:group", c.RunWith.PosixUser)
	}
	if c.Config == nil {
		return nil
	}
	return fault.Under("configurationUpdate", c.Config.check())
}

func (c *TemplateConfiguration) check() error {
	if c.Merge != "" {
		var m map[string]json.RawMessage
		if len(c.Merge) > maxMerge || json.Unmarshal([]byte(c.Merge), &m) != nil || m == nil {
			return fault.Field("merge", "must be text that holds a JSON object of at most %d bytes", maxMerge)
		}
	}
	if len(c.Reset) > maxResets {
		return fault.Field("reset", "has %d entries, over the limit of %d", len(c.Reset), maxResets)
	}
	for i, r := range c.Reset {
		if len(r) > 256 || !isPointer(r) {
			return fault.Field(fmt.Sprintf("reset[%d]", i), `%q is not a JSON pointer of at most 256 bytes: want "", or text that begins with / and has ~ only as ~0 and ~1`, r)
		}
	}
	return nil
}

// isPointer reports whether s is a JSON pointer (RFC 6901).
func isPointer(s string) bool {
	if s != "" && s[0] != '/' {
		return false
	}
	for i := range len(s) {
		if s[i] == '~' && (i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1') {
			return false
		}
	}
	return true
}

// policiesInput is deploymentPolicies as the API has it (cdf-services §2.1).
type policiesInput struct {
	FailureHandling *string `json:"failureHandlingPolicy"`
	Update          *struct {
		Timeout *int    `json:"timeoutInSeconds"`
		Action  *string `json:"action"`
	} `json:"componentUpdatePolicy"`
	Validation *struct {
		Timeout *int `json:"timeoutInSeconds"`
	} `json:"configurationValidationPolicy"`
}

func checkPolicies(raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	var in policiesInput
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && t.Field != "" {
			return fault.Field(t.Field, "is a JSON %s, want %s", t.Value, jsonKind(t))
		}
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return fault.New(fault.Invalid, "%s is not a member of deployment policies", name)
		}
		return fault.New(fault.Invalid, "is not a JSON object of deployment policies")
	}
	if err := oneOf("failureHandlingPolicy", in.FailureHandling, "ROLLBACK", "DO_NOTHING"); err != nil {
		return err
	}
	if u := in.Update; u != nil {
		if err := oneOf("componentUpdatePolicy.action", u.Action, "NOTIFY_COMPONENTS", "SKIP_NOTIFY_COMPONENTS"); err != nil {
			return err
		}
		if err := seconds("componentUpdatePolicy.timeoutInSeconds", u.Timeout); err != nil {
			return err
		}
	}
	if v := in.Validation; v != nil {
		return seconds("configurationValidationPolicy.timeoutInSeconds", v.Timeout)
	}
	return nil
}

func oneOf(path string, v *string, a, b string) error {
	if v != nil && *v != a && *v != b {
		return fault.Field(path, "is %q, want %s or %s", *v, a, b)
	}
	return nil
}

func seconds(path string, v *int) error {
	if v != nil && (*v < 0 || *v > math.MaxInt32) {
		return fault.Field(path, "is %d, want 0 to %d seconds", *v, math.MaxInt32)
	}
	return nil
}
