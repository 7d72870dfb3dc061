package recipe_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/recipe"
)

const zeroDigest = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

const minimal = `{"RecipeFormatVersion":"2020-01-25","ComponentName":"com.example.Hello","ComponentVersion":"1.0.3","Manifests":[{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{"run":"x"}}]}`

const authored = `# as people write them
RecipeFormatVersion: 2020-01-25
ComponentName: com.example.Camera
ComponentVersion: 1.4.0
ComponentPublisher: Example Plant
ComponentConfiguration:
  defaultConfiguration:
    fps: 10
    big: 12345678901234567890
    ratio: 1.50
    hex: 0x1F
    none: null
    version: "1.0"
ComponentDependencies: null
manifests:
  - Platform: {os: linux, runtime: "*"}
    Lifecycle:
      Install:
        script: |
          echo <one> && echo two
        timeout: 300
        requiresPrivilege: true
      RUN: exec camera
      setEnv:
        COUNT: 3
    Artifacts:
      - URI: greengrass:models/v3.bin
        unarchive: zip
        permission: {read: all}
  - Name: rest
`

func parse(t testing.TB, src string) *recipe.Recipe {
	r, err := recipe.Parse([]byte(src))
	require.NoError(t, err)
	return r
}

func TestWhatAuthorsWriteIsHandedOutAsRuntimesReadIt(t *testing.T) {
	r := parse(t, authored)
	assert.Equal(t, recipe.YAML, r.Format)
	assert.Equal(t, "com.example.Camera", r.Name)
	assert.Equal(t, "1.4.0", r.Version)
	assert.Equal(t, "Example Plant", r.Publisher)
	want := `{"RecipeFormatVersion":"2020-01-25","ComponentName":"com.example.Camera","ComponentVersion":"1.4.0",` +
		`"ComponentPublisher":"Example Plant",` +
		`"ComponentConfiguration":{"DefaultConfiguration":{"fps":10,"big":12345678901234567890,"ratio":1.50,"hex":31,"none":null,"version":"1.0"}},` +
		`"Manifests":[{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{"install":{"Script":"echo <one> && echo two\n","Timeout":300,"RequiresPrivilege":true},` +
		`"run":"exec camera","Setenv":{"COUNT":"3"}},"Artifacts":[{"Uri":"greengrass:models/v3.bin","Unarchive":"ZIP","Permission":{"Read":"ALL","Execute":"NONE"}}]},` +
		`{"Name":"rest","Platform":{},"Lifecycle":{},"Artifacts":[]}],"ComponentType":"aws.greengrass.generic"}`
	assert.Equal(t, want, string(r.Normalized()))

	again := parse(t, string(r.Normalized()))
	assert.Equal(t, recipe.JSON, again.Format)
	assert.Equal(t, want, string(again.Normalized()), "normalising twice changes nothing")

	placed := r.Render(map[string]recipe.Placed{"greengrass:models/v3.bin": {URI: "greengrass:1/v3.bin", Digest: zeroDigest}})
	assert.Contains(t, string(placed), `{"Uri":"greengrass:1/v3.bin","Unarchive":"ZIP","Permission":{"Read":"ALL","Execute":"NONE"},"Digest":"`+zeroDigest+`","Algorithm":"SHA-256"}`)
	assert.Equal(t, want, string(r.Normalized()), "rendering leaves the recipe alone")
}

func TestTheSameRecipeAsYAMLReadsBackEqual(t *testing.T) {
	r := parse(t, authored)
	y, err := recipe.ToYAML(r.Normalized())
	require.NoError(t, err)
	back := parse(t, string(y))
	assert.Equal(t, recipe.YAML, back.Format)
	assert.Equal(t, string(r.Normalized()), string(back.Normalized()))
}

func TestJSONIsReadAsJSONWhateverYAMLThinksOfIt(t *testing.T) {
	src := strings.Replace(minimal, `"run":"x"`, `"run":"a\/b \ud83d\ude00 \u00e9"`, 1)
	src = strings.ReplaceAll(src, `,`, ",\n\t")
	r := parse(t, src)
	assert.Equal(t, recipe.JSON, r.Format)
	assert.Contains(t, string(r.Normalized()), `"run":"a/b 😀 é"`)
}

func TestARecipeWithOnlyALifecycleFitsEveryPlatform(t *testing.T) {
	r := parse(t, `{"RecipeFormatVersion":"2020-01-25","ComponentName":"a","ComponentVersion":"1.0.0","Lifecycle":{"all":{"Run":"x"},"linux":{"Run":{"script":"y"}}}}`)
	for _, attrs := range []map[string]string{
		{"os": "linux", "architecture": "amd64"}, {"os": "windows"}, {"os": "linux", "runtime": "aws_nucleus_lite"},
	} {
		_, ok := r.Match(attrs)
		assert.True(t, ok, "%v", attrs)
	}
	assert.Contains(t, string(r.Normalized()), `"Lifecycle":{"all":{"run":"x"},"linux":{"run":{"Script":"y"}}}`)
}

