package nucleus_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/installer/nucleus/standin"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const liteAt = "/var/lib/ggfleet/nucleus"

const liteConfig = `---
system:
  certificateFilePath: /var/lib/ggfleet/nucleus/cert.pem
  privateKeyPath: /var/lib/ggfleet/nucleus/private.key
  rootCaPath: /var/lib/ggfleet/nucleus/AmazonRootCA1.pem
  rootPath: /var/lib/greengrass
  thingName: gw-0002
services:
  aws.greengrass.NucleusLite:
    componentType: NUCLEUS
    configuration:
      awsRegion: us-east-1
      iotRoleAlias: local
      iotDataEndpoint: fleet.plant.example
      iotCredEndpoint: fleet.plant.example:8444
      greengrassDataPlanePort: "8443"
      runWithDefault:
        posixUser: gg_component:gg_component
`

func liteOptions() nucleus.Options { return nucleus.Options{Config: []byte(liteConfig)} }

func litePackage(t *testing.T, version string) release {
	t.Helper()
	deb := standin.LiteDeb(version, standin.Architecture(), "", standin.LiteFiles("/usr/bin", []byte("#!/bin/sh\n# "+version+"\n")))
	return newRelease(t, standin.LiteZip(version, deb), "zip")
}

func liteTree(t *testing.T, version string) release {
	t.Helper()
	return newRelease(t, standin.LiteTarGz(version, standin.LiteFiles("/usr/local/bin", []byte("#!/bin/sh\n# "+version+"\n"))), "tar.gz")
}

func liteDevice(t *testing.T) device {
	t.Helper()
	d := newDevice(t, liteAt)
	ok, err := d.UseDpkg()
	require.NoError(t, err)
	if !ok {
		t.Skip("needs dpkg, and to be root")
	}
	return d
}

// liteState is what counts of an installed package: its files are dpkg's affair.
func installed(t *testing.T, d device) string {
	t.Helper()
	f, err := nucleus.Find(t.Context(), d.Host)
	if err != nil {
		return ""
	}
	return f.Version
}

func TestLiteIsInstalledFromItsPackage(t *testing.T) {
	d := liteDevice(t)
	r := litePackage(t, "2.5.0")
	assert.Equal(t, nucleus.LayoutLitePackage, r.m.Layout)
	assert.Equal(t, "aws.greengrass.NucleusLite", r.m.Name)
	found := d.tree()
	p, change, err := d.site().Plan(r.v, r.m, r.options(liteOptions()), d.Host)
	require.NoError(t, err)
	pending, err := p.Pending(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"accounts", "unpack", "folders", "keys", "configuration"}, stepNames(pending))
	require.NoError(t, p.Run(t.Context(), nil))
	assert.Empty(t, installed(t, d), "prepare installs nothing")
	require.NoError(t, nucleus.Plan{change}.Run(t.Context(), nil))
	assert.Equal(t, "2.5.0", installed(t, d))
	pending, err = append(p, change).Pending(t.Context())
	require.NoError(t, err)
	assert.Empty(t, pending)

	core, err := d.User(t.Context(), "ggcore")
	require.NoError(t, err)
	uid, gid, err := d.Owner(liteAt + "/private.key")
	require.NoError(t, err)
	assert.Equal(t, [2]int{0, core.GID}, [2]int{uid, gid}, "the daemons read the key and cannot change it")
	info, err := d.Lstat(liteAt + "/private.key")
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o640), info.Mode().Perm())
	r2, err := d.Run(t.Context(), nucleus.Command{Argv: []string{"systemctl", "is-enabled", "ggl.core.iotcored.service"}})
	require.NoError(t, err)
	assert.Equal(t, "enabled\n", string(r2.Stdout))
	l, err := d.site().Launch(r.v, r.m, liteOptions(), d.Host)
	require.NoError(t, err)
	assert.Equal(t, nucleus.LiteTarget, l.Unit)
	assert.Contains(t, l.Watch, "ggl.core.ggconfigd.service")

	require.NoError(t, change.Undo(t.Context()))
	require.NoError(t, p.Undo(t.Context()))
	same(t, found, d.tree(), "undone")
	assert.NotContains(t, strings.Join(d.Calls(), "\n"), "purge", "a purge deletes the core's configuration and data")
}

func TestALitePackageGoesUpAndDownAndBack(t *testing.T) {
	d := liteDevice(t)
	r1, r2 := litePackage(t, "2.4.0"), litePackage(t, "2.5.0")
	require.NoError(t, whole(t, d, d.Host, r2, liteOptions()).Run(t.Context(), nil))
	require.NoError(t, d.site().Prune(r2.v))
	found := d.tree()
	t.Run("down to an older version, and back", func(t *testing.T) {
		p := whole(t, d, d.Host, r1, nucleus.Options{})
		require.NoError(t, p.Run(t.Context(), nil))
		assert.Equal(t, "2.4.0", installed(t, d))
		require.NoError(t, whole(t, d, d.Again(), r1, nucleus.Options{}).Undo(t.Context()))
		assert.Equal(t, "2.5.0", installed(t, d))
		same(t, found, d.tree(), "undone")
	})
}

