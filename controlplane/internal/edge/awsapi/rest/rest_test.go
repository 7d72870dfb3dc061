package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/shared/fault"
)

type limits struct {
	Memory *int64  `json:"memory,omitempty" check:"range=0..9223372036854771712"`
	CPUs   float64 `json:"cpus,omitempty" check:"range=0.."`
}

type part struct {
	Version string   `json:"componentVersion" check:"required,len=1..8"`
	Reset   []string `json:"reset,omitempty" check:"items=0..2,item.len=0..4,item.pattern=pointer"`
	Limits  *limits  `json:"limits,omitempty"`
}

type makeInput struct {
	Kind   string            `path:"kind"`
	Name   string            `path:"name" check:"len=1..16"`
	Size   *int32            `query:"size" check:"range=1..100"`
	Flag   bool              `query:"flag"`
	Keys   []string          `query:"keys" check:"items=0..2,item.len=1..3"`
	Who    string            `header:"x-amzn-principal"`
	Target string            `json:"target" check:"required,pattern=target"`
	Action string            `json:"action" check:"enum=STOP|GO"`
	Parts  map[string]part   `json:"parts" check:"key.len=1..5"`
	Tags   map[string]string `json:"tags" check:"items=1..2,value.len=0..3"`
	Blob   []byte            `json:"blob" check:"len=0..4"`
	Raw    json.RawMessage   `json:"raw"`
	Nested map[string][]part `json:"nested"`
}

type shown struct {
	In     *makeInput `json:"in"`
	Access string     `json:"access"`
	At     rest.Time  `json:"at,omitzero"`
}

type fileInput struct {
	ARN  string `path:"arn"`
	File string `path:"file"`
}

type authenticator struct{ readOnly bool }

func (a authenticator) Authenticate(r *http.Request, payload func() (string, error)) (rest.Caller, error) {
	if r.Header.Get("Authorization") == "none" {
		return rest.Caller{}, rest.Fail(403, "MissingAuthenticationTokenException", "Missing Authentication Token", nil)
	}
	sum, err := payload()
	if err != nil {
		return rest.Caller{}, err
	}
	if len(sum) != 64 {
		return rest.Caller{}, errors.New("no digest")
	}
	return rest.Caller{AccessKey: "KEY", ReadOnly: a.readOnly}, nil
}

func words(err error) *rest.Error {
	if e, ok := errors.AsType[*rest.InvalidError](err); ok {
		return &rest.Error{Status: 400, Code: "Invalid", Message: e.Error(), Members: map[string]any{"fields": e.Problems}}
	}
	if e, ok := errors.AsType[*rest.UnparsableError](err); ok {
		return &rest.Error{Status: 400, Code: "Unparsable", Message: e.Text}
	}
	if e, ok := errors.AsType[*rest.ThrottledError](err); ok {
		return &rest.Error{Status: 429, Code: "Throttling", Message: e.Error(), RetryAfter: e.After}
	}
	if k := fault.KindOf(err); k != "" {
		return &rest.Error{Status: 409, Code: string(k), Message: fault.Message(err)}
	}
	return nil
}