func TestFaultsNameTheMemberAndTheLine(t *testing.T) {
	with := func(old, to string) string { return strings.Replace(minimal, old, to, 1) }
	manifest := func(s string) string {
		return with(`{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{"run":"x"}}`, s)
	}
	tests := []struct{ name, src, field, says string }{
		{"format missing", with(`"RecipeFormatVersion":"2020-01-25",`, ""), "RecipeFormatVersion", "missing"},
		{"format unknown", with("2020-01-25", "2021-01-25"), "RecipeFormatVersion", "want 2020-01-25"},
		{"name missing", with(`"ComponentName":"com.example.Hello",`, ""), "ComponentName", "missing"},
		{"name wrong", with("com.example.Hello", "a b"), "ComponentName", "not valid"},
		{"name dots", with("com.example.Hello", ".."), "ComponentName", "dots"},
		{"name no text", with(`"com.example.Hello"`, "[]"), "ComponentName", "want a text"},
		{"version partial", with("1.0.3", "1.0"), "ComponentVersion", "semantic version"},
		{"version number too big", with("1.0.3", "1.0.1000000"), "ComponentVersion", "999999"},
		{"type unknown", with(`"Manifests"`, `"ComponentType":"x","Manifests"`), "ComponentType", "one of"},
		{"nothing to run", with(`,"Manifests":[{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{"run":"x"}}]`, ""), "Manifests", "at least one"},
		{"manifests no list", with(`[{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{"run":"x"}}]`, "{}"), "Manifests", "want a list"},
		{"manifest no object", manifest("3"), "Manifests[0]", "want an object"},
		{"platform no object", manifest(`{"Platform":"linux"}`), "Manifests[0].Platform", "want an object"},
		{"platform pattern", manifest(`{"Platform":{"os":"/(/"}}`), "Manifests[0].Platform.os", "pattern"},
		{"lifecycle no object", manifest(`{"Lifecycle":"x"}`), "Manifests[0].Lifecycle", "want an object"},
		{"phase is a list", manifest(`{"Lifecycle":{"run":["x"]}}`), "Manifests[0].Lifecycle.run", "list"},
		{"phase twice", manifest(`{"Lifecycle":{"run":"x","Run":"y"}}`), "Manifests[0].Lifecycle.run", "twice"},
		{"selections", manifest(`{"Selections":[1]}`), "Manifests[0].Selections[0]", "want a text"},
		{"artifact without uri", manifest(`{"Artifacts":[{}]}`), "Manifests[0].Artifacts[0].Uri", "missing"},
		{"uri without scheme", manifest(`{"Artifacts":[{"Uri":"tool.zip"}]}`), "Manifests[0].Artifacts[0].Uri", "greengrass:NAME"},
		{"uri by http", manifest(`{"Artifacts":[{"URI":"https://a/b"}]}`), "Manifests[0].Artifacts[0].Uri", "no runtime"},
		{"uri upwards", manifest(`{"Artifacts":[{"Uri":"greengrass:../x"}]}`), "Manifests[0].Artifacts[0].Uri", ".. part"},
		{"uri of a directory", manifest(`{"Artifacts":[{"Uri":"s3://b/k/"}]}`), "Manifests[0].Artifacts[0].Uri", "s3://BUCKET/KEY"},
		{"uri twice", manifest(`{"Artifacts":[{"Uri":"greengrass:a/x"},{"Uri":"greengrass:b/x"}]}`), "Manifests[0].Artifacts[1].Uri", "same file name"},
		{"digest", manifest(`{"Artifacts":[{"Uri":"greengrass:a","Digest":"abc"}]}`), "Manifests[0].Artifacts[0].Digest", "base64"},
		{"algorithm", manifest(`{"Artifacts":[{"Uri":"greengrass:a","Algorithm":"MD5"}]}`), "Manifests[0].Artifacts[0].Algorithm", "SHA-256"},
		{"unarchive", manifest(`{"Artifacts":[{"Uri":"greengrass:a","Unarchive":"TAR"}]}`), "Manifests[0].Artifacts[0].Unarchive", "NONE, ZIP"},
		{"permission", manifest(`{"Artifacts":[{"Uri":"greengrass:a","Permission":{"Read":"YOU"}}]}`), "Manifests[0].Artifacts[0].Permission.Read", "OWNER"},
		{"requirement", with(`"Manifests"`, `"ComponentDependencies":{"b.c":{"VersionRequirement":"latest"}},"Manifests"`), `ComponentDependencies["b.c"].VersionRequirement`, "range"},
		{"requirement missing", with(`"Manifests"`, `"ComponentDependencies":{"b":{}},"Manifests"`), `ComponentDependencies.b.VersionRequirement`, "missing"},
		{"dependency type", with(`"Manifests"`, `"ComponentDependencies":{"b":{"VersionRequirement":"1","DependencyType":"WEAK"}},"Manifests"`), `ComponentDependencies.b.DependencyType`, "SOFT"},
		{"configuration", with(`"Manifests"`, `"ComponentConfiguration":{"DefaultConfiguration":[]},"Manifests"`), `ComponentConfiguration.DefaultConfiguration`, "want an object"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := recipe.Parse([]byte("\n" + tc.src))
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, tc.field, fault.FieldOf(err))
			assert.Contains(t, fault.Message(err), tc.says)
			assert.Contains(t, fault.Message(err), "(line 2, column ")
		})
	}
}

