package nucleus_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/installer/nucleus/standin"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func inspect(t testing.TB, b []byte, format string) (nucleus.Manifest, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "a")
	require.NoError(t, os.WriteFile(name, b, 0o600))
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	return nucleus.Inspect(f, format)
}

// rpm makes what an rpm begins with.
func rpm(name, version, release, arch string) []byte {
	header := func(texts map[uint32]string) []byte {
		var index, store []byte
		for tag, text := range texts {
			index = binary.BigEndian.AppendUint32(index, tag)
			index = binary.BigEndian.AppendUint32(index, 6)
			index = binary.BigEndian.AppendUint32(index, uint32(len(store)))
			index = binary.BigEndian.AppendUint32(index, 1)
			store = append(append(store, text...), 0)
		}
		b := []byte{0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0}
		b = binary.BigEndian.AppendUint32(b, uint32(len(texts)))
		b = binary.BigEndian.AppendUint32(b, uint32(len(store)))
		return append(append(b, index...), store...)
	}
	b := append([]byte{0xed, 0xab, 0xee, 0xdb}, make([]byte, 92)...)
	b = append(b, header(map[uint32]string{62: "sig"})...)
	b = append(b, make([]byte, 4)...) // padding of the signature's 4 bytes to 8
	return append(b, header(map[uint32]string{1000: name, 1001: version, 1002: release, 1022: arch})...)
}

func TestInspectTellsTheLayoutNameAndVersion(t *testing.T) {
	deb := standin.LiteDeb("1:2.5.0-3~deb12", "arm64", "libc6 (>= 2.34)", standin.LiteFiles("/usr/bin", []byte("x")))
	files := standin.LiteFiles("/usr/local/bin", []byte("x"))
	classic := standin.ClassicFiles("2.10", []byte("jar"), []byte("#!"))
	tests := map[string]struct {
		archive []byte
		format  string
		want    nucleus.Manifest
	}{
		"AWS's zip of classic": {standin.Zip(classic), "zip", nucleus.Manifest{Name: nucleus.ClassicName, Version: "2.10", Runtime: "classic", Entrypoint: "bin/loader", Layout: nucleus.LayoutClassic}},
		"classic as tar.gz":    {standin.TarGz(classic), "tar.gz", nucleus.Manifest{Name: nucleus.ClassicName, Version: "2.10", Runtime: "classic", Entrypoint: "bin/loader", Layout: nucleus.LayoutClassic}},
		"a deb": {deb, "deb", nucleus.Manifest{
			Name: nucleus.LiteName, Version: "2.5.0", Runtime: "lite", Entrypoint: "package.deb", Layout: nucleus.LayoutLitePackage,
			Package: "package.deb", PackageVersion: "1:2.5.0-3~deb12", Architecture: "arm64", Depends: "libc6 (>= 2.34)",
		}},
		"a deb in AWS's zip": {standin.LiteZip("2.5.0", deb), "zip", nucleus.Manifest{
			Name: nucleus.LiteName, Version: "2.5.0", Runtime: "lite", Entrypoint: "aws-greengrass-lite-2.5.0-Linux.deb", Layout: nucleus.LayoutLitePackage,
			Package: "aws-greengrass-lite-2.5.0-Linux.deb", PackageVersion: "1:2.5.0-3~deb12", Architecture: "arm64", Depends: "libc6 (>= 2.34)",
		}},
		"an rpm": {rpm("aws-greengrass-lite", "2.5.0", "1.el9", "x86_64"), "rpm", nucleus.Manifest{
			Name: nucleus.LiteName, Version: "2.5.0", Runtime: "lite", Entrypoint: "package.rpm", Layout: nucleus.LayoutLitePackage,
			Package: "package.rpm", PackageVersion: "2.5.0-1.el9", Architecture: "x86_64",
		}},
		"lite as files": {standin.LiteTarGz("2.6.0", files), "tar.gz", nucleus.Manifest{
			Name: nucleus.LiteName, Version: "2.6.0", Runtime: "lite", Entrypoint: "aws-greengrass-lite-2.6.0-Linux/usr/bin/ggconfigd", Layout: nucleus.LayoutLiteFiles,
		}},
		"lite as files with a file that names the version": {standin.Zip(append(files, standin.File{Name: "VERSION", Data: []byte("2.6.1\n"), Mode: 0o644})), "zip", nucleus.Manifest{
			Name: nucleus.LiteName, Version: "2.6.1", Runtime: "lite", Entrypoint: "usr/bin/ggconfigd", Layout: nucleus.LayoutLiteFiles,
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for _, format := range []string{"", tc.format} {
				m, err := inspect(t, tc.archive, format)
				require.NoError(t, err)
				assert.Equal(t, tc.want, m)
			}
		})
	}
	m, err := inspect(t, tarGz(t, program()...), "")
	require.NoError(t, err)
	assert.Equal(t, nucleus.LayoutProgram, m.Layout)
}

