package help_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/agent/internal/doctor"
	"github.com/ggfleet/ggfleet/agent/internal/help"
)

// planted are secrets as they stand in logs and configurations, with what must
// never leave the device.
var planted = map[string]struct{ text, secret string }{
	"a private key":             {"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\nplantedkeyline2\n-----END PRIVATE KEY-----", "MIGHAgEAMBMGByqGSM49AgEG\nplantedkeyline2"},
	"a private key in one line": {`{"key":"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEplantedEC\n-----END EC PRIVATE KEY-----\n","b":1}`, "MHcCAQEEplantedEC"},
	"a line of a key":           {"MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDplantedBody1", "plantedBody1"},
	"an activation string":      {"enroll with ggf1.eyJ1IjoiaHR0cHM6Ly9leGFtcGxlIn0plantedGGF please", "plantedGGF"},
	"an AWS secret by name":     {"AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYplantedAWS", "plantedAWS"},
	"an AWS secret alone":       {"got wJalrXUtnFEMIxK7MDENGxbPxRfiCYplantdAlon from it", "plantdAlon"},
	"an AWS session token":      {`"sessionToken": "IQoJb3JpZ2luX2VjplantedSession//8="`, "plantedSession"},
	"an access key id":          {"key AKIAIOSFODNN7PLANTED used", "AKIAIOSFODNN7PLANTED"},
	"a bearer header":           {"> Authorization: Bearer plantedBearer.abc-def", "plantedBearer"},
	"a basic header":            {"proxy-authorization: Basic cGxhbnRlZDpCYXNpYw==", "cGxhbnRlZDpCYXNpYw"},
	"a signature of AWS":        {"authorization=AWS4-HMAC-SHA256 Credential=AKID/x, Signature=plantedSigV4", "plantedSigV4"},
	"a bearer without its name": {"sent bearer plantedLoose123", "plantedLoose123"},
	"a cookie":                  {"Set-Cookie: session=plantedCookie; Path=/", "plantedCookie"},
	"a URL with a password":     {"proxy http://user:plantedURLpw@proxy.example:3128/ used", "plantedURLpw"},
	"a URL with odd characters": {"https://u:pl/anted#Odd?pw@host/", "anted#Odd?pw"},
	"a presigned URL":           {"GET https://b.s3.amazonaws.com/k?X-Amz-Date=1&X-Amz-Signature=plantedPresign&x=1", "plantedPresign"},
	"a download link of ours":   {"https://ggfleet.example:8443/a/plantedLinkToken/certs.zip", "plantedLinkToken"},
	"a password in JSON":        {`{"mqttPassword":"planted JSON pw","a":1}`, "planted JSON pw"},
	"a password with quotes":    {`password="planted \"quoted\" pw"`, "quoted"},
	"a password in YAML":        {"  dbPassword: plantedYAML", "plantedYAML"},
	"passwords in a list":       {`"passwords": ["plantedList1", "plantedList2"]`, "plantedList"},
	"a password on a command":   {"exec: tool --password plantedFlag -v", "plantedFlag"},
	"an API key":                {"x-api-key: plantedAPIkey", "plantedAPIkey"},
	"an API key in a query":     {"GET /v1?api_key=plantedQuery&x=1", "plantedQuery"},
	"a JWT":                     {"token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.plantedJWTsig", "plantedJWTsig"},
	"a token of a forge":        {"clone with ghp_plantedForge0123456789abcdef0123", "plantedForge"},
	"a webhook's secret":        {"whsec_plantedWebhook0123456789", "plantedWebhook"},
	"a PIN of a token":          {"pkcs11:token=core;object=key?pin-value=planted4711", "planted4711"},
	"a PIN in a configuration":  {"userPin: planted0815x", "planted0815x"},
	"a pre-shared key":          {"wifi psk=plantedPSK", "plantedPSK"},
	"a value of an XML":         {"<Password>plantedXML</Password>", "plantedXML"},
	"a connection string":       {"HostName=h;SharedAccessKey=plantedShared=;x=1", "plantedShared"},
	"an activation code":        {"activationCode=plantedActivation99", "plantedActivation99"},
	"a nucleus token":           {"GGFLEET_NUCLEUS_TOKEN=plantedNucleus", "plantedNucleus"},
	"a secret behind escapes":   {`\"clientSecret\":\"plantedEscaped\"`, "plantedEscaped"},
	"a secret after an arrow":   {"secret => plantedArrow", "plantedArrow"},
	"a secret of a Java map":    {"{user=a, secretKey=plantedJava, b=c}", "plantedJava"},
}

func TestSecretsAreTakenOutOfLines(t *testing.T) {
	for name, p := range planted {
		t.Run(name, func(t *testing.T) {
			got := help.Scrub("before\n" + p.text + "\nafter")
			for part := range strings.SplitSeq(p.secret, "\n") {
				assert.NotContains(t, got, part)
			}
			assert.True(t, strings.HasPrefix(got, "before\n") && strings.HasSuffix(got, "\nafter"), got)
			assert.Contains(t, got, "[removed]")
		})
	}
}

func TestWhatIsNoSecretStays(t *testing.T) {
	for _, s := range []string{
		"2026-05-01T09:30:00.123Z [INFO] (pool-2-thread-5) com.aws.greengrass.lifecyclemanager.Kernel: system-shutdown. {main=null}",
		"{serviceName=aws.greengrass.TokenExchangeService, currentState=RUNNING}",
		"digest e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 matches",
		"commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
		"deployment 6f1c9a52-0d7e-4c1b-8a3f-5b2d9e7c4a10 succeeded for arn:aws:greengrass:us-east-1:000000000000:components:a:versions:1.0.0",
		"wrote /greengrass/v2/packages/artifacts-unarchived/com.example.Hello/1.0.0/hello-0123456789",
		"connecting to https://data.example:8443/things?x=1",
		"tab\tstays, größe too",
	} {
		assert.Equal(t, s, help.Scrub(s))
	}
}

func TestNothingOfTheDoctorIsTakenForASecret(t *testing.T) {
	for _, c := range doctor.Checks() {
		line := "ok       " + c.Code + " " + c.Name + ": 2 of them are closed to others"
		assert.Equal(t, line, help.Scrub(line))
		assert.Equal(t, c.Meaning+c.Fix, help.Scrub(c.Meaning+c.Fix))
	}
}

func TestAKeyWithoutEndHidesNotEverything(t *testing.T) {
	var b strings.Builder
	b.WriteString("-----BEGIN PRIVATE KEY-----\n")
	for range 300 {
		b.WriteString("a line\n")
	}
	got := help.Scrub(b.String())
	assert.Equal(t, 99, strings.Count(got, "a line"))
}

func FuzzScrub(f *testing.F) {
	for _, p := range planted {
		f.Add(p.text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := help.Scrub(s)
		assert.NotContains(t, got, "\x1b")
		for _, l := range strings.Split(got, "\n") {
			assert.LessOrEqual(t, len(l), 10*len(s)+20)
		}
	})
}
