package patching

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestExpressions(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"plain text passes":                   {"a ${b} {{ c }} $", "a ${b} {{ c }} $"},
		"another expression passes":           {"${aws:ssm:x}", "${aws:ssm:x}"},
		"W-113: without a query":              {"${aws:s3:presign:https://bucket/a/b.zip}", "[bucket a/b.zip 1h0m0s]"},
		"with an expiry":                      {"${aws:s3:presign:https://bucket/k?expiresIn=60}", "[bucket k 1m0s]"},
		"inside longer text, twice":           {"x=${aws:s3:presign:https://b/k},y=${aws:s3:presign:https://b/l}.", "x=[b k 1h0m0s],y=[b l 1h0m0s]."},
		"the bucket's host in lower case":     {"${aws:s3:presign:https://Bucket.s3.eu-west-1.amazonaws.com/K}", "[bucket.s3.eu-west-1.amazonaws.com K 1h0m0s]"},
		"a key with escapes":                  {"${aws:s3:presign:https://b/a%20b%7D}", "[b a b} 1h0m0s]"},
		"the longest life":                    {"${aws:s3:presign:https://b/k?expiresIn=604800}", "[b k 168h0m0s]"},
		"the result is not looked at again":   {"${aws:s3:presign:https://b/%24%7Baws:s3:presign:x%7D}", "[b ${aws:s3:presign:x} 1h0m0s]"},
		"text that begins like an expression": {"${aws:s3:presig", "${aws:s3:presig"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := expand(c.text, func(p presign) (string, error) {
				return "[" + p.bucket + " " + p.key + " " + p.life.String() + "]", nil
			})
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestExpressionsThatAreNone(t *testing.T) {
	for _, inner := range []string{
		"", "k", "http://b/k", "ftp://b/k", "https:///k", "https://b", "https://b/", "https://b//k", "https://b/a/../k", "https://b/%2e%2e/k", "https://u:p@b/k",
		"https://b:443/k", "https://b/k#x", "https://b/k?expiresIn=0", "https://b/k?expiresIn=-1", "https://b/k?expiresIn=x", "https://b/k?expiresIn=604801",
		"https://b/k?expiresIn=1&expiresIn=2", "https://b/k?other=1", "https://b/k?expiresIn=99999999999999999999", "https://b/%zz", "https://b/a%00b",
		"https://b/k?%zz", "https://b/" + strings.Repeat("x", 2000),
	} {
		_, err := expand("${aws:s3:presign:"+inner+"}", func(presign) (string, error) { return "", nil })
		assert.ErrorIs(t, err, fault.Invalid, inner)
		assert.NotEmpty(t, fault.Message(err), inner)
	}
}

func FuzzExpressions(f *testing.F) {
	for _, s := range []string{"", "${aws:s3:presign:https://b/k?expiresIn=1}", "x${aws:s3:presign:https://b.s3.x/k}y", "${aws:s3:presign:", "${aws:s3:presign:https://b/%7D}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out, err := expand(text, func(p presign) (string, error) {
			if p.key == "" || p.bucket == "" || p.life < time.Second || p.life > maxLife || strings.Contains("/"+p.key+"/", "/../") {
				t.Fatalf("%q gave %+v", text, p)
			}
			return "", nil
		})
		if err == nil && strings.Contains(text, exprOpen) == (out == text) {
			t.Fatalf("%q became %q", text, out)
		}
		if err != nil && fault.KindOf(err) != fault.Invalid {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