func TestTheLineAndColumnAreThoseOfTheValue(t *testing.T) {
	const yamlSrc = `RecipeFormatVersion: "2020-01-25"
ComponentName: a
ComponentVersion: 1.0.0
Manifests:
  - Platform: {os: linux}
    Artifacts:
      - Uri: s3://b/größe/k
      - {Uri: "s3://b/ö", Unarchive: TAR}
`
	const jsonSrc = "{\"RecipeFormatVersion\":\"2020-01-25\",\n \"ComponentName\":\"a\", \"ComponentVersion\":\"1.0.0\",\n" +
		"\t\"Manifests\": [\r\n{\"Artifacts\":[ {\"Uri\":\"s3://b/ö\",\n\t \"Unarchive\" :\t\"TAR\"}]}]}"
	for src, says := range map[string]string{
		yamlSrc: `Manifests[0].Artifacts[1].Unarchive: is "TAR", want one of NONE, ZIP (line 8, column 38)`,
		jsonSrc: `Manifests[0].Artifacts[0].Unarchive: is "TAR", want one of NONE, ZIP (line 5, column 17)`,
	} {
		_, err := recipe.Parse([]byte(src))
		require.ErrorIs(t, err, fault.Invalid)
		assert.Equal(t, says, fault.Message(err))
	}
}

func TestTextThatIsNoRecipeIsRefused(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for _, l := range []string{"b", "c", "d", "e", "f", "g"} {
		prev := string(l[0] - 1)
		bomb += l + ": &" + l + " [" + strings.Repeat("*"+prev+",", 9) + "]\n"
	}
	tests := []struct{ name, src, says string }{
		{"empty", "", "empty"},
		{"a list", "[1]", "not an object"},
		{"a text", "hello", "not an object"},
		{"cut off", minimal[:40], "early"},
		{"rest after the end", minimal + "{}", "after the end"},
		{"two documents", "a: 1\n---\nb: 2\n", "more than one YAML document (line 2, column 1)"},
		{"key twice in JSON", `{"b":{"a":1,"a":2}}`, "b.a: the key is there twice (line 1, column 13)"},
		{"key twice in YAML", "a: 1\nb: 1\na: 2\n", "a: the key is there twice (line 3, column 1)"},
		{"brackets that do not match", "{\n  \"a\": [1,\n    2}]", "a: this is not JSON: invalid character '}' after array element (line 3, column 6)"},
		{"a text without its end", "{\n  \"ä\": 1, \"b}", "ends too early (line 2, column 14)"},
		{"a wrong indent", "a:\n  - b\n c: 1\n", "neither JSON nor YAML: did not find expected key (line 2)"},
		{"no UTF-8", "a: b\nc: \xff", "not UTF-8 (line 2, column 4)"},
		{"a control character", "a: b\nc: d\x00", "U+0000 (line 2, column 5)"},
		{"an unknown alias", "a: *b\n", "anchor"},
		{"alias bomb", bomb, "more than"},
		{"alias of itself", "a: &a [*a]\n", ""},
		{"merge key", "a: &a {x: 1}\nb: {<<: *a}\n", "merge"},
		{"deep JSON", `{"a":` + strings.Repeat("[", 3000) + strings.Repeat("]", 3000) + "}", "nested"},
		{"deep YAML", "a: " + strings.Repeat("[", 3000) + strings.Repeat("]", 3000), "nested"},
		{"not a number", "a:\n  b: .nan\n", "a.b: \".nan\" is not a number that JSON can hold (line 2, column 6)"},
		{"binary", "\x00\x01", ""},
		{"tabs and braces", "{\t'a", ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := recipe.Parse([]byte(tc.src))
			require.ErrorIs(t, err, fault.Invalid)
			assert.Contains(t, fault.Message(err), tc.says)
		})
	}
	_, err := recipe.Parse([]byte(strings.Repeat(" ", recipe.MaxBytes+1)))
	assert.ErrorIs(t, err, fault.TooLarge)
}