func config() rest.Config {
	file := func(name string) rest.Call {
		return rest.Handle(func(_ context.Context, in *fileInput) (*map[string]string, error) {
			return &map[string]string{"op": name, "arn": in.ARN, "file": in.File}, nil
		})
	}
	word := func(name string) rest.Call {
		return rest.Handle(func(context.Context, *rest.Empty) (*map[string]string, error) {
			return &map[string]string{"op": name}, nil
		})
	}
	return rest.Config{
		Name: "sample", Auth: authenticator{}, Error: words, Internal: rest.Error{Status: 500, Code: "Internal", Message: "sorry"},
		Patterns: map[string]*regexp.Regexp{"target": regexp.MustCompile(`^arn:`), "pointer": regexp.MustCompile(`^(/.*)?$`)},
		MaxBody:  1000,
		Operations: []rest.Operation{
			{Name: "Make", Method: "POST", Path: "/v1/{kind}/{name}", Status: 201, Call: rest.Handle(func(ctx context.Context, in *makeInput) (*shown, error) {
				return &shown{In: in, Access: rest.CallerOf(ctx).AccessKey, At: rest.At(time.UnixMilli(1610065280691))}, nil
			})},
			{Name: "GetFile", Method: "GET", Path: "/components/{arn}/artifacts/{file+}", Call: file("file")},
			{Name: "Word", Method: "PUT", Path: "/groups/add", Call: word("word")},
			{Name: "Label", Method: "PUT", Path: "/groups/{name}", Call: rest.Handle(func(_ context.Context, in *struct {
				Name string `path:"name"`
			},
			) (*map[string]string, error) {
				return &map[string]string{"op": "label", "name": in.Name}, nil
			})},
			{Name: "Remove", Method: "DELETE", Path: "/groups", Status: 204, Call: rest.Handle(func(context.Context, *rest.Empty) (*rest.Empty, error) { return nil, nil })},
			{Name: "Fail", Method: "POST", Path: "/fail", Reads: true, Call: rest.Handle(func(_ context.Context, in *struct {
				How string `json:"how"`
			},
			) (*rest.Empty, error) {
				switch in.How {
				case "panic":
					panic("boom")
				case "defect":
					return nil, errors.New("secret detail")
				}
				return nil, rest.Fail(402, "Quota", "no more", map[string]any{"quotaCode": "x"})
			})},
		},
	}
}

func service(t testing.TB, change func(*rest.Config)) http.Handler {
	cfg := config()
	if change != nil {
		change(&cfg)
	}
	s, err := rest.New(cfg)
	require.NoError(t, err)
	return s
}