func TestInspectRefusesWhatIsNoNucleus(t *testing.T) {
	classic := standin.ClassicFiles("2.10.0", []byte("jar"), []byte("#!"))
	without := func(name string) []byte {
		var left []standin.File
		for _, f := range classic {
			if f.Name != name {
				left = append(left, f)
			}
		}
		return standin.Zip(left)
	}
	inFolder := func() []byte {
		var out []standin.File
		for _, f := range classic {
			f.Name = "aws.greengrass.nucleus/" + f.Name
			out = append(out, f)
		}
		return standin.Zip(out)
	}
	other := func(name string) []byte {
		deb := standin.LiteDeb("1.0.0", "all", "", []standin.File{{Name: "usr/bin/x", Data: []byte("x"), Mode: 0o755}})
		// The control data are compressed, so another name takes another package.
		return standin.Zip([]standin.File{{Name: name, Data: deb[:len(deb)/3], Mode: 0o644}})
	}
	tests := map[string]struct {
		archive []byte
		kind    fault.Kind
		says    string
	}{
		"a text":                         {[]byte("hello, this is text"), fault.Unsupported, "known format"},
		"nothing":                        {nil, fault.Unsupported, "known format"},
		"a zip of something else":        {standin.Zip([]standin.File{{Name: "a", Data: []byte("b"), Mode: 0o644}}), fault.Invalid, "is no nucleus"},
		"classic without its loader":     {without("bin/loader"), fault.Invalid, "bin/loader"},
		"classic without its recipe":     {without("conf/recipe.yaml"), fault.Invalid, "conf/recipe.yaml"},
		"classic in a folder of its own": {inFolder(), fault.Invalid, "is no nucleus"},
		"a deb that is cut off":          {other("x.deb"), fault.Invalid, "package"},
		"an rpm of something else":       {rpm("bash", "5.1", "1", "x86_64"), fault.Invalid, `"bash"`},
		"an rpm that is cut off":         {rpm("aws-greengrass-lite", "2.5.0", "1", "x86_64")[:120], fault.Invalid, "no rpm"},
		"lite's files without a version": {standin.Zip(standin.LiteFiles("/usr/bin", nil)), fault.Invalid, "VERSION"},
		"a deb compressed with zstd":     {[]byte("!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\ncontrol.tar.zst 0           0     0     100644  4         `\nabcd"), fault.Unsupported, "-Zgzip"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := inspect(t, tc.archive, "")
			require.ErrorIs(t, err, tc.kind)
			require.ErrorContains(t, err, tc.says)
		})
	}
	_, err := inspect(t, []byte("x"), "rar")
	require.ErrorIs(t, err, fault.Unsupported)
}

func FuzzInspect(f *testing.F) {
	deb := standin.LiteDeb("2.5.0", "amd64", "libc6", []standin.File{{Name: "usr/bin/x", Mode: 0o755}})
	f.Add(deb)
	f.Add(standin.LiteZip("2.5.0", deb))
	f.Add(rpm("aws-greengrass-lite", "2.5.0", "1", "x86_64"))
	f.Add(standin.Zip(standin.ClassicFiles("2.10.0", []byte("j"), []byte("l"))))
	f.Add(standin.LiteTarGz("2.6.0", standin.LiteFiles("/usr/bin", nil)[:3]))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := inspect(t, b, "")
		if err != nil {
			require.NotEmpty(t, fault.KindOf(err), err)
			return
		}
		require.NotEmpty(t, m.Layout)
		require.NoError(t, nucleus.Version{Name: m.Name, Version: m.Version, Digest: strings.Repeat("0", 64)}.Check())
	})
}

