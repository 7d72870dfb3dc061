package claims_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/claims"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestABodyThatIsNoTemplateIsRefusedByPlace(t *testing.T) {
	k := newKit(t)
	with := func(value string) string {
		return `{"Parameters":{"P":{"Type":"String"}},"Mappings":{"M":{"a":{"b":"c"}}},"Resources":{"thing":{"Properties":{"ThingName":` + value + `}}}}`
	}
	for name, tt := range map[string]struct{ body, field, says string }{
		"no JSON":                    {`{`, "templateBody", "not a JSON object"},
		"a list":                     {`[]`, "templateBody", "not a JSON object"},
		"null":                       {`null`, "templateBody", "not a JSON object"},
		"too long":                   {`{"Resources":"` + strings.Repeat("x", 10240) + `"}`, "templateBody", "10240"},
		"an unknown section":         {`{"Resources":{"a":{}},"CDF":{}}`, "CDF", "not known"},
		"no resources":               {`{"Resources":{}}`, "Resources", "missing"},
		"a parameter of other type":  {`{"Resources":{"a":{}},"Parameters":{"P":{"Type":"Number"}}}`, "Parameters.P", "String"},
		"a function in the mappings": {`{"Resources":{"a":{}},"Mappings":{"M":{"a":{"b":{"Ref":"P"}}}}}`, "Mappings.M.a.b", "functions"},
		"an undeclared parameter":    {with(`{"Ref":"Q"}`), "Resources.thing.Properties.ThingName", `"Q"`},
		"a Ref to a list":            {with(`{"Ref":["P"]}`), "Resources.thing.Properties.ThingName", "Ref"},
		"an unknown function":        {with(`{"Fn::Base64":"x"}`), "Resources.thing.Properties.ThingName", "Fn::Base64"},
		"a join of one":              {with(`{"Fn::Join":["x"]}`), "Resources.thing.Properties.ThingName", "Fn::Join"},
		"a join by a number":         {with(`{"Fn::Join":[1,["x"]]}`), "Resources.thing.Properties.ThingName", "Fn::Join"},
		"a join of a text":           {with(`{"Fn::Join":["-","x"]}`), "Resources.thing.Properties.ThingName", "list"},
		"a select from nothing":      {with(`{"Fn::Select":["0"]}`), "Resources.thing.Properties.ThingName", "Fn::Select"},
		"a split at nothing":         {with(`{"Fn::Select":["0",{"Fn::Split":["","x"]}]}`), "Resources.thing.Properties.ThingName", "Fn::Split"},
		"a split for a text":         {with(`{"Fn::Split":["-","x"]}`), "Resources.thing.Properties.ThingName", "list"},
		"a find of two":              {with(`{"Fn::FindInMap":["M","a"]}`), "Resources.thing.Properties.ThingName", "Fn::FindInMap"},
		"a sub that does not end":    {with(`{"Fn::Sub":"a${P"}`), "Resources.thing.Properties.ThingName", "without }"},
		"a sub of a number":          {with(`{"Fn::Sub":1}`), "Resources.thing.Properties.ThingName", "Fn::Sub"},
		"a sub of an unknown":        {with(`{"Fn::Sub":"${Q}"}`), "Resources.thing.Properties.ThingName", `"Q"`},
		"a configuration in a tree":  {`{"Resources":{"a":{}},"DeviceConfiguration":{"a":{"b":"c"}}}`, "DeviceConfiguration.a", "flat"},
		"a configuration of lists":   {`{"Resources":{"a":{}},"DeviceConfiguration":{"a":["b"]}}`, "DeviceConfiguration.a", "flat"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.CreateTemplate(t.Context(), claims.NewTemplate{Name: "t", Body: tt.body})
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, tt.field, fault.FieldOf(err))
			assert.Contains(t, fault.Message(err), tt.says)
		})
	}
	k.check = fault.Field("Resources", "need one resource of type AWS::IoT::Thing")
	_, err := k.CreateTemplate(t.Context(), claims.NewTemplate{Name: "t", Body: simple})
	require.ErrorIs(t, err, k.check, "what the registrar could never carry out")
	assert.Equal(t, map[string]any{
		"Parameters": map[string]any{"p1": map[string]any{"Type": "String"}},
		"Resources":  map[string]any{"thing": map[string]any{"Type": "AWS::IoT::Thing", "Properties": map[string]any{"ThingName": map[string]any{"Ref": "p1"}}}},
	}, k.got[0].body)
}