func do(h http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, content)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestEveryMemberArrivesFromItsPlace(t *testing.T) {
	w := do(service(t, nil), "POST", "/v1/a%3Ab/c%2Fd%2Be+f?size=7&flag=true&keys=a%20b&keys=c", `{
		"target":"arn:x","action":"GO","unknown":[1,{}],"TARGET":1,"tags":{"a":""},"blob":"aGk=","raw":{"b":1.50},
		"parts":{"p.q":{"componentVersion":"1","reset":["","/a"],"limits":{"memory":9223372036854771712,"cpus":1}},"z":{"componentVersion":"2","limits":null}},
		"nested":{"n":[{"componentVersion":"3"}]}}`, "x-amzn-principal", "arn:cert")
	require.Equal(t, 201, w.Code, w.Body)
	assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
	assert.Len(t, w.Header().Get("X-Amzn-RequestId"), 36)
	var out struct {
		In     map[string]any
		Access string
		At     json.Number
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
	assert.Equal(t, "KEY", out.Access)
	assert.Equal(t, json.Number("1610065280.691"), out.At)
	assert.Contains(t, w.Body.String(), `"Kind":"a:b","Name":"c/d+e+f","Size":7,"Flag":true,"Keys":["a b","c"],"Who":"arn:cert"`)
	assert.Contains(t, w.Body.String(), `"blob":"aGk=","raw":{"b":1.50}`)
	assert.Contains(t, w.Body.String(), `"limits":{"memory":9223372036854771712,"cpus":1}`)
	assert.Contains(t, w.Body.String(), `"nested":{"n":[{"componentVersion":"3"}]}`)
}

func TestAProblemNamesTheMember(t *testing.T) {
	h := service(t, nil)
	for name, tt := range map[string]struct{ target, body, field, says string }{
		"a required member is absent":         {"", `{}`, "target", "is required"},
		"a required member is null":           {"", `{"target":null}`, "target", "is required"},
		"a pattern":                           {"", `{"target":"x"}`, "target", "must match ^arn:"},
		"an enum":                             {"", `{"target":"arn:","action":"stop"}`, "action", "one of [STOP GO]"},
		"a string that is a number":           {"", `{"target":1}`, "target", "is a number, want a string"},
		"a map that is a list":                {"", `{"target":"arn:","parts":[]}`, "parts", "is a list, want an object"},
		"a member of a map's value":           {"", `{"target":"arn:","parts":{"a.b":{}}}`, "parts.a.b.componentVersion", "is required"},
		"a map's null":                        {"", `{"target":"arn:","parts":{"a":null}}`, "parts.a", "is null"},
		"a key that is too long":              {"", `{"target":"arn:","parts":{"abcdef":{"componentVersion":"1"}}}`, "parts.abcdef", "has 6 characters, must have between 1 and 5"},
		"too many entries of a map":           {"", `{"target":"arn:","tags":{"a":"","b":"","c":""}}`, "tags", "has 3 entries, must have between 1 and 2"},
		"too few entries of a map":            {"", `{"target":"arn:","tags":{}}`, "tags", "has 0 entries"},
		"a value that is too long":            {"", `{"target":"arn:","tags":{"a":"éèêë"}}`, "tags.a", "has 4 characters"},
		"an item of a list":                   {"", `{"target":"arn:","parts":{"a":{"componentVersion":"1","reset":["","x"]}}}`, "parts.a.reset[1]", "must match"},
		"a number over the range":             {"", `{"target":"arn:","parts":{"a":{"componentVersion":"1","limits":{"memory":9223372036854771713}}}}`, "parts.a.limits.memory", "must be between 0 and 9223372036854771712"},
		"a number over all ranges":            {"", `{"target":"arn:","parts":{"a":{"componentVersion":"1","limits":{"memory":9e99}}}}`, "parts.a.limits.memory", "must be between"},
		"a fraction":                          {"", `{"target":"arn:","parts":{"a":{"componentVersion":"1","limits":{"memory":1.5}}}}`, "parts.a.limits.memory", "whole number"},
		"a negative double":                   {"", `{"target":"arn:","parts":{"a":{"componentVersion":"1","limits":{"cpus":-0.5}}}}`, "parts.a.limits.cpus", "at least 0"},
		"a blob that is not base64":           {"", `{"target":"arn:","blob":"%%"}`, "blob", "not base64"},
		"a blob that is too long":             {"", `{"target":"arn:","blob":"aGVsbG8="}`, "blob", "has 5 bytes"},
		"a query number":                      {"?size=101", `{"target":"arn:"}`, "size", "between 1 and 100"},
		"a query number that is none":         {"?size=", `{"target":"arn:"}`, "size", "want a number"},
		"a query number of more than 32 bits": {"?size=5000000000", `{"target":"arn:"}`, "size", "between 1 and 100"},
		"a flag":                              {"?flag=yes", `{"target":"arn:"}`, "flag", "true or false"},
		"a query member twice":                {"?size=1&size=2", `{"target":"arn:"}`, "size", "2 times"},
		"too many of a list of the query":     {"?keys=a&keys=b&keys=c", `{"target":"arn:"}`, "keys", "3 entries"},
		"a label that is too long":            {"xxxxxxxxxxxxxxxx", `{"target":"arn:"}`, "name", "has 17 characters"},
	} {
		t.Run(name, func(t *testing.T) {
			w := do(h, "POST", "/v1/k/n"+tt.target, tt.body)
			assert.Equal(t, 400, w.Code)
			assert.Equal(t, "Invalid", w.Header().Get("X-Amzn-ErrorType"))
			var out struct {
				Message string
				Fields  []rest.Problem
			}
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
			require.Len(t, out.Fields, 1, w.Body)
			assert.Equal(t, tt.field, out.Fields[0].Name)
			assert.Contains(t, out.Fields[0].Message, tt.says)
			assert.Contains(t, out.Message, tt.field)
		})
	}
}

func TestAllProblemsAreToldAtOnceButNotWithoutEnd(t *testing.T) {
	w := do(service(t, nil), "POST", "/v1/k/n?size=0", `{"action":"x"}`)
	assert.Equal(t, 3, strings.Count(w.Body.String(), `"Name"`), w.Body)
	w = do(service(t, func(c *rest.Config) { c.MaxBody = 1 << 20 }), "POST", "/v1/k/n", `{"parts":{"a":{"componentVersion":"1","reset":[`+strings.Repeat("1,", 1000)+`1]}}}`)
	assert.LessOrEqual(t, strings.Count(w.Body.String(), `"Name"`), 20)
}

func TestABodyThatIsNoObjectIsRefused(t *testing.T) {
	h := service(t, nil)
	for _, body := range []string{`[]`, `"x"`, `{`, `{} {}`, `{"target":}`, "{\"target\":\"\xff\"}", `1`, strings.Repeat("[", 900)} {
		w := do(h, "POST", "/v1/k/n", body)
		assert.Equal(t, "Unparsable", w.Header().Get("X-Amzn-ErrorType"), body)
	}
	w := do(h, "POST", "/v1/k/n", strings.Repeat(" ", 1001))
	assert.Contains(t, w.Body.String(), "more than 1000 bytes")
	w = do(h, "POST", "/v1/k/n?%zz", `{}`)
	assert.Equal(t, "Unparsable", w.Header().Get("X-Amzn-ErrorType"))
}

func TestAPathIsMatchedAsItWasSent(t *testing.T) {
	h := service(t, nil)
	arn := "arn%3Aaws%3Agreengrass%3Ar%3A1%3Acomponents%3Aa%3Aversions%3A1.0.0"
	for _, path := range []string{arn, "arn:aws:greengrass:r:1:components:a:versions:1.0.0"} { // lite does not escape
		w := do(h, "GET", "/components/"+path+"/artifacts/dir/some%20file%2Bx.zip", "")
		assert.JSONEq(t, `{"op":"file","arn":"arn:aws:greengrass:r:1:components:a:versions:1.0.0","file":"dir/some file+x.zip"}`, w.Body.String())
	}
	assert.JSONEq(t, `{"op":"word"}`, do(h, "PUT", "/groups/add", "").Body.String())
	assert.JSONEq(t, `{"op":"label","name":"a..b//c"}`, do(h, "PUT", "/groups/a..b%2F%2Fc", "").Body.String())
	for _, target := range []string{"/", "/groups/", "/groups/a/b", "/v1//x", "/components//artifacts/x", "/components/a/artifacts/", "/nothing"} {
		w := do(h, "GET", target, "")
		assert.Equal(t, 404, w.Code, target)
		assert.Equal(t, "UnknownOperationException", w.Header().Get("X-Amzn-ErrorType"), target)
	}
	assert.Equal(t, 404, do(h, "PATCH", "/groups/add", "").Code, "a method that is no operation")
}

func TestAnAnswerWithoutContentHasNone(t *testing.T) {
	w := do(service(t, nil), "DELETE", "/groups", "ignored")
	assert.Equal(t, 204, w.Code)
	assert.Empty(t, w.Body.String())
	assert.Empty(t, w.Header().Get("Content-Type"))
}

func TestErrorsAreWordedForClients(t *testing.T) {
	h := service(t, nil)
	w := do(h, "POST", "/fail", `{}`)
	assert.Equal(t, 402, w.Code)
	assert.JSONEq(t, `{"message":"no more","quotaCode":"x"}`, w.Body.String())
	assert.Equal(t, "Quota", w.Header().Get("X-Amzn-ErrorType"))
	for _, how := range []string{"panic", "defect"} {
		w = do(h, "POST", "/fail", `{"how":"`+how+`"}`)
		assert.Equal(t, 500, w.Code)
		assert.JSONEq(t, `{"message":"sorry"}`, w.Body.String(), "nothing of the inside")
	}
	w = do(h, "POST", "/nothing", "", "Authorization", "none")
	assert.Equal(t, "MissingAuthenticationTokenException", w.Header().Get("X-Amzn-ErrorType"), "who is nobody learns nothing of operations")
}

func TestAKeyThatOnlyReads(t *testing.T) {
	h := service(t, func(c *rest.Config) { c.Auth = authenticator{readOnly: true} })
	assert.Equal(t, 200, do(h, "GET", "/components/a/artifacts/x", "").Code)
	assert.Equal(t, 402, do(h, "POST", "/fail", "{}").Code, "a POST that changes nothing")
	w := do(h, "DELETE", "/groups", "")
	assert.Equal(t, "denied", w.Header().Get("X-Amzn-ErrorType"))
	assert.Contains(t, w.Body.String(), "Remove")
}

func TestWhoAsksTooOftenWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := service(t, func(c *rest.Config) { c.Rate = 2 })
		ask := func() *httptest.ResponseRecorder { return do(h, "GET", "/components/a/artifacts/x", "") }
		assert.Equal(t, 200, ask().Code)
		assert.Equal(t, 200, ask().Code)
		w := ask()
		assert.Equal(t, 429, w.Code)
		assert.Equal(t, "1", w.Header().Get("Retry-After"))
		time.Sleep(time.Second)
		assert.Equal(t, 200, ask().Code)
	})
}

