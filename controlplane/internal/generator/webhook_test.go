package generator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/generator"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func serve(t *testing.T, h http.HandlerFunc) *generator.Webhook {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	w, err := generator.New(generator.Config{Alias: "MINE", URL: strings.Replace(s.URL, "http://", "http://gg:s3cret@", 1) + "/gen?x=1"})
	require.NoError(t, err)
	return w
}

func input() config.Input {
	return config.Input{
		Version: "2.4.0", CoreDeviceName: "Lüfter-1", ProvisioningTemplate: "core-template", TemplateParameters: map[string]string{"ThingName": "Lüfter-1"},
		CDFParameters: json.RawMessage(`{"caId": "c", "certInfo": {"country": "US"}}`),
	}
}

func TestTheContract(t *testing.T) {
	w := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		assert.JSONEq(t, `{"version": "2.4.0", "coreDeviceName": "Lüfter-1", "provisioningTemplate": "core-template",
			"templateParameters": {"ThingName": "Lüfter-1"}, "cdfProvisioningParameters": {"caId": "c", "certInfo": {"country": "US"}}}`, string(body))
		assert.Equal(t, "POST /gen?x=1 application/json", r.Method+" "+r.RequestURI+" "+r.Header.Get("Content-Type"))
		user, password, _ := r.BasicAuth()
		assert.Equal(t, "gg s3cret", user+" "+password)
		_ = json.NewEncoder(w).Encode(map[string]string{"config": "---\nsystem:\n  thingName: Lüfter-1\n"})
	})
	doc, err := w.Generate(t.Context(), input())
	require.NoError(t, err)
	assert.Equal(t, "---\nsystem:\n  thingName: Lüfter-1\n", string(doc), "W-90: UTF-8 on both ways")
}

func TestWhatIsNotSaidIsLeftOut(t *testing.T) {
	w := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		assert.JSONEq(t, `{"version": "2.4.0", "coreDeviceName": "gw"}`, string(body))
		_, _ = io.WriteString(w, `{"config": "a: b", "more": 1}`)
	})
	_, err := w.Generate(t.Context(), config.Input{Version: "2.4.0", CoreDeviceName: "gw"})
	require.NoError(t, err)
}

