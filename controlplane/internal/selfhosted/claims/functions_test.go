package claims_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/claims"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// around is a template whose thing has the name and groups that are given.
func around(name, groups string) string {
	return `{"Parameters":{"Serial":{"Type":"String"},"Site":{"Type":"String","Default":"a/b/c"},"Index":{"Type":"String","Default":"1"}},
"Mappings":{"Sites":{"a":{"name":"Berlin","groups":["x","y"]}}},
"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":` + name + `,"ThingGroups":` + groups + `}}}}`
}

// result puts the parameters of a plain template back into it.
func result(t *testing.T, f claims.Filled) map[string]any {
	t.Helper()
	var put func(v any) any
	put = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["Ref"].(string); ok {
				value, there := f.Parameters[ref]
				require.True(t, there, ref)
				return value
			}
			for k := range v {
				v[k] = put(v[k])
			}
		case []any:
			for i := range v {
				v[i] = put(v[i])
			}
		}
		return v
	}
	var doc map[string]any
	require.NoError(t, json.Unmarshal(f.Body, &doc))
	for name := range f.Parameters {
		require.Contains(t, doc["Parameters"], name)
	}
	return put(doc["Resources"]).(map[string]any)
}

func TestFunctionsOfATemplate(t *testing.T) {
	given := map[string]string{"Serial": "A-17", "Unknown": "does not count"}
	for name, tt := range map[string]struct{ function, want string }{
		"text":                             {`"plain"`, "plain"},
		"Ref":                              {`{"Ref":"Serial"}`, "A-17"},
		"Ref to a default":                 {`{"Ref":"Site"}`, "a/b/c"},
		"Join":                             {`{"Fn::Join":["_",["x",{"Ref":"Serial"},"y"]]}`, "x_A-17_y"},
		"Join of a Split":                  {`{"Fn::Join":[":",{"Fn::Split":["/",{"Ref":"Site"}]}]}`, "a:b:c"},
		"Select by a text":                 {`{"Fn::Select":["2",{"Fn::Split":["/",{"Ref":"Site"}]}]}`, "c"},
		"Select by a number":               {`{"Fn::Select":[0,["x","y"]]}`, "x"},
		"Select by a Ref":                  {`{"Fn::Select":[{"Ref":"Index"},["x",{"Ref":"Serial"}]]}`, "A-17"},
		"FindInMap":                        {`{"Fn::FindInMap":["Sites","a","name"]}`, "Berlin"},
		"FindInMap by what a Select finds": {`{"Fn::FindInMap":["Sites",{"Fn::Select":["0",{"Fn::Split":["/",{"Ref":"Site"}]}]},"name"]}`, "Berlin"},
		"Select in what FindInMap finds":   {`{"Fn::Select":["1",{"Fn::FindInMap":["Sites","a","groups"]}]}`, "y"},
		"Sub":                              {`{"Fn::Sub":"p/${Serial}/${!Serial}/$x"}`, "p/A-17/${Serial}/$x"},
		"Sub with values of its own":       {`{"Fn::Sub":["${a}-${Serial}",{"a":{"Ref":"Index"}}]}`, "1-A-17"},
		"what only looks like a function":  {`"{\"Ref\":\"Serial\"}"`, `{"Ref":"Serial"}`},
	} {
		t.Run(name, func(t *testing.T) {
			body := around(tt.function, `["g"]`)
			require.NoError(t, claims.Check(body))
			f, err := claims.Fill(body, given)
			require.NoError(t, err)
			thing := result(t, f)["thing"].(map[string]any)["Properties"].(map[string]any)
			assert.Equal(t, tt.want, thing["ThingName"])
		})
	}
	for name, tt := range map[string]struct {
		function string
		want     []any
	}{
		"a Split":     {`{"Fn::Split":["/",{"Ref":"Site"}]}`, []any{"a", "b", "c"}},
		"a FindInMap": {`{"Fn::FindInMap":["Sites","a","groups"]}`, []any{"x", "y"}},
		"one Ref":     {`{"Ref":"Serial"}`, []any{"A-17"}},
		"a list":      {`["g",{"Ref":"Serial"}]`, []any{"g", "A-17"}},
	} {
		t.Run("groups by "+name, func(t *testing.T) {
			body := around(`"x"`, tt.function)
			require.NoError(t, claims.Check(body))
			f, err := claims.Fill(body, given)
			require.NoError(t, err)
			thing := result(t, f)["thing"].(map[string]any)["Properties"].(map[string]any)
			assert.Equal(t, tt.want, thing["ThingGroups"])
		})
	}
}