func TestATokenHoldsForItsFilters(t *testing.T) {
	token := rest.Token("name/ü", "a", "b")
	after, err := rest.After(token, "a", "b")
	require.NoError(t, err)
	assert.Equal(t, "name/ü", after)
	after, err = rest.After("", "a")
	require.NoError(t, err)
	assert.Empty(t, after)
	for _, wrong := range []string{token + "A", "%", "AAAA", strings.Repeat("A", 2000)} {
		_, err = rest.After(wrong, "x")
		require.ErrorIs(t, err, fault.Invalid, wrong)
		assert.Equal(t, "nextToken", fault.FieldOf(err))
	}
	_, err = rest.AfterMarker(token, "a")
	assert.Equal(t, "marker", fault.FieldOf(err))
}

func TestATableWithAMistakeIsRefused(t *testing.T) {
	call := rest.Handle(func(context.Context, *rest.Empty) (*rest.Empty, error) { return nil, nil })
	for name, ops := range map[string][]rest.Operation{
		"two of one path":          {{Name: "A", Method: "GET", Path: "/a", Call: call}, {Name: "B", Method: "GET", Path: "/a", Call: call}},
		"a label without a member": {{Name: "A", Method: "GET", Path: "/{a}", Call: call}},
		"a label that is not last": {{Name: "A", Method: "GET", Path: "/{a+}/b", Call: call}},
		"an unknown check": {{Name: "A", Method: "GET", Path: "/a", Call: rest.Handle(func(context.Context, *struct {
			A string `json:"a" check:"odd=1"`
		},
		) (*rest.Empty, error) {
			return nil, nil
		})}},
		"an unknown pattern": {{Name: "A", Method: "GET", Path: "/a", Call: rest.Handle(func(context.Context, *struct {
			A string `json:"a" check:"pattern=none"`
		},
		) (*rest.Empty, error) {
			return nil, nil
		})}},
		"a member of nowhere": {{Name: "A", Method: "GET", Path: "/a", Call: rest.Handle(func(context.Context, *struct{ A string }) (*rest.Empty, error) { return nil, nil })}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			cfg.Operations = ops
			_, err := rest.New(cfg)
			assert.Error(t, err)
		})
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("/v1/a/b?size=1", `{"target":"arn:x","parts":{"a":{"componentVersion":"1","reset":["/"]}},"nested":{"a":[{}]}}`)
	f.Add("/components/a%2Fb/artifacts/x/y", `{}`)
	f.Add("/v1/%zz/x", `{"blob":"====","tags":{"":null}}`)
	h := service(f, nil)
	f.Fuzz(func(t *testing.T, target, body string) {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		u, err := r.URL.Parse(target)
		if err != nil {
			return
		}
		r.URL = u
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		assert.NotEqual(t, 500, w.Code, "%s %s", target, body)
		assert.True(t, json.Valid(w.Body.Bytes()))
	})
}
