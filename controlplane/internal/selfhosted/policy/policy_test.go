package policy_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/policy"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const arn = "arn:aws:iot:us-east-1:123456789012:"

func parse(t testing.TB, doc string) *policy.Document {
	t.Helper()
	d, err := policy.Parse([]byte(doc))
	require.NoError(t, err)
	return d
}

// one is a document of one statement on action and resource.
func one(effect, action, resource string) string {
	b, _ := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
		"Effect": effect, "Action": action, "Resource": resource,
	}}})
	return string(b)
}

func press() *policy.Vars {
	return &policy.Vars{
		ClientID: "press-07", MQTT: true, CertificateID: "ab12", SourceIP: netip.MustParseAddr("10.1.2.3"),
		Thing: &policy.Thing{Name: "press-07", Type: "press", Attributes: map[string]string{"site": "lyon", "odd": "a*b"}},
		Certificate: &x509.Certificate{
			Subject: pkix.Name{Names: []pkix.AttributeTypeAndValue{
				{Type: []int{2, 5, 4, 3}, Value: "first"}, {Type: []int{2, 5, 4, 11}, Value: "line"}, {Type: []int{2, 5, 4, 3}, Value: "second"},
			}},
			DNSNames: []string{"a.example"},
		},
	}
}

func TestDecide(t *testing.T) {
	for name, c := range map[string]struct {
		docs             []string
		action, resource string
		vars             *policy.Vars
		want             bool
	}{
		"nothing allows, so the answer is no":              {nil, "iot:Connect", arn + "client/a", nil, false},
		"an exact allow allows":                            {[]string{one("Allow", "iot:Connect", arn+"client/a")}, "iot:Connect", arn + "client/a", nil, true},
		"an allow of one action allows no other":           {[]string{one("Allow", "iot:Connect", "*")}, "iot:Publish", arn + "topic/a", nil, false},
		"iot:* is every action of iot":                     {[]string{one("Allow", "iot:*", "*")}, "iot:Publish", arn + "topic/a", nil, true},
		"iot:* is no action of greengrass":                 {[]string{one("Allow", "iot:*", "*")}, "greengrass:Discover", arn + "thing/a", nil, false},
		"actions compare without case":                     {[]string{one("Deny", "IOT:publish", "*"), one("Allow", "*", "*")}, "iot:Publish", arn + "topic/a", nil, false},
		"a deny wins over an allow of another document":    {[]string{one("Allow", "*", "*"), one("Deny", "iot:Publish", arn+"topic/a*")}, "iot:Publish", arn + "topic/ab", nil, false},
		"a deny of something else changes nothing":         {[]string{one("Allow", "*", "*"), one("Deny", "iot:Publish", arn+"topic/a")}, "iot:Publish", arn + "topic/ab", nil, true},
		"the question mark is exactly one character":       {[]string{one("Allow", "*", arn+"topic/?")}, "iot:Publish", arn + "topic/", nil, false},
		"the question mark is one character of any width":  {[]string{one("Allow", "*", arn+"topic/?")}, "iot:Publish", arn + "topic/é", nil, true},
		"a star spans topic levels":                        {[]string{one("Allow", "*", arn+"topic/a/*/z")}, "iot:Publish", arn + "topic/a/b/c/z", nil, true},
		"MQTT wildcards in a filter are plain text":        {[]string{one("Allow", "*", arn+"topicfilter/a/b")}, "iot:Subscribe", arn + "topicfilter/a/+", nil, false},
		"a star in the request is plain text":              {[]string{one("Allow", "*", arn+"topic/a")}, "iot:Publish", arn + "topic/*", nil, false},
		"the thing name is put in":                         {[]string{one("Allow", "*", arn+"topic/${iot:Connection.Thing.ThingName}/up")}, "iot:Publish", arn + "topic/press-07/up", press(), true},
		"another thing's name does not fit":                {[]string{one("Allow", "*", arn+"topic/${iot:Connection.Thing.ThingName}/up")}, "iot:Publish", arn + "topic/press-08/up", press(), false},
		"type and attribute are put in":                    {[]string{one("Allow", "*", arn+"topic/${iot:Connection.Thing.ThingTypeName}/${iot:Connection.Thing.Attributes[site]}")}, "iot:Publish", arn + "topic/press/lyon", press(), true},
		"a value that looks like a wildcard is not put in": {[]string{one("Allow", "*", arn+"topic/${iot:Connection.Thing.Attributes[odd]}")}, "iot:Publish", arn + "topic/a*b", press(), false},
		"an unknown attribute matches nothing":             {[]string{one("Allow", "*", arn+"topic/${iot:Connection.Thing.Attributes[x]}")}, "iot:Publish", arn + "topic/", press(), false},
		"without a thing its variables match nothing":      {[]string{one("Allow", "*", arn+"topic/${iot:Connection.Thing.ThingName}")}, "iot:Publish", arn + "topic/", &policy.Vars{MQTT: true}, false},
		"without a connection no variable matches":         {[]string{one("Allow", "*", arn+"topic/${iot:ClientId}")}, "iot:Publish", arn + "topic/", nil, false},
		"certificate id, second name and alternative name": {[]string{one("Allow", "*", arn+"topic/${iot:CertificateId}/${iot:Certificate.Subject.CommonName.1}/${iot:Certificate.Subject.AlternativeName.DNSName}")}, "iot:Publish", arn + "topic/ab12/second/a.example", press(), true},
		"a star after a variable":                          {[]string{one("Allow", "*", arn+"client/${iot:Connection.Thing.ThingName}*")}, "iot:Connect", arn + "client/press-07#2", press(), true},
		"a client id with a number sign is not put in":     {[]string{one("Allow", "*", arn+"topicfilter/${iot:ClientId}")}, "iot:Subscribe", arn + "topicfilter/#", &policy.Vars{ClientID: "#", MQTT: true}, false},
		"the old version has no variables":                 {[]string{strings.Replace(one("Allow", "*", arn+"topic/${iot:ClientId}"), "2012", "2008", 1)}, "iot:Publish", arn + "topic/${iot:ClientId}", press(), true},
	} {
		t.Run(name, func(t *testing.T) {
			var docs []*policy.Document
			for _, d := range c.docs {
				docs = append(docs, parse(t, d))
			}
			assert.Equal(t, c.want, policy.Decide(docs, policy.Request{Action: c.action, Resource: c.resource, Vars: c.vars}))
		})
	}
}

