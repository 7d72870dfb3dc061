package sigv4_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/sigv4"
)

const goodHeader = "AWS4-HMAC-SHA256 Credential=GGFAKEY/20260102/eu-west-1/greengrass/aws4_request, SignedHeaders=host;x-amz-date, Signature=00ff"

func request(header, query string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://localhost:4566/things", nil)
	r.URL.RawQuery = query
	if header != "" {
		r.Header.Set("Authorization", header)
	}
	return r
}

func TestParseScope(t *testing.T) {
	good := sigv4.Scope{AccessKey: "GGFAKEY", Date: "20260102", Region: "eu-west-1", Service: "greengrass"}
	presigned := good
	presigned.Service, presigned.Presigned = "s3", true
	query := url.Values{
		"X-Amz-Algorithm": {"AWS4-HMAC-SHA256"}, "X-Amz-Signature": {"00"},
		"X-Amz-Credential": {"GGFAKEY/20260102/eu-west-1/s3/aws4_request"},
	}.Encode()
	for name, tt := range map[string]struct {
		header, query string
		want          sigv4.Scope
	}{
		"in the header":                         {header: goodHeader, want: good},
		"without spaces after the commas":       {header: strings.ReplaceAll(goodHeader, ", ", ","), want: good},
		"with the credential last":              {header: "AWS4-HMAC-SHA256 Signature=0, Credential=GGFAKEY/20260102/eu-west-1/greengrass/aws4_request", want: good},
		"in the query":                          {query: query, want: presigned},
		"in the query beside other parameters":  {query: "list-type=2&" + query, want: presigned},
		"in the header with an unsigned query":  {header: goodHeader, query: "Signature=x", want: good},
		"in a query with a part that is broken": {query: query + "&a=%zz", want: presigned},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := sigv4.ParseScope(request(tt.header, tt.query))
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestParseScopeRefuses(t *testing.T) {
	cred := func(c string) string { return "AWS4-HMAC-SHA256 Credential=" + c + ", Signature=0" }
	for name, tt := range map[string]struct {
		header, query string
		is            error
	}{
		"no signature":                     {is: sigv4.ErrAnonymous},
		"an unsigned query":                {query: "list-type=2", is: sigv4.ErrAnonymous},
		"version 2 in the query":           {query: "AWSAccessKeyId=K&Expires=1&Signature=s", is: sigv4.ErrOldSign},
		"version 2 in the header":          {header: "AWS K:sig", is: sigv4.ErrOldSign},
		"both":                             {header: goodHeader, query: "X-Amz-Credential=K", is: sigv4.ErrSignedTwice},
		"a bearer token":                   {header: "Bearer ggft_x"},
		"version 4A":                       {header: "AWS4-ECDSA-P256-SHA256 Credential=K/20260102/s3/aws4_request"},
		"no credential":                    {header: "AWS4-HMAC-SHA256 Signature=0"},
		"two credentials":                  {header: goodHeader + ", Credential=K/20260102/r/s3/aws4_request"},
		"two credentials in the query":     {query: "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a&X-Amz-Credential=b"},
		"no algorithm in the query":        {query: "X-Amz-Credential=K%2F20260102%2Fr%2Fs3%2Faws4_request"},
		"a part too few":                   {header: cred("K/20260102/r/aws4_request")},
		"a part too many":                  {header: cred("K/K/20260102/r/s3/aws4_request")},
		"another end":                      {header: cred("K/20260102/r/s3/aws5_request")},
		"an empty key":                     {header: cred("/20260102/r/s3/aws4_request")},
		"an empty service":                 {header: cred("K/20260102/r//aws4_request")},
		"a date that is none":              {header: cred("K/2026-1-2/r/s3/aws4_request")},
		"a short date":                     {header: cred("K/2026/r/s3/aws4_request")},
		"a service in upper case":          {header: cred("K/20260102/r/S3/aws4_request")},
		"a service with a dot":             {header: cred("K/20260102/r/../aws4_request")},
		"a credential beyond every bound":  {header: cred(strings.Repeat("K", 600) + "/20260102/r/s3/aws4_request")},
		"an access key that breaks a line": {header: cred("K\nX/20260102/r/s3/aws4_request")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sigv4.ParseScope(request(tt.header, tt.query))
			require.Error(t, err)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
			assert.Less(t, len(err.Error()), 400, "what came in is not echoed at length")
		})
	}
}

func FuzzParseScope(f *testing.F) {
	f.Add(goodHeader, "")
	f.Add("", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=K%2F20260102%2Fr%2Fs3%2Faws4_request")
	f.Add("AWS K:s", "AWSAccessKeyId=K&Signature=s")
	f.Add("AWS4-HMAC-SHA256 Credential=,Credential", "a=%zz;b")
	f.Fuzz(func(t *testing.T, header, query string) {
		s, err := sigv4.ParseScope(request(header, query))
		if err != nil {
			assert.Equal(t, sigv4.Scope{}, s)
			return
		}
		credential := strings.Join([]string{s.AccessKey, s.Date, s.Region, s.Service, "aws4_request"}, "/")
		again, err := sigv4.ParseScope(request("AWS4-HMAC-SHA256 Credential="+credential, ""))
		require.NoError(t, err)
		s.Presigned = false
		assert.Equal(t, s, again, "what was read is what such a credential says")
		assert.Regexp(t, `^[a-z0-9-]+$`, s.Service)
		assert.Len(t, s.Date, 8)
	})
}