func TestALitePackageThatSomebodyElseInstalledIsKeptForTheWayBack(t *testing.T) {
	d := liteDevice(t)
	r1, r2 := litePackage(t, "2.4.0"), litePackage(t, "2.5.0")
	other := liteDevice(t)
	require.NoError(t, whole(t, other, other.Host, r1, liteOptions()).Run(t.Context(), nil))
	deb, err := os.ReadFile(other.Path(liteAt + "/" + r1.v.Dir() + "/" + r1.m.Package))
	require.NoError(t, err)
	d.put("/srv/stick.deb", string(deb), 0o644)
	d.put("/etc/greengrass/config.yaml", liteConfig, 0o644)
	_, err = d.Run(t.Context(), nucleus.Command{Argv: []string{"dpkg", "-i", "/srv/stick.deb"}})
	require.NoError(t, err)
	require.NoError(t, os.Remove(d.Path("/srv/stick.deb")))
	require.Equal(t, "2.4.0", installed(t, d))
	found := d.tree()

	p := whole(t, d, d.Host, r2, nucleus.Options{})
	require.NoError(t, p.Run(t.Context(), nil))
	assert.Equal(t, "2.5.0", installed(t, d))
	require.NoError(t, p.Undo(t.Context()))
	assert.Equal(t, "2.4.0", installed(t, d))
	now := d.tree()
	delete(now, liteAt+"/versions/.kept")
	same(t, found, now, "back to what was found")
}

func TestLiteFilesAreLinkedAndTurned(t *testing.T) {
	d := newDevice(t, liteAt)
	r1, r2 := liteTree(t, "2.4.0"), liteTree(t, "2.5.0")
	assert.Equal(t, nucleus.LayoutLiteFiles, r1.m.Layout)
	found := d.tree()
	p := whole(t, d, d.Host, r1, liteOptions())
	require.NoError(t, p.Run(t.Context(), nil))
	program, err := nucleus.ReadLinked(d.Host, "/usr/local/bin/iotcored")
	require.NoError(t, err)
	assert.Contains(t, string(program), "2.4.0")

	first := d.tree()
	require.NoError(t, d.site().Prune(r1.v))
	p2, change, err := d.site().Plan(r2.v, r2.m, r2.options(nucleus.Options{}), d.Host)
	require.NoError(t, err)
	require.NoError(t, p2.Run(t.Context(), nil))
	now := d.tree()
	for name, was := range first {
		require.Equal(t, was, now[name], "prepare touches nothing that is there: %s", name)
	}
	require.NoError(t, nucleus.Plan{change}.Run(t.Context(), nil))
	program, err = nucleus.ReadLinked(d.Host, "/usr/local/bin/iotcored")
	require.NoError(t, err)
	assert.Contains(t, string(program), "2.5.0")
	require.NoError(t, append(p2, change).Undo(t.Context()))
	same(t, first, d.tree(), "back to the first")

	gone, err := d.site().Remove(r1.v, r1.m, nucleus.Options{}, d.Host)
	require.NoError(t, err)
	require.NoError(t, gone.Run(t.Context(), nil))
	for name := range d.tree() {
		if _, was := found[name]; !was {
			assert.False(t, strings.Contains(name, "/ggl.") || strings.Contains(name, "ggconfigd"), "left over: %s", name)
		}
	}
}

func TestLiteKilledAnywhereIsWholeAgain(t *testing.T) {
	t.Run("files, the first", func(t *testing.T) {
		killed(t, story{func(t *testing.T) device { return newDevice(t, liteAt) }, liteTree(t, "2.5.0"), liteOptions()})
	})
	t.Run("files, another version", func(t *testing.T) {
		r1 := liteTree(t, "2.4.0")
		killed(t, story{func(t *testing.T) device {
			d := newDevice(t, liteAt)
			require.NoError(t, whole(t, d, d.Host, r1, liteOptions()).Run(t.Context(), nil))
			require.NoError(t, d.site().Prune(r1.v))
			return d
		}, liteTree(t, "2.5.0"), nucleus.Options{}})
	})
	t.Run("the package, another version", func(t *testing.T) {
		r1 := litePackage(t, "2.4.0")
		killed(t, story{func(t *testing.T) device {
			d := liteDevice(t)
			require.NoError(t, whole(t, d, d.Host, r1, liteOptions()).Run(t.Context(), nil))
			require.NoError(t, d.site().Prune(r1.v))
			return d
		}, litePackage(t, "2.5.0"), nucleus.Options{}})
	})
}