func TestW91EveryAnswerThatIsNoDocumentIsAnError(t *testing.T) {
	tests := map[string]struct {
		status int
		body   string
		kind   fault.Kind
		want   string
	}{
		"a function's error":           {200, `{"errorMessage": "no such template", "errorType": "Error"}`, fault.Unsupported, "its answer has no config: no such template"},
		"config is missing":            {200, `{}`, fault.Unsupported, "its answer has no config"},
		"config is null":               {200, `{"config": null}`, fault.Unsupported, "its answer has no config"},
		"config is empty":              {200, `{"config": " \n"}`, fault.Unsupported, "its answer has no config"},
		"config is no text":            {200, `{"config": {}}`, fault.Unsupported, "its answer is not"},
		"no JSON":                      {200, `---`, fault.Unsupported, "its answer is not"},
		"no body":                      {200, ``, fault.Unsupported, "its answer is not"},
		"not UTF-8":                    {200, "{\"config\": \"a: \xff\"}", fault.Unsupported, "its answer is not UTF-8"},
		"no YAML":                      {200, `{"config": "a: [b"}`, fault.Unsupported, "cannot be read by a device"},
		"no mapping":                   {200, `{"config": "<html>"}`, fault.Unsupported, "cannot be read by a device"},
		"too much":                     {200, `{"config": "` + strings.Repeat("x", 1<<20) + `"}`, fault.TooLarge, "more than 1 MiB"},
		"more than a device reads":     {200, `{"config": "a: ` + strings.Repeat("x", 300<<10) + `"}`, fault.Unsupported, "cannot be read by a device"},
		"refused with a reason":        {422, `{"message": "version\n 9 is unknown"}`, fault.Invalid, "it answers with status 422: version 9 is unknown"},
		"refused with a long reason":   {400, `{"error": "` + strings.Repeat("é", 900) + `"}`, fault.Invalid, strings.Repeat("é", 200) + "…"},
		"not there":                    {404, `<html>`, fault.Invalid, "it answers with status 404"},
		"busy":                         {429, ``, fault.Exhausted, "it answers with status 429"},
		"broken":                       {500, `{"error": 5}`, fault.Unavailable, "it answers with status 500"},
		"late":                         {408, ``, fault.Unavailable, "it answers with status 408"},
		"a redirect":                   {307, ``, fault.Unsupported, "it answers with status 307"},
		"a success that is not 200":    {204, ``, fault.Unsupported, "it answers with status 204"},
		"a status of success with it ": {201, `{"config": "a: b"}`, fault.Unsupported, "it answers with status 201"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			_, err := w.Generate(t.Context(), input())
			require.ErrorIs(t, err, tc.kind)
			assert.Contains(t, fault.Message(err), "generator MINE: ")
			assert.Contains(t, fault.Message(err), tc.want)
			assert.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func TestAProgramThatDoesNotAnswerMayBeThereLater(t *testing.T) {
	w, err := generator.New(generator.Config{Alias: "MINE", URL: "http://gg:s3cret@127.0.0.1:1/"})
	require.NoError(t, err)
	_, err = w.Generate(t.Context(), input())
	require.ErrorIs(t, err, fault.Unavailable)
	assert.NotContains(t, err.Error(), "s3cret")
	w, err = generator.New(generator.Config{Alias: "MINE", URL: "http://127.0.0.1:1/?key=s3cret"})
	require.NoError(t, err)
	_, err = w.Generate(t.Context(), input())
	require.ErrorIs(t, err, fault.Unavailable)
	assert.NotContains(t, err.Error(), "s3cret", "the URL may hold a key; the error is logged")
	w = serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := http.NewResponseController(w).Hijack()
		_ = conn.Close()
	})
	_, err = w.Generate(t.Context(), input())
	require.ErrorIs(t, err, fault.Unavailable)
}

func TestURLs(t *testing.T) {
	tests := map[string]bool{
		"https://gen.example/a?b=c": true, "https://user:pw@gen.example": true, "http://127.0.0.1:9/": true, "http://[::1]/": true, "http://192.168.7.1/": true,
		"http://generator:8000/": true, // what the name stands for shows when it is called
		"http://8.8.8.8/":        false, "http://[2001:4860:4860::8888]/": false, "ftp://x": false, "gen.example": false, "https://": false, "https://x/#a": false, ":": false,
	}
	for address, ok := range tests {
		t.Run(address, func(t *testing.T) {
			_, err := generator.New(generator.Config{Alias: "MINE", URL: address})
			assert.Equal(t, ok, err == nil, "%v", err)
		})
	}
}

func TestRegistry(t *testing.T) {
	builtin, err := config.Builtin(config.Settings{AWSRegion: "r", RoleAlias: "a", DataEndpoint: "d", CredEndpoint: "c"}, nil)
	require.NoError(t, err)
	r, err := generator.Registry(builtin, []string{"MINE=https://gen.example/?a=b", " other =http://10.0.0.1/"})
	require.NoError(t, err)
	assert.Equal(t, []string{"FLEET_PROVISIONING", "FLEET_PROVISIONING_LITE", "MANUAL_INSTALL", "MANUAL_INSTALL_LITE", "MINE", "other"}, r.Aliases())
	assert.Len(t, builtin, 4)
	wrong := map[string]string{
		"MINE": "entry 1 must be ALIAS=URL", "MINE=": "entry 1 must be ALIAS=URL", "=https://x": `alias "" must be`, "a b=https://x": `alias "a b" must be`,
		"MANUAL_INSTALL=https://x": "MANUAL_INSTALL is built in", "MINE=x": "generator MINE: its URL must be",
	}
	for entry, want := range wrong {
		_, err := generator.Registry(builtin, []string{entry})
		require.ErrorContains(t, err, want)
	}
	_, err = generator.Registry(builtin, []string{"A=https://x", "A=https://y"})
	require.ErrorContains(t, err, "entry 2: alias A is there twice")
}

func TestOverlays(t *testing.T) {
	file := func(content string) string {
		name := filepath.Join(t.TempDir(), "overlay.json")
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		return name
	}
	got, err := generator.Overlays([]string{"MANUAL_INSTALL=" + file(`{"system": null}`)})
	require.NoError(t, err)
	assert.Equal(t, map[string]json.RawMessage{"MANUAL_INSTALL": json.RawMessage(`{"system": null}`)}, got)
	large, err := generator.Overlays([]string{"MANUAL_INSTALL=" + file(strings.Repeat("x", 2<<20))})
	require.NoError(t, err)
	for _, overlays := range []map[string]json.RawMessage{large, {"MANUAL_INSTALL": json.RawMessage(`[]`)}} {
		_, err = config.Builtin(config.Settings{AWSRegion: "r", RoleAlias: "a", DataEndpoint: "d", CredEndpoint: "c"}, overlays)
		require.ErrorIs(t, err, fault.Invalid)
		assert.Equal(t, "MANUAL_INSTALL.overlay", fault.FieldOf(err))
	}
	_, err = generator.Overlays([]string{"MANUAL_INSTALL"})
	require.ErrorContains(t, err, "entry 1 must be ALIAS=FILE")
	_, err = generator.Overlays([]string{"MANUAL_INSTALL=/nowhere/x.json"})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func FuzzAnswer(f *testing.F) {
	f.Add(200, `{"config": "a: b"}`)
	f.Add(500, `{"message": "x"}`)
	var status int
	var body string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	f.Cleanup(s.Close)
	w, err := generator.New(generator.Config{Alias: "MINE", URL: s.URL})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, st int, b string) {
		status, body = 200+(st&0x7fff)%400, b
		doc, err := w.Generate(t.Context(), input())
		if err != nil {
			require.NotEmpty(t, fault.KindOf(err))
			require.NotEmpty(t, fault.Message(err))
			return
		}
		require.Equal(t, 200, status)
		_, err = config.ReadSystem(doc)
		require.NoError(t, err, "%q", doc)
	})
}