func TestConfigurationsThatTheNucleusWouldNotWorkWithAreRefused(t *testing.T) {
	const conf = "services.aws.greengrass.Nucleus.configuration."
	const lconf = "services.aws.greengrass.NucleusLite.configuration."
	long := strings.Repeat("a", 129)
	tests := map[string]struct {
		lite            bool
		old, bad, field string
	}{
		"an unknown region stops classic":    {false, "us-east-1", "local-1", conf + "awsRegion"},
		"no region":                          {false, "awsRegion: us-east-1", "x: y", conf + "awsRegion"},
		"an endpoint with a scheme":          {false, "iotDataEndpoint: fleet", "iotDataEndpoint: https://fleet", conf + "iotDataEndpoint"},
		"a data endpoint with a port":        {false, "iotDataEndpoint: fleet.plant.example", "iotDataEndpoint: fleet:8883", conf + "iotDataEndpoint"},
		"a credentials port that is none":    {false, ":8444", ":99999", conf + "iotCredEndpoint"},
		"AWS's endpoint of another region":   {false, "iotDataEndpoint: fleet.plant.example", "iotDataEndpoint: a-ats.iot.eu-west-1.amazonaws.com", conf + "iotDataEndpoint"},
		"AWS's data plane of another region": {false, "iotdata", "greengrass-ats.iot.eu-west-1.amazonaws.com", conf + "greengrassDataPlaneEndpoint"},
		"no role alias":                      {false, "iotRoleAlias: local", "x: y", conf + "iotRoleAlias"},
		"a port that is none":                {false, "port: 8883", "port: mqtt", conf + "mqtt.port"},
		"another root":                       {false, "rootpath: /greengrass/v2", "rootpath: /opt/gg", "system.rootpath"},
		"a relative certificate":             {false, "certificateFilePath: /greengrass/v2/cert.pem", "certificateFilePath: cert.pem", "system.certificateFilePath"},
		"a path that climbs":                 {false, "/greengrass/v2/private.key", "/greengrass/../private.key", "system.privateKeyPath"},
		"no thing":                           {false, "thingName: gw-0001", "x: y", "system.thingName"},
		"a thing with a blank":               {false, "thingName: gw-0001", "thingName: gw 0001", "system.thingName"},
		"a key that is there twice":          {false, "      mqtt:", "      awsRegion: eu-west-1\n      mqtt:", conf + "awsRegion"},
		"the wrong kind of component":        {false, "NUCLEUS", "GENERIC", "services.aws.greengrass.Nucleus.componentType"},
		"lite's data plane port as a number": {true, `"8443"`, "8443", lconf + "greengrassDataPlanePort"},
		"a blank value would empty lite's":   {true, "iotRoleAlias: local", "iotRoleAlias: local\n      x: \"\"", lconf + "x"},
		"an endpoint too long for lite":      {true, "iotDataEndpoint: fleet.plant.example", "iotDataEndpoint: " + long, lconf + "iotDataEndpoint"},
		"a role alias too long for lite":     {true, "iotRoleAlias: local", "iotRoleAlias: " + long, lconf + "iotRoleAlias"},
		"a region too long for lite":         {true, "us-east-1", "us-east-1-and-much-longer-than-that", lconf + "awsRegion"},
		"another MQTT port for lite":         {true, "iotRoleAlias: local", "iotRoleAlias: local\n      mqtt: {port: 9883}", lconf + "mqtt.port"},
		"classic's spelling for lite":        {true, "rootPath:", "rootpath:", "system.rootpath"},
		"the whole device as lite's root":    {true, "rootPath: /var/lib/greengrass", "rootPath: /", "system.rootPath"},
		"a user that is none":                {true, "gg_component:gg_component", `"a b"`, lconf + "runWithDefault.posixUser"},
		"a value too long for lite":          {true, "iotRoleAlias: local", "iotRoleAlias: local\n      x: " + strings.Repeat("a", 1025), lconf + "x"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			doc, layout, root := classicConfig, nucleus.LayoutClassic, classicAt
			if tc.lite {
				doc, layout, root = liteConfig, nucleus.LayoutLitePackage, ""
			}
			_, err := nucleus.CheckConfig([]byte(doc), layout, root)
			require.NoError(t, err)
			bad := strings.Replace(doc, tc.old, tc.bad, 1)
			require.NotEqual(t, doc, bad)
			_, err = nucleus.CheckConfig([]byte(bad), layout, root)
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, tc.field, fault.FieldOf(err), err)
		})
	}
	for _, name := range []string{"classic-fleet-self-hosted", "classic-manual-self-hosted"} {
		doc, err := os.ReadFile("../config/testdata/" + name + ".yaml")
		require.NoError(t, err)
		_, err = nucleus.CheckConfig(doc, nucleus.LayoutClassic, classicAt)
		require.NoError(t, err, "the control plane's own configurations are good: %s", name)
	}
	for _, name := range []string{"lite-fleet", "lite-manual", "lite-manual-aws"} {
		doc, err := os.ReadFile("../config/testdata/" + name + ".yaml")
		require.NoError(t, err)
		_, err = nucleus.CheckConfig(bytes.ReplaceAll(doc, []byte("<id>"), []byte("id")), nucleus.LayoutLiteFiles, "")
		require.NoError(t, err, "the control plane's own configurations are good: %s", name)
	}
}

func FuzzCheckConfig(f *testing.F) {
	f.Add([]byte(classicConfig), false)
	f.Add([]byte(liteConfig), true)
	f.Add([]byte("a: &x [*x]"), true)
	f.Fuzz(func(t *testing.T, doc []byte, lite bool) {
		layout, root := nucleus.LayoutClassic, classicAt
		if lite {
			layout, root = nucleus.LayoutLiteFiles, ""
		}
		f, err := nucleus.CheckConfig(doc, layout, root)
		if err != nil {
			require.NotEmpty(t, fault.KindOf(err), err)
			return
		}
		require.True(t, f.ByClaim || f.ThingName != "")
	})
}