func TestAPackageThatDpkgDidNotFinishIsInstalledAgain(t *testing.T) {
	d := liteDevice(t)
	r := litePackage(t, "2.5.0")
	dpkg := d.Programs["dpkg"]
	d.Programs["dpkg"] = func(ctx context.Context, c nucleus.Command) nucleus.Result {
		for i, a := range c.Argv {
			if a == "-i" { // killed between unpacking and configuring
				c.Argv[i] = "--unpack"
				dpkg(ctx, c)
				return nucleus.Result{Code: 137}
			}
		}
		return dpkg(ctx, c)
	}
	require.Error(t, whole(t, d, d.Host, r, liteOptions()).Run(t.Context(), nil))
	d.Programs["dpkg"] = dpkg
	require.NoError(t, whole(t, d, d.Again(), r, liteOptions()).Run(t.Context(), nil))
	assert.Equal(t, "2.5.0", installed(t, d))
}

func TestADeviceThatCannotTakeLiteSaysWhy(t *testing.T) {
	arch := standin.Architecture()
	pack := func(arch, depends string) release {
		return newRelease(t, standin.LiteDeb("2.5.0", arch, depends, standin.LiteFiles("/usr/bin", []byte("x"))), "deb")
	}
	plain := pack(arch, "")
	tests := map[string]struct {
		r      release
		change func(d device, o *nucleus.Options)
		kind   fault.Kind
		says   string
	}{
		"no systemd":                 {plain, func(d device, _ *nucleus.Options) { require.NoError(d.t, os.RemoveAll(d.Path("/run/systemd"))) }, fault.Unsupported, "not run by systemd"},
		"no dpkg":                    {plain, func(d device, _ *nucleus.Options) { delete(d.Programs, "dpkg") }, fault.Unsupported, "has no dpkg"},
		"another architecture":       {pack("s390x", ""), nil, fault.Invalid, "is for s390x"},
		"a missing library":          {pack(arch, "libnowhere9 (>= 1.2), libelsewhere | libother"), nil, fault.Unsupported, "libnowhere9 (>= 1.2)"},
		"classic runs":               {plain, func(d device, _ *nucleus.Options) { d.SetActive("greengrass.service", true) }, fault.Conflict, "classic nucleus runs"},
		"no configuration":           {plain, func(_ device, o *nucleus.Options) { o.Config = nil }, fault.Invalid, "config: is missing"},
		"no key":                     {plain, func(d device, _ *nucleus.Options) { require.NoError(d.t, os.Remove(d.Path(liteAt+"/private.key"))) }, fault.Invalid, "privateKeyPath"},
		"lite is there as a package": {liteTree(t, "2.5.0"), func(d device, _ *nucleus.Options) { d.put("/usr/local/bin/iotcored", "x", 0o755) }, fault.Conflict, "/usr/local/bin/iotcored"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d, o := liteDevice(t), liteOptions()
			if tc.change != nil {
				tc.change(d, &o)
			}
			err := whole(t, d, d.Host, tc.r, o).Run(t.Context(), nil)
			require.ErrorIs(t, err, tc.kind)
			require.ErrorContains(t, err, tc.says)
			require.NoError(t, whole(t, d, d.Host, tc.r, o).Undo(t.Context()))
		})
	}
}

func TestDependenciesAreMetByWhatIsInstalledOrProvided(t *testing.T) {
	arch := standin.Architecture()
	status := "Package: libx1\nStatus: install ok installed\nPriority: optional\nSection: libs\nMaintainer: nobody\nArchitecture: " + arch +
		"\nVersion: 2.0-1\nProvides: libold (= 1.5), libname\nDescription: x\n\nPackage: libgone\nStatus: deinstall ok config-files\nMaintainer: nobody\nArchitecture: " + arch + "\nVersion: 1\nDescription: x\n\n"
	for depends, met := range map[string]bool{
		"libx1":                      true,
		"libx1 (>= 2.0), libname":    true,
		"libx1:any (<< 3)":           true,
		"libold (>= 1.5)":            true,
		"libnone | libx1 (>= 1)":     true,
		"libx1 (>= 2.1)":             false,
		"libname (>= 1)":             false,
		"libgone":                    false,
		"libx1 (= 2.0) | libnone":    false,
		"libx1, libnone (>= 1), abc": false,
	} {
		t.Run(depends, func(t *testing.T) {
			d := liteDevice(t)
			d.put("/var/lib/dpkg/status", status, 0o644)
			r := newRelease(t, standin.LiteDeb("2.5.0", arch, depends, standin.LiteFiles("/usr/bin", []byte("x"))), "deb")
			p, _, err := d.site().Plan(r.v, r.m, r.options(liteOptions()), d.Host)
			require.NoError(t, err)
			_, err = p.Pending(t.Context())
			if met {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, fault.Unsupported)
			}
		})
	}
}