func TestConditions(t *testing.T) {
	for name, c := range map[string]struct {
		condition string
		vars      *policy.Vars
		want      bool
	}{
		"attached":                               {`{"Bool":{"iot:Connection.Thing.IsAttached":["true"]}}`, press(), true},
		"attached, written as a literal":         {`{"Bool":{"iot:Connection.Thing.IsAttached":true}}`, press(), true},
		"not attached":                           {`{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}`, &policy.Vars{MQTT: true}, false},
		"attachment says nothing on HTTPS":       {`{"Bool":{"iot:Connection.Thing.IsAttached":"false"}}`, &policy.Vars{}, false},
		"equal to one of two":                    {`{"StringEquals":{"iot:ClientId":["a","press-07"]}}`, press(), true},
		"equality knows no star":                 {`{"StringEquals":{"iot:ClientId":"press*"}}`, press(), false},
		"like knows the star":                    {`{"StringLike":{"iot:ClientId":"press*"}}`, press(), true},
		"not equal to any of two":                {`{"StringNotEquals":{"iot:ClientId":["a","press-07"]}}`, press(), false},
		"a missing key is not equal":             {`{"StringNotEquals":{"iot:ClientId":"a"}}`, &policy.Vars{}, true},
		"not like":                               {`{"StringNotLike":{"iot:ClientId":"x*"}}`, press(), true},
		"without case":                           {`{"StringEqualsIgnoreCase":{"iot:ClientId":"PRESS-07"}}`, press(), true},
		"a variable in the value, without case":  {`{"StringEqualsIgnoreCase":{"iot:ClientId":"${iot:Connection.Thing.ThingName}"}}`, &policy.Vars{ClientID: "PRESS", Thing: &policy.Thing{Name: "Press"}}, true},
		"a variable in the value":                {`{"StringEquals":{"iot:ClientId":"${iot:Connection.Thing.ThingName}"}}`, press(), true},
		"an address in the block":                {`{"IpAddress":{"aws:SourceIp":["192.168.0.0/16","10.0.0.0/8"]}}`, press(), true},
		"an address outside the block":           {`{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`, press(), false},
		"all operators must hold":                {`{"StringLike":{"iot:ClientId":"press*"},"IpAddress":{"aws:SourceIp":"1.1.1.1"}}`, press(), false},
		"a variable without value does not hold": {`{"StringEquals":{"iot:ClientId":"${iot:Connection.Thing.Attributes[x]}"}}`, press(), false},
		"a certificate field":                    {`{"StringEquals":{"iot:Certificate.Subject.OrganizationalUnit":"line"}}`, press(), true},
	} {
		t.Run(name, func(t *testing.T) {
			d := parse(t, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":`+c.condition+`}}`)
			assert.Equal(t, c.want, policy.Decide([]*policy.Document{d}, policy.Request{Action: "iot:Connect", Resource: "r", Vars: c.vars}))
		})
	}
}

func TestParseNamesTheMemberAtFault(t *testing.T) {
	for name, c := range map[string]struct{ doc, field string }{
		"not JSON":               {`{`, "policyDocument"},
		"a list":                 {`[]`, "policyDocument"},
		"text behind":            {one("Allow", "*", "*") + "x", "policyDocument"},
		"no version":             {`{"Statement":[]}`, "Version"},
		"unknown version":        {`{"Version":"2020-01-01","Statement":[]}`, "Version"},
		"version is a number":    {`{"Version":2012}`, "Version"},
		"no statement":           {`{"Version":"2012-10-17"}`, "Statement"},
		"empty statement list":   {`{"Version":"2012-10-17","Statement":[]}`, "Statement"},
		"statement is text":      {`{"Version":"2012-10-17","Statement":"x"}`, "Statement"},
		"unknown member":         {`{"Version":"2012-10-17","statement":[]}`, "statement"},
		"version twice":          {`{"Version":"2012-10-17","Version":"2008-10-17"}`, "policyDocument.Version"},
		"no effect":              {`{"Version":"2012-10-17","Statement":[{"Action":"*","Resource":"*"}]}`, "Statement[0].Effect"},
		"wrong effect":           {one("allow", "*", "*"), "Statement[0].Effect"},
		"effect twice":           {`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Effect":"Allow"}}`, "Statement.Effect"},
		"principal":              {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*"}]}`, "Statement[0].Principal"},
		"not action":             {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":"*"}]}`, "Statement[0].NotAction"},
		"action without service": {one("Allow", "Publish", "*"), "Statement[0].Action"},
		"empty resource":         {one("Allow", "*", ""), "Statement[0].Resource"},
		"resource is a number":   {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":["*",1]}]}`, "Statement[0].Resource[1]"},
		"resource is true":       {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":true}]}`, "Statement[0].Resource"},
		"empty action list":      {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[],"Resource":"*"}]}`, "Statement[0].Action"},
		"unknown operator":       {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Numeric":{}}}]}`, "Statement[0].Condition.Numeric"},
		"unknown condition key":  {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"x":"true"}}}]}`, "Statement[0].Condition.Bool.x"},
		"bad address":            {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0"}}}]}`, "Statement[0].Condition.IpAddress.aws:SourceIp"},
		"over 2048 characters":   {one("Allow", "*", strings.Repeat("a", 2000)), "policyDocument"},
		"not UTF-8":              {"{\"Version\":\"\xff\"}", "policyDocument"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := policy.Parse([]byte(c.doc))
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, c.field, fault.FieldOf(err), err.Error())
		})
	}
}

