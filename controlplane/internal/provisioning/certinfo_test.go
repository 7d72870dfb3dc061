package provisioning_test

import (
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestCertInfoBecomesASubject(t *testing.T) {
	c, err := provisioning.ParseCDFParameters([]byte(`{"caId":"abc","certInfo":{"commonName":"gw","organization":"Acme","organizationalUnit":"R&D","locality":"Oslo","stateName":"Oslo","country":"NO","emailAddress":"a@b.no","daysExpiry":10}}`))
	require.NoError(t, err)
	assert.Equal(t, "abc", c.CAID)
	assert.Equal(t, "CN=gw,OU=R&D,O=Acme,L=Oslo,ST=Oslo,C=NO", strings.ReplaceAll(withoutEmail(c.Subject.String()), `\&`, "&"))
	_, err = asn1.Marshal(c.Subject.ToRDNSequence())
	require.NoError(t, err)
	assert.Equal(t, 10, c.Days)
}

// withoutEmail cuts the attribute that Go prints as hexadecimal.
func withoutEmail(s string) string { return s[strings.Index(s, "CN="):] }

func TestCertInfoMayBeAbsent(t *testing.T) {
	for _, raw := range []string{"", "null", "{}", `{"certInfo":{}}`} {
		c, err := provisioning.ParseCDFParameters([]byte(raw))
		require.NoError(t, err)
		assert.Zero(t, c.Days, "as the server is set")
		assert.Empty(t, c.Subject)
	}
}

func TestCertInfoNamesWhatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct{ raw, field string }{
		"country of three letters": {`{"certInfo":{"country":"USA"}}`, "cdfProvisioningParameters.certInfo.country"},
		"empty country":            {`{"certInfo":{"country":""}}`, "cdfProvisioningParameters.certInfo.country"},
		"country in digits":        {`{"certInfo":{"country":"12"}}`, "cdfProvisioningParameters.certInfo.country"},
		"no days":                  {`{"certInfo":{"daysExpiry":0}}`, "cdfProvisioningParameters.certInfo.daysExpiry"},
		"too many days":            {`{"certInfo":{"daysExpiry":36501}}`, "cdfProvisioningParameters.certInfo.daysExpiry"},
		"half a day":               {`{"certInfo":{"daysExpiry":1.5}}`, "cdfProvisioningParameters.certInfo.daysExpiry"},
		"days as text":             {`{"certInfo":{"daysExpiry":"365"}}`, "cdfProvisioningParameters.certInfo.daysExpiry"},
		"null days":                {`{"certInfo":{"daysExpiry":null}}`, "cdfProvisioningParameters.certInfo.daysExpiry"},
		"long organization":        {`{"certInfo":{"organization":"` + strings.Repeat("x", 65) + `"}}`, "cdfProvisioningParameters.certInfo.organization"},
		"line break":               {`{"certInfo":{"locality":"a\nb"}}`, "cdfProvisioningParameters.certInfo.locality"},
		"unknown member":           {`{"certInfo":{"shoe":"9"}}`, "cdfProvisioningParameters.certInfo.shoe"},
		"unknown top member":       {`{"caID":"x"}`, "cdfProvisioningParameters.caID"},
		"caId as number":           {`{"caId":1}`, "cdfProvisioningParameters.caId"},
		"not JSON":                 {`{`, "cdfProvisioningParameters"},
		"more than a template":     {`{"caId":"` + strings.Repeat("x", 10_300) + `"}`, "cdfProvisioningParameters"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := provisioning.ParseCDFParameters([]byte(tc.raw))
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, tc.field, fault.FieldOf(err), err)
		})
	}
}

func FuzzParseCDFParameters(f *testing.F) {
	f.Add([]byte(`{"caId":"abc","certInfo":{"commonName":"gw","country":"NO","emailAddress":"a@b.no","daysExpiry":10}}`))
	f.Add([]byte(`{"acmpcaCaAlias":"a","amcpcaCaArn":"b","awsiotCaArn":"c","csr":"d","certificatePem":"e","certificateStatus":"ACTIVE"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := provisioning.ParseCDFParameters(b)
		if err != nil {
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.TooLarge {
				t.Fatalf("kind %q: %v", k, err)
			}
			return
		}
		if c.Days < 0 || c.Days > provisioning.MaxDays {
			t.Fatalf("%d days", c.Days)
		}
		if _, err := asn1.Marshal(c.Subject.ToRDNSequence()); err != nil {
			t.Fatalf("no certificate can have the subject %q: %v", c.Subject, err)
		}
	})
}
