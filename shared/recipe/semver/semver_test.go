package semver_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/recipe/semver"
)

func version(t testing.TB, s string) semver.Version {
	v, err := semver.Parse(s)
	require.NoError(t, err)
	return v
}

func TestVersionsOrderAsTheStandardSays(t *testing.T) {
	ascending := []string{
		"0.0.0-0", "0.0.0", "0.9.9", "1.0.0-1", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta",
		"1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0", "999999.0.0",
	}
	for i, a := range ascending {
		for j, b := range ascending {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			assert.Equal(t, want, version(t, a).Compare(version(t, b)), "%s against %s", a, b)
		}
	}
	assert.Zero(t, version(t, "1.0.0+a").Compare(version(t, "1.0.0+b")), "the build part does not count")
}

func TestOnlyExactVersionsAreAccepted(t *testing.T) {
	for _, s := range []string{"1.0.0", "0.0.0", "1.2.3-beta.1", "1.2.3-0a.b-c+build.01", "999999.999999.999999"} {
		assert.Equal(t, s, version(t, s).String())
	}
	for _, s := range []string{
		"", "1", "1.0", "1.0.0.0", "v1.0.0", "1.0.x", "01.0.0", "1.0.0-01", "1.0.0-", "1.0.0+", "1.0.0-a..b", "1000000.0.0",
		"1.0.0 ", " 1.0.0", "1.0.-1", "1.0.0-ä", "99999999999999999999.0.0", "1.0.0-" + strings.Repeat("a", 64), "x.1.2-beta",
	} {
		_, err := semver.Parse(s)
		assert.ErrorIs(t, err, fault.Invalid, "%q", s)
	}
}

// The cases restate the rules of npm's "semver" documentation.
func TestRangesHoldWhatNpmSays(t *testing.T) {
	tests := []struct {
		of, in, out string // versions that are in and out, blank-separated
	}{
		{"", "0.0.0 1.2.3", "1.2.3-beta"},
		{"*", "0.0.0 1.2.3", "1.2.3-beta"},
		{"x", "1.2.3", "1.2.3-beta"},
		{">=0.0.0", "0.0.0 9.0.0", "1.0.0-a"},
		{"=1.4.0", "1.4.0", "1.4.1 1.3.9 1.4.0-a"},
		{"1.4.0", "1.4.0", "1.4.1 1.3.9"},
		{"v1.4.0", "1.4.0", "1.4.1"},
		{"1.4.0+x", "1.4.0", "1.4.1"},
		{">=2.0.0 <3.0.0", "2.0.0 2.9.9", "1.9.9 3.0.0 2.5.0-a 3.0.0-a"},
		{">= 2.0.0 < 3.0.0", "2.0.0 2.9.9", "1.9.9 3.0.0"},
		{"1.0.0 ^1", "1.0.0", "1.0.1"},
		{">1.2.3", "1.2.4 2.0.0", "1.2.3"},
		{"<1.2.3", "1.2.2", "1.2.3 1.2.3-a"},
		{"<=1.2.3", "1.2.3", "1.2.4"},
		{"<2.0.0-0", "1.9.9", "2.0.0-a 2.0.0"},
		{"1.2.3 - 2.3.4", "1.2.3 2.3.4", "1.2.2 2.3.5"},
		{"1.2 - 2.3.4", "1.2.0 2.3.4", "1.1.9 2.3.5"},
		{"1.2.3 - 2.3", "1.2.3 2.3.9", "2.4.0"},
		{"1.2.3 - 2", "2.9.9", "3.0.0"},
		{"* - 2", "0.1.0 2.9.9", "3.0.0"},
		{"1 - *", "1.0.0 9.0.0", "0.9.9"},
		{"1.x", "1.0.0 1.9.9", "2.0.0 0.9.9"},
		{"1.X.x", "1.0.0 1.9.9", "2.0.0"},
		{"1.2.*", "1.2.0 1.2.9", "1.3.0"},
		{"1", "1.9.9", "2.0.0"},
		{"=1.2", "1.2.7", "1.3.0"},
		{"1.x.3", "1.0.0 1.9.0", "2.0.0"},
		{"~1.2.3", "1.2.3 1.2.9", "1.3.0 1.2.2"},
		{"~ 1.2.3", "1.2.9", "1.3.0"},
		{"~>1.2", "1.2.0 1.2.9", "1.3.0"},
		{"~1", "1.0.0 1.9.9", "2.0.0"},
		{"~0.2.3", "0.2.3 0.2.9", "0.3.0"},
		{"~1.2.3-beta.2", "1.2.3-beta.2 1.2.3-beta.4 1.2.3 1.2.9", "1.2.4-beta.2 1.2.3-beta.1 1.3.0"},
		{"^1.2.3", "1.2.3 1.9.9", "2.0.0 1.2.2 2.0.0-a"},
		{"^0.2.3", "0.2.3 0.2.9", "0.3.0"},
		{"^0.0.3", "0.0.3", "0.0.4"},
		{"^1.2.3-beta.2", "1.2.3-beta.2 1.2.3 1.3.0", "1.2.4-beta.2 1.2.3-beta.1"},
		{"^0.0.3-beta", "0.0.3-beta 0.0.3-pr.2 0.0.3", "0.0.4"},
		{"^1.2.x", "1.2.0 1.9.0", "2.0.0"},
		{"^0.0.x", "0.0.0 0.0.9", "0.1.0"},
		{"^0.0", "0.0.9", "0.1.0"},
		{"^1.x", "1.0.0 1.9.0", "2.0.0"},
		{"^0.x", "0.0.0 0.9.0", "1.0.0"},
		{"^*", "3.0.0", "3.0.0-a"},
		{">1", "2.0.0", "1.9.9"},
		{">1.2", "1.3.0", "1.2.9"},
		{"<=1", "1.9.9", "2.0.0"},
		{"<=1.2", "1.2.9", "1.3.0"},
		{"<1.2", "1.1.9", "1.2.0 1.2.0-a"},
		{">=1.x", "1.0.0", "0.9.9"},
		{">*", "", "0.0.0 1.0.0"},
		{"<*", "", "0.0.0 1.0.0"},
		{">=*", "1.0.0", "1.0.0-a"},
		{"1.2.7 || >=1.2.9 <2.0.0", "1.2.7 1.2.9 1.4.6", "1.2.8 2.0.0"},
		{"1.2.7||1.3.x", "1.2.7 1.3.1", "1.2.8"},
		{"||", "1.0.0", "1.0.0-a"},
		{">1.2.3-alpha.3", "1.2.3-alpha.7 1.2.3 3.4.5", "3.4.5-alpha.9 1.2.3-alpha.3"},
		{">=1.2.0-0 <2.0.0", "1.2.0-beta.1 1.2.0 1.9.0", "1.3.0-beta.1"},
		{"1.2.0-beta.1", "1.2.0-beta.1", "1.2.0 1.2.0-beta.2"},
		{">2 <1", "", "1.0.0 2.0.0 3.0.0"},
	}
	for _, tc := range tests {
		t.Run("range "+tc.of, func(t *testing.T) {
			r, err := semver.ParseRange(tc.of)
			require.NoError(t, err)
			for _, v := range strings.Fields(tc.in) {
				assert.True(t, r.Contains(version(t, v)), "%s must hold %s", tc.of, v)
			}
			for _, v := range strings.Fields(tc.out) {
				assert.False(t, r.Contains(version(t, v)), "%s must not hold %s", tc.of, v)
			}
		})
	}
}