func TestWhiteSpaceDoesNotCount(t *testing.T) {
	_, err := policy.Parse([]byte(strings.Repeat(" \n", 4000) + one("Allow", "*", "*")))
	require.NoError(t, err)
}

func FuzzParse(f *testing.F) {
	f.Add(one("Allow", "iot:*", arn+"topic/${iot:ClientId}/*"))
	f.Add(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":["a:b"],"Resource":["*"],"Condition":{"StringLike":{"iot:ClientId":["a*"]}}}}`)
	allow, err := policy.Parse([]byte(one("Allow", "*", "*")))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, doc string) {
		d, err := policy.Parse([]byte(doc))
		if err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			return
		}
		r := policy.Request{Action: "iot:Publish", Resource: arn + "topic/press-07/up", Vars: press()}
		if policy.Decide([]*policy.Document{d}, r) {
			require.True(t, policy.Decide([]*policy.Document{d, allow}, r), "what allows alone allows with an allow beside it")
		}
	})
}

// FuzzMatch compares the matcher with regexp, and checks that adding a Deny
// never allows more.
func FuzzMatch(f *testing.F) {
	f.Add("a*b?c", "aXXbYc")
	f.Add("*a*a*", "aaa")
	f.Add("?*é", "xé")
	f.Fuzz(func(t *testing.T, pat, s string) {
		if pat == "" || len(pat) > 200 || strings.Contains(pat, "${") || !utf8.ValidString(pat) || !utf8.ValidString(s) {
			return
		}
		allow, err := policy.Parse([]byte(one("Allow", "*", pat)))
		if err != nil {
			return
		}
		var re strings.Builder
		for _, r := range pat {
			switch r {
			case '*':
				re.WriteString(`[\s\S]*`)
			case '?':
				re.WriteString(`[\s\S]`)
			default:
				re.WriteString(regexp.QuoteMeta(string(r)))
			}
		}
		want := regexp.MustCompile(`\A(?:` + re.String() + `)\z`).MatchString(s)
		r := policy.Request{Action: "iot:Publish", Resource: s}
		require.Equal(t, want, policy.Decide([]*policy.Document{allow}, r), "pattern %q text %q", pat, s)

		deny := parse(t, one("Deny", "*", pat))
		every := parse(t, one("Allow", "*", "*"))
		require.Equal(t, !want, policy.Decide([]*policy.Document{every, deny}, r))
	})
}

func BenchmarkDecideTenStatements(b *testing.B) {
	var docs []*policy.Document
	for _, topic := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"} {
		docs = append(docs, parse(b, one("Allow", "iot:Publish", arn+"topic/$aws/things/${iot:Connection.Thing.ThingName}/"+topic+"/*")))
	}
	docs = append(docs, parse(b, one("Allow", "iot:Publish", arn+"topic/$aws/things/${iot:Connection.Thing.ThingName}/jobs/*/update")))
	r := policy.Request{Action: "iot:Publish", Resource: arn + "topic/$aws/things/press-07/jobs/x/update", Vars: press()}
	b.ReportAllocs()
	for b.Loop() {
		if !policy.Decide(docs, r) {
			b.Fatal("denied")
		}
	}
}
