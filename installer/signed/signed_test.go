package signed_test

import (
	"strings"
	"testing"

	"aead.dev/minisign"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func sign(t *testing.T, private []byte, file string, s signed.Statement) signed.Signature {
	t.Helper()
	text, err := signed.Sign(private, "", strings.NewReader(file), s)
	require.NoError(t, err)
	sig, err := signed.ParseSignature(string(text))
	require.NoError(t, err)
	return sig
}

func TestASignatureIsGoodForOneFileOneVersionOnePlatform(t *testing.T) {
	key, private, err := signed.NewKey("")
	require.NoError(t, err)
	other, _, err := signed.NewKey("")
	require.NoError(t, err)
	st := signed.Statement{Version: "1.4.0", Platform: "linux/arm64"}
	sig := sign(t, private, "binary", st)
	assert.Equal(t, st, sig.Statement)
	assert.Equal(t, key.ID, sig.KeyID)

	keys := signed.Keys{other, key}
	require.NoError(t, keys.Verify(strings.NewReader("binary"), sig))
	require.ErrorIs(t, keys.Verify(strings.NewReader("binarx"), sig), fault.Denied)
	require.ErrorIs(t, signed.Keys{other}.Verify(strings.NewReader("binary"), sig), fault.Denied, "an unknown key")
	require.ErrorIs(t, signed.Keys(nil).Verify(strings.NewReader("binary"), sig), fault.Denied, "no key")

	_, err = signed.Sign([]byte("untrusted comment: x\nRWQ"), "", strings.NewReader("x"), st)
	require.ErrorIs(t, err, fault.Invalid)
	_, err = signed.Sign(private, "", strings.NewReader("x"), signed.Statement{Version: "1.4", Platform: "linux/arm64"})
	require.ErrorIs(t, err, fault.Invalid)
}

func TestTheCommentCannotBeChanged(t *testing.T) {
	key, private, err := signed.NewKey("")
	require.NoError(t, err)
	text, err := signed.Sign(private, "", strings.NewReader("binary"), signed.Statement{Version: "1.4.0", Platform: "linux/arm64"})
	require.NoError(t, err)
	forged, err := signed.ParseSignature(strings.Replace(string(text), "trusted comment: ggfleet-agent 1.4.0", "trusted comment: ggfleet-agent 9.4.0", 1))
	require.NoError(t, err)
	require.Equal(t, "9.4.0", forged.Statement.Version)
	require.ErrorIs(t, signed.Keys{key}.Verify(strings.NewReader("binary"), forged), fault.Denied)
}

func TestTheOldKindOfSignatureIsRefused(t *testing.T) {
	_, private, err := minisign.GenerateKey(nil)
	require.NoError(t, err)
	_, err = signed.ParseSignature(string(minisign.SignWithComments(private, []byte("x"), "ggfleet-agent 1.0.0 linux/amd64", "")))
	require.ErrorContains(t, err, "-H")
}

func TestStatements(t *testing.T) {
	for name, tc := range map[string]struct {
		comment string
		ok      bool
	}{
		"version and platform":          {"ggfleet-agent 1.4.0 linux/arm64", true},
		"a pre-release":                 {"ggfleet-agent 1.4.0-rc.1 windows/amd64", true},
		"going back":                    {"ggfleet-agent 1.3.9 linux/arm64 over=1.4.0", true},
		"what minisign writes itself":   {"timestamp:1700000000\tfile:ggfleet-agent", false},
		"no version":                    {"ggfleet-agent latest linux/arm64", false},
		"no platform":                   {"ggfleet-agent 1.4.0 linux", false},
		"a path as platform":            {"ggfleet-agent 1.4.0 ../x", false},
		"another program":               {"ggfleet 1.4.0 linux/arm64", false},
		"an unknown word":               {"ggfleet-agent 1.4.0 linux/arm64 until=2030", false},
		"a second space":                {"ggfleet-agent  1.4.0 linux/arm64", false},
		"over nothing":                  {"ggfleet-agent 1.4.0 linux/arm64 over=", false},
		"a version that is not written": {"ggfleet-agent v1.4.0 linux/arm64", false},
		"two words more":                {"ggfleet-agent 1.4.0 linux/arm64 over=1.5.0 over=1.6.0", false},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := signed.ParseStatement(tc.comment)
			if !tc.ok {
				require.ErrorIs(t, err, fault.Invalid)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.comment, s.String())
		})
	}
}

func TestWhatReplacesWhat(t *testing.T) {
	for name, tc := range map[string]struct {
		release, over, running string
		want                   bool
	}{
		"a later version":                          {"1.4.0", "", "1.3.0", true},
		"the same":                                 {"1.4.0", "", "1.4.0", false},
		"an earlier one":                           {"1.3.0", "", "1.4.0", false},
		"an earlier one, signed so":                {"1.3.0", "1.4.0", "1.4.0", true},
		"the same, signed as going back":           {"1.3.0", "1.4.0", "1.3.0", false},
		"a statement of going back that has ended": {"1.3.0", "1.4.0", "1.5.0", false},
		"a release after its candidate":            {"1.4.0", "", "1.4.0-rc.1", true},
		"a candidate after its release":            {"1.4.0-rc.1", "", "1.4.0", false},
		"a build by hand":                          {"1.0.0", "", "v1.9.0-3-gabcdef", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := signed.Statement{Version: tc.release, Platform: "linux/amd64", Over: tc.over}
			assert.Equal(t, tc.want, s.Replaces(tc.running))
		})
	}
}

func TestKeyFiles(t *testing.T) {
	a, _, err := signed.NewKey("")
	require.NoError(t, err)
	b, _, err := signed.NewKey("")
	require.NoError(t, err)
	keys, err := signed.ReadKeys(strings.NewReader("# ours\nuntrusted comment: minisign public key\n" + a.String() + "\n\n" + b.String() + "\n" + a.String() + "\n"))
	require.NoError(t, err)
	require.Len(t, keys, 2)
	assert.Equal(t, a.ID, keys[0].ID)
	_, err = signed.ReadKeys(strings.NewReader("RWQ"))
	require.ErrorIs(t, err, fault.Invalid)
	_, err = signed.ReadKeys(strings.NewReader(strings.Repeat("#\n", 40<<10)))
	require.ErrorIs(t, err, fault.TooLarge)
	_, err = signed.ParseKey("")
	require.ErrorIs(t, err, fault.Invalid)
}

func FuzzParseSignature(f *testing.F) {
	key, private, _ := signed.NewKey("")
	text, _ := signed.Sign(private, "", strings.NewReader("x"), signed.Statement{Version: "1.0.0", Platform: "linux/amd64"})
	f.Add(string(text))
	f.Add("untrusted comment: x\nRWQ\ntrusted comment: ggfleet-agent 1.0.0 a/b\nAAAA\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := signed.ParseSignature(text)
		if err != nil {
			return
		}
		require.NoError(t, s.Statement.Check())
		require.Error(t, signed.Keys{key}.Verify(strings.NewReader("y"), s), "no signature of another file verifies")
	})
}