func TestTheFirstManifestThatClaimsThePlatformIsTaken(t *testing.T) {
	r := parse(t, `
RecipeFormatVersion: "2020-01-25"
ComponentName: a
ComponentVersion: 1.0.0
Manifests:
  - Platform: {os: linux, architecture: /arm|aarch64/}
  - Platform: {os: linux, runtime: aws_nucleus_lite, architecture: amd64}
  - Platform: {os: all, runtime: "*", gpu: "yes"}
  - Platform: {os: linux, architecture: amd64}
  - Platform: {runtime: "*"}
  - Platform: {os: darwin}
`)
	tests := []struct {
		name  string
		attrs map[string]string
		want  int // -1: none
	}{
		{"classic on arm by regex", map[string]string{"os": "linux", "architecture": "aarch64"}, 0},
		{"a regex matches whole values only", map[string]string{"os": "linux", "architecture": "aarch64x"}, 4},
		{"classic is not lite", map[string]string{"os": "linux", "architecture": "amd64"}, 3},
		{"an attribute that only some devices have", map[string]string{"os": "linux", "architecture": "amd64", "gpu": "yes"}, 2},
		{"lite by its runtime", map[string]string{"os": "linux", "architecture": "amd64", "runtime": "aws_nucleus_lite"}, 1},
		{"lite sees no regex and no manifest without os", map[string]string{"os": "linux", "architecture": "aarch64", "runtime": "aws_nucleus_lite"}, -1},
		{"what names no os fits every classic", map[string]string{"os": "darwin"}, 4},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			i, ok := r.Match(tc.attrs)
			if !ok {
				i = -1
			}
			assert.Equal(t, tc.want, i)
		})
	}
}

func TestArtifactsTellWhereTheirBytesAre(t *testing.T) {
	r := parse(t, strings.Replace(minimal, `"Lifecycle":{"run":"x"}`, `"Artifacts":[{"Uri":"greengrass:a/tool.sh"},{"Uri":"s3://bucket/dir/model.bin","Digest":"`+zeroDigest+`"},{"Uri":"docker:alpine:3"}]`, 1))
	want := []recipe.Artifact{
		{Path: "Manifests[0].Artifacts[0]", URI: "greengrass:a/tool.sh", Scheme: "greengrass", Name: "a/tool.sh"},
		{Path: "Manifests[0].Artifacts[1]", URI: "s3://bucket/dir/model.bin", Scheme: "s3", Name: "bucket/dir/model.bin", Digest: zeroDigest},
		{Path: "Manifests[0].Artifacts[2]", URI: "docker:alpine:3", Scheme: "docker", Name: "alpine:3"},
	}
	assert.Equal(t, want, r.Artifacts())
	assert.Equal(t, "model.bin", r.Artifacts()[1].File())
}

func FuzzParse(f *testing.F) {
	f.Add(minimal)
	f.Add(authored)
	f.Add("a: &a [*a]")
	f.Add("? [a]\n: b\n<<: {x: 1}")
	f.Add(`{"Manifests":[{"Artifacts":[{"Uri":"s3://a/b"}]}]}`)
	f.Add("\xef\xbb\xbf" + minimal)
	f.Add("{\n \"a\": [1,\n 2}")
	f.Add("a: *b\n---\nc: !!binary aGk=\n")
	f.Add("a: &a {b: .inf, c: 0o17, d: 2001-12-14}\ne: [*a, *a]\n? x\n: y\n")
	f.Add(strings.Replace(authored, "greengrass:models/v3.bin", "docker:alpine", 1))
	f.Add(strings.Replace(minimal, `"linux"`, `"/lin.*/"`, 1))
	f.Fuzz(func(t *testing.T, s string) {
		r, err := recipe.Parse([]byte(s))
		if err != nil {
			assert.NotEmpty(t, fault.KindOf(err))
			return
		}
		n := r.Normalized()
		require.True(t, json.Valid(n))
		if len(n) > recipe.MaxBytes {
			return
		}
		again, err := recipe.Parse(n)
		require.NoError(t, err)
		assert.Equal(t, string(n), string(again.Normalized()))
		r.Match(map[string]string{"os": "linux", "runtime": "aws_nucleus_lite"})
		_, err = recipe.ToYAML(n)
		assert.NoError(t, err)
	})
}