func TestFunctionsThatCannotBeWorkedOut(t *testing.T) {
	doubled := `"x"`
	for range 60 {
		doubled = `{"Fn::Sub":["${a}${a}${a}",{"a":` + doubled + `}]}`
	}
	for name, tt := range map[string]struct{ function, says string }{
		"a parameter without value":      {`{"Ref":"Serial"}`, "no value and no default"},
		"a Select outside of the list":   {`{"Fn::Select":["3",["x"]]}`, "Fn::Select"},
		"a Select by no number":          {`{"Fn::Select":["x",["x"]]}`, "Fn::Select"},
		"a FindInMap that finds nothing": {`{"Fn::FindInMap":["Sites","b","name"]}`, "Fn::FindInMap"},
		"functions that grow":            {doubled, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := claims.Fill(around(tt.function, `[]`), nil)
			require.ErrorIs(t, err, fault.Invalid)
			assert.Contains(t, fault.Message(err), tt.says)
		})
	}
	_, err := claims.Fill(around(`{"Ref":"Serial"}`, `[]`), map[string]string{"Serial": strings.Repeat("x", 4097)})
	require.ErrorIs(t, err, fault.Invalid)
}

func TestWhatADeviceGetsWithItsThing(t *testing.T) {
	f, err := claims.Fill(`{"Parameters":{"Serial":{"Type":"String"}},"DeviceConfiguration":{"url":{"Fn::Sub":"https://example.com/${Serial}"},"retries":3,"on":true},
"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Serial"}}},
"cert":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}}},
"pol":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish","Resource":{"Fn::Join":["",["arn:",{"Ref":"Serial"},"/${iot:ClientId}"]]}}]}}}}}`,
		map[string]string{"Serial": "A", "AWS::IoT::Certificate::Id": "id"})
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"url": "https://example.com/A", "retries": 3.0, "on": true}, f.Configuration)
	all := result(t, f)
	cert := all["cert"].(map[string]any)
	assert.Equal(t, map[string]any{"CertificateId": "id"}, cert["Properties"])
	assert.Equal(t, map[string]any{"Status": "REPLACE"}, cert["OverrideSettings"], "it waited for its status")
	document := all["pol"].(map[string]any)["Properties"].(map[string]any)["PolicyDocument"].(string)
	assert.JSONEq(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:A/${iot:ClientId}"}]}`, document)
}

func FuzzTemplate(f *testing.F) {
	f.Add(simple, "A")
	f.Add(around(`{"Fn::Join":["_",["x",{"Ref":"Serial"}]]}`, `{"Fn::Split":["/",{"Ref":"Site"}]}`), "B")
	f.Add(around(`{"Fn::Select":[0,{"Fn::FindInMap":["Sites","a","groups"]}]}`, `[{"Fn::Sub":["${a}${!b}",{"a":"x"}]}]`), "C")
	f.Fuzz(func(t *testing.T, body, serial string) {
		if err := claims.Check(body); err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			return
		}
		out, err := claims.Fill(body, map[string]string{"Serial": serial, "SerialNumber": serial})
		if err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			return
		}
		require.True(t, json.Valid(out.Body))
		require.Less(t, len(out.Body), 1<<20)
	})
}