// testdata/npm.json is what npm's own "semver" (7.8) says of generated ranges: one
// digit for each version.
func TestRangesHoldWhatNpmItselfFound(t *testing.T) {
	raw, err := os.ReadFile("testdata/npm.json")
	require.NoError(t, err)
	var npm struct {
		Versions []string
		Ranges   map[string]string
	}
	require.NoError(t, json.Unmarshal(raw, &npm))
	require.NotEmpty(t, npm.Ranges)
	for of, want := range npm.Ranges {
		r, err := semver.ParseRange(of)
		require.NoError(t, err)
		got := make([]byte, len(npm.Versions))
		for i, v := range npm.Versions {
			got[i] = '0'
			if r.Contains(version(t, v)) {
				got[i] = '1'
			}
		}
		assert.Equal(t, want, string(got), "range %q, of the versions %v", of, npm.Versions)
	}
}

func TestWhatIsNoRangeIsRefused(t *testing.T) {
	for _, s := range []string{
		"latest", ">=1.0.0,<2.0.0", "1.2.3.4", "!1.0.0", ">=", "1.0.0 - ", "- 1.0.0", "1.0 - 2.0 - 3.0", "^^1.0.0", "01.0.0",
		"[1.0,2.0)", "1.0.0-", "99999999999999999.0.0", strings.Repeat("1", 2000), strings.Repeat("1.x||", 150) + "1",
	} {
		_, err := semver.ParseRange(s)
		assert.ErrorIs(t, err, fault.Invalid, "%q", s)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"1.2.3-beta.1+x", "0.0.0", "01.0.0", "1.0.0-01", "1.0.0+01", "1.0.0--", "999999.999999.999999", "1.0.0-a.b.c.1.10+x.y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := semver.Parse(s)
		if err != nil {
			return
		}
		assert.Equal(t, s, v.String())
		assert.Zero(t, v.Compare(v))
	})
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{
		">=2.0.0 <3.0.0", "^1.0 || ~2.x", "1 - 2.3", "* ", "=1.4.0-b", "", "||", "~> 1.2.3-beta.4+b.5", "< = 1", "^v0.0.x",
		"1.2.3 - 2.X.*", ">\t1\n<2", "1.2.3-0.a.-", "^", "9007199254740991.0.0", "x.x.x-a",
	} {
		f.Add(s, "1.4.0-b")
	}
	f.Fuzz(func(t *testing.T, s, v string) {
		r, err := semver.ParseRange(s)
		if err != nil {
			assert.ErrorIs(t, err, fault.Invalid)
			return
		}
		if ver, err := semver.Parse(v); err == nil {
			r.Contains(ver)
		}
	})
}
