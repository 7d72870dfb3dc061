package nucleus_test

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/installer/nucleus/hosttest"
	"github.com/ggfleet/ggfleet/installer/nucleus/standin"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const classicAt = "/greengrass/v2"

const classicConfig = `---
system:
  certificateFilePath: /greengrass/v2/cert.pem
  privateKeyPath: /greengrass/v2/private.key
  rootCaPath: /greengrass/v2/AmazonRootCA1.pem
  rootpath: /greengrass/v2
  thingName: gw-0001
services:
  aws.greengrass.Nucleus:
    componentType: NUCLEUS
    version: 2.10.0
    configuration:
      awsRegion: us-east-1
      iotRoleAlias: local
      iotDataEndpoint: fleet.plant.example
      iotCredEndpoint: fleet.plant.example:8444
      greengrassDataPlaneEndpoint: iotdata
      greengrassDataPlanePort: 8443
      mqtt:
        port: 8883
`

func classicRelease(t *testing.T, version string) release {
	t.Helper()
	return newRelease(t, standin.Zip(standin.ClassicFiles(version, []byte("jar "+version), []byte("#!/bin/sh\n"))), "zip")
}

func classicOptions() nucleus.Options { return nucleus.Options{Config: []byte(classicConfig)} }

func TestClassicIsInstalledAsItsOwnInstallerWould(t *testing.T) {
	d := newDevice(t, classicAt)
	r := classicRelease(t, "2.10.0")
	assert.Equal(t, nucleus.LayoutClassic, r.m.Layout)
	p, change, err := d.site().Plan(r.v, r.m, r.options(classicOptions()), d.Host)
	require.NoError(t, err)
	pending, err := p.Pending(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"accounts", "unpack", "setup", "launch folder", "unit", "enable"}, stepNames(pending))
	for _, s := range pending {
		assert.NotEmpty(t, s.Describe, s.Name)
	}
	require.NoError(t, p.Run(t.Context(), nil))
	require.NoError(t, nucleus.Plan{change}.Run(t.Context(), nil))

	unit, err := d.ReadFile("/etc/systemd/system/greengrass.service")
	require.NoError(t, err)
	assert.Contains(t, string(unit), "ExecStart=/bin/sh /greengrass/v2/alts/current/distro/bin/loader\n")
	assert.Contains(t, string(unit), "PIDFile=/greengrass/v2/alts/loader.pid\n")
	loader, err := d.Lstat(classicAt + "/" + r.v.Dir() + "/bin/loader")
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o755), loader.Mode().Perm())
	recipe, err := nucleus.ReadLinked(d.Host, classicAt+"/alts/current/distro/conf/recipe.yaml")
	require.NoError(t, err)
	assert.Contains(t, string(recipe), "2.10.0")
	_, err = d.User(t.Context(), "ggc_user")
	require.NoError(t, err)
	assert.Contains(t, strings.Join(d.Calls(), "\n"),
		"java -Droot=/greengrass/v2 -Dlog.store=FILE -jar /greengrass/v2/"+r.v.Dir()+"/lib/Greengrass.jar --init-config /greengrass/v2/versions/init-config.yaml"+
			" --component-default-user ggc_user:ggc_group --setup-system-service false --start false")

	pending, err = append(p, change).Pending(t.Context())
	require.NoError(t, err)
	assert.Empty(t, pending)
	l, err := d.site().Launch(r.v, r.m, classicOptions(), d.Host)
	require.NoError(t, err)
	assert.Equal(t, nucleus.Launch{Unit: "greengrass.service", Watch: []string{"greengrass.service"}}, l)
	f, err := nucleus.Find(t.Context(), d.Host)
	require.NoError(t, err)
	assert.Equal(t, nucleus.Found{Layout: nucleus.LayoutClassic, Version: "2.10.0", Root: classicAt, Unit: "greengrass.service", Config: classicAt + "/config/effectiveConfig.yaml"}, f)
}

func TestASecondClassicVersionLiesBesideUntilTheSwitch(t *testing.T) {
	d := newDevice(t, classicAt)
	r1, r2 := classicRelease(t, "2.10.0"), classicRelease(t, "2.18.0")
	o := classicOptions()
	o.Classic.JVMOptions = []string{"-Xmx128m"}
	require.NoError(t, whole(t, d, d.Host, r1, o).Run(t.Context(), nil))
	require.NoError(t, d.site().Prune(r1.v))
	d.SetActive("greengrass.service", true)
	found := d.tree()
	setups := strings.Count(strings.Join(d.Calls(), "\n"), "--init-config")

	p, change, err := d.site().Plan(r2.v, r2.m, r2.options(nucleus.Options{}), d.Host)
	require.NoError(t, err)
	require.NoError(t, p.Run(t.Context(), nil))
	now := d.tree()
	for name, was := range found {
		require.Equal(t, was, now[name], "prepare touches nothing that is there: %s", name)
	}
	require.NoError(t, nucleus.Plan{change}.Run(t.Context(), nil))
	f, err := nucleus.Find(t.Context(), d.Host)
	require.NoError(t, err)
	assert.Equal(t, "2.18.0", f.Version)
	params, err := nucleus.ReadLinked(d.Host, classicAt+"/alts/current/launch.params")
	require.NoError(t, err)
	assert.Equal(t, "-Xmx128m", string(params), "the JVM's options are taken over")
	assert.Equal(t, setups, strings.Count(strings.Join(d.Calls(), "\n"), "--init-config"), "the installer runs once in the life of a root")

	// The way back, by another process.
	p, change, err = d.site().Plan(r2.v, r2.m, r2.options(nucleus.Options{}), d.Again())
	require.NoError(t, err)
	require.NoError(t, change.Undo(t.Context()))
	f, err = nucleus.Find(t.Context(), d.Host)
	require.NoError(t, err)
	assert.Equal(t, "2.10.0", f.Version)
	require.NoError(t, p.Undo(t.Context()))
	same(t, found, d.tree(), "undone")
}

func TestPruneKeepsWhatClassicMayGoBackTo(t *testing.T) {
	d := newDevice(t, classicAt)
	r1, r2 := classicRelease(t, "2.10.0"), classicRelease(t, "2.18.0")
	require.NoError(t, whole(t, d, d.Host, r1, classicOptions()).Run(t.Context(), nil))
	require.NoError(t, d.Host.Symlink(classicAt+"/alts/ggfleet-"+strings.TrimPrefix(r1.v.Dir(), "versions/"), classicAt+"/alts/old"))
	require.NoError(t, d.site().Prune(r2.v))
	_, err := d.site().Manifest(r1.v)
	require.NoError(t, err)
	_, _, err = d.site().Plan(r2.v, r2.m, r2.options(nucleus.Options{}), d.Host)
	require.NoError(t, err)
	err = whole(t, d, d.Host, r2, nucleus.Options{}).Run(t.Context(), nil)
	require.ErrorIs(t, err, fault.Conflict, "the nucleus is in the middle of its own update")
	require.ErrorContains(t, err, "alts/old")
}

func TestClassicKilledAnywhereIsWholeAgain(t *testing.T) {
	r1, r2 := classicRelease(t, "2.10.0"), classicRelease(t, "2.18.0")
	o := classicOptions()
	o.Classic.Java, o.Classic.JVMOptions = "/opt/jre/bin/java", []string{"-Xmx128m"}
	t.Run("the first installation", func(t *testing.T) {
		killed(t, story{func(t *testing.T) device {
			d := newDevice(t, classicAt)
			d.put(classicAt+"/logs/nucleus.log", "the agent's\n", 0o600)
			return d
		}, r1, o})
	})
	t.Run("another version", func(t *testing.T) {
		killed(t, story{func(t *testing.T) device {
			d := newDevice(t, classicAt)
			require.NoError(t, whole(t, d, d.Host, r1, classicOptions()).Run(t.Context(), nil))
			require.NoError(t, d.site().Prune(r1.v))
			return d
		}, r2, o})
	})
}

func TestAFullDiskOrAReadOnlyOneLeavesClassicAsItWas(t *testing.T) {
	r1, r2 := classicRelease(t, "2.10.0"), classicRelease(t, "2.18.0")
	for name, cause := range map[string]error{"full": syscall.ENOSPC, "read-only": syscall.EROFS} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t, classicAt)
			require.NoError(t, whole(t, d, d.Host, r1, classicOptions()).Run(t.Context(), nil))
			require.NoError(t, d.site().Prune(r1.v))
			found := d.tree()
			d.Change = func(what string, done bool) error {
				if !done && (strings.HasPrefix(what, "link") || strings.HasPrefix(what, "write")) {
					return &os.PathError{Op: "write", Path: what, Err: cause}
				}
				return nil
			}
			err := whole(t, d, d.Host, r2, nucleus.Options{}).Run(t.Context(), nil)
			require.ErrorIs(t, err, cause)
			d.Change = nil
			require.NoError(t, whole(t, d, d.Host, r2, nucleus.Options{}).Undo(t.Context()))
			same(t, found, d.tree(), name)
		})
	}
}

func TestADeviceThatCannotTakeClassicSaysWhy(t *testing.T) {
	r := classicRelease(t, "2.10.0")
	java := func(text string, code int) hosttest.Program {
		return func(context.Context, nucleus.Command) nucleus.Result {
			return nucleus.Result{Code: code, Stderr: []byte(text)}
		}
	}
	tests := map[string]struct {
		change func(d device, o *nucleus.Options)
		kind   fault.Kind
		says   string
	}{
		"no Java":                 {func(d device, _ *nucleus.Options) { delete(d.Programs, "java") }, fault.Unsupported, "has no java"},
		"Java 7":                  {func(d device, _ *nucleus.Options) { d.Programs["java"] = java(`java version "1.7.0_80"`, 0) }, fault.Unsupported, "is Java 7"},
		"a Java that is broken":   {func(d device, _ *nucleus.Options) { d.Programs["java"] = java("libjvm.so: cannot open", 1) }, fault.Unsupported, "cannot open"},
		"a Java that says little": {func(d device, _ *nucleus.Options) { d.Programs["java"] = java("hello", 0) }, fault.Unsupported, "does not say its version"},
		"no systemd":              {func(d device, _ *nucleus.Options) { require.NoError(d.t, os.RemoveAll(d.Path("/run/systemd"))) }, fault.Unsupported, "noSystemService"},
		"no configuration":        {func(_ device, o *nucleus.Options) { o.Config = nil }, fault.Invalid, "config: is missing"},
		"no certificate":          {func(d device, _ *nucleus.Options) { require.NoError(d.t, os.Remove(d.Path(classicAt+"/cert.pem"))) }, fault.Invalid, "certificateFilePath"},
		"an EC key in SEC1 form": {func(d device, _ *nucleus.Options) {
			d.put(classicAt+"/private.key", "-----BEGIN EC PRIVATE KEY-----\n", 0o600)
		}, fault.Invalid, "openssl pkcs8"},
		"nucleus lite runs": {func(d device, _ *nucleus.Options) { d.SetActive("greengrass-lite.target", true) }, fault.Conflict, "nucleus lite runs"},
		"another classic": {func(d device, _ *nucleus.Options) {
			d.put("/etc/systemd/system/greengrass.service", "[Service]\nExecStart=/bin/sh \"/opt/gg/alts/current/distro/bin/loader\"\n", 0o644)
		}, fault.Conflict, "--nucleus-root /opt/gg"},
		"a plugin that is not there": {func(_ device, o *nucleus.Options) { o.Classic.TrustedPlugins = []string{"/nowhere.jar"} }, fault.Invalid, "/nowhere.jar"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d, o := newDevice(t, classicAt), classicOptions()
			tc.change(d, &o)
			found := d.tree()
			err := whole(t, d, d.Host, r, o).Run(t.Context(), nil)
			require.ErrorIs(t, err, tc.kind)
			require.ErrorContains(t, err, tc.says)
			same(t, found, d.tree(), "nothing is changed")
		})
	}
}

func TestClassicOptionsAreChecked(t *testing.T) {
	r := classicRelease(t, "2.10.0")
	tests := map[string]struct {
		change func(o *nucleus.Options)
		field  string
	}{
		"provision true calls AWS":         {func(o *nucleus.Options) { o.Classic.Provision = true }, "classic.provision"},
		"deploy-dev-tools calls AWS":       {func(o *nucleus.Options) { o.Classic.DeployDevTools = true }, "classic.deployDevTools"},
		"a java without its path":          {func(o *nucleus.Options) { o.Classic.Java = "java" }, "classic.java"},
		"a log store that is none":         {func(o *nucleus.Options) { o.Classic.LogStore = "SYSLOG" }, "classic.logStore"},
		"an environment that is none":      {func(o *nucleus.Options) { o.Classic.EnvStage = "dev" }, "classic.envStage"},
		"a user with a capital":            {func(o *nucleus.Options) { o.Classic.DefaultUser = "Bob:bob" }, "classic.defaultUser"},
		"an id without a group":            {func(o *nucleus.Options) { o.Classic.DefaultUser = "1000" }, "classic.defaultUser"},
		"an id that is reserved":           {func(o *nucleus.Options) { o.Classic.DefaultUser = "4294967295:0" }, "classic.defaultUser"},
		"a JVM option with a blank":        {func(o *nucleus.Options) { o.Classic.JVMOptions = []string{"-Da=b c"} }, "classic.jvmOptions[0]"},
		"a JVM option that moves the root": {func(o *nucleus.Options) { o.Classic.JVMOptions = []string{"-Xmx9m", "-Droot=/x"} }, "classic.jvmOptions[1]"},
		"a plugin that is no jar":          {func(o *nucleus.Options) { o.Classic.TrustedPlugins = []string{"/x.zip"} }, "classic.trustedPlugins[0]"},
		"another region":                   {func(o *nucleus.Options) { o.Classic.AWSRegion = "eu-west-1" }, "classic.awsRegion"},
		"a configuration of lite":          {func(o *nucleus.Options) { o.Config = []byte(liteConfig) }, "config.system.rootPath"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d, o := newDevice(t, classicAt), classicOptions()
			tc.change(&o)
			_, _, err := d.site().Plan(r.v, r.m, r.options(o), d.Host)
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, tc.field, fault.FieldOf(err), err)
		})
	}
}

func TestClassicRunsAsAProcessWhereThereIsNoSystemd(t *testing.T) {
	d := newDevice(t, classicAt)
	require.NoError(t, os.RemoveAll(d.Path("/run/systemd")))
	delete(d.Programs, "systemctl")
	r, o := classicRelease(t, "2.10.0"), classicOptions()
	o.Classic.NoSystemService = true
	o.Classic.JVMOptions = []string{"-Xmx128m"}
	require.NoError(t, whole(t, d, d.Host, r, o).Run(t.Context(), nil))
	l, err := d.site().Launch(r.v, r.m, o, d.Host)
	require.NoError(t, err)
	assert.Equal(t, nucleus.Launch{Program: "java", Dir: classicAt, Args: []string{
		"-Dlog.store=FILE", "-Xmx128m", "-Droot=/greengrass/v2", "-jar", "/greengrass/v2/alts/current/distro/lib/Greengrass.jar", "--setup-system-service", "false",
	}}, l)
}

func TestAccountsOfBusyboxAndOnesThatExist(t *testing.T) {
	r := classicRelease(t, "2.10.0")
	t.Run("busybox", func(t *testing.T) {
		d, o := newDevice(t, classicAt), classicOptions()
		d.Programs["addgroup"], d.Programs["adduser"] = d.Programs["groupadd"], func(ctx context.Context, c nucleus.Command) nucleus.Result {
			assert.Equal(t, "adduser -S -D -s /bin/false -G ggc_group ggc_user", strings.Join(c.Argv, " "))
			return d.Programs["was useradd"](ctx, nucleus.Command{Argv: []string{"useradd", "--gid", "ggc_group", "ggc_user"}})
		}
		d.Programs["was useradd"] = d.Programs["useradd"]
		delete(d.Programs, "useradd")
		delete(d.Programs, "groupadd")
		require.NoError(t, whole(t, d, d.Host, r, o).Run(t.Context(), nil))
	})
	t.Run("no tool at all", func(t *testing.T) {
		d := newDevice(t, classicAt)
		delete(d.Programs, "useradd")
		delete(d.Programs, "groupadd")
		require.ErrorIs(t, whole(t, d, d.Host, r, classicOptions()).Run(t.Context(), nil), fault.Unsupported)
	})
	t.Run("an account that exists stays after an undo", func(t *testing.T) {
		d, o := newDevice(t, classicAt), classicOptions()
		delete(d.Programs, "groupadd")
		d.put("/etc/group", "root:x:0:\nplant:x:100:\n", 0o644)
		d.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\nbob:x:100:100::/home/bob:/bin/sh\n", 0o644)
		o.Classic.DefaultUser = "bob:plant"
		p := whole(t, d, d.Host, r, o)
		require.NoError(t, p.Run(t.Context(), nil))
		require.NoError(t, p.Undo(t.Context()))
		_, err := d.User(t.Context(), "bob")
		require.NoError(t, err)
	})
}

func TestClassicIsTakenAwayAndItsDataStay(t *testing.T) {
	d := newDevice(t, classicAt)
	r := classicRelease(t, "2.10.0")
	require.NoError(t, whole(t, d, d.Host, r, classicOptions()).Run(t.Context(), nil))
	p, err := d.site().Remove(r.v, r.m, nucleus.Options{}, d.Host)
	require.NoError(t, err)
	d.SetActive("greengrass.service", true)
	require.ErrorIs(t, p.Run(t.Context(), nil), fault.Conflict)
	d.SetActive("greengrass.service", false)
	require.NoError(t, p.Run(t.Context(), nil))
	_, err = nucleus.Find(t.Context(), d.Host)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = d.Lstat(classicAt + "/config/config.tlog")
	require.NoError(t, err)
	require.NoError(t, whole(t, d, d.Host, r, classicOptions()).Run(t.Context(), nil), "and installed again")
}

func TestAClassicThatSomebodyElseInstalledIsTakenOverAsItIs(t *testing.T) {
	d := newDevice(t, classicAt)
	for _, f := range standin.ClassicFiles("2.9.0", []byte("jar"), []byte("#!/bin/sh\n")) {
		d.put("/opt/GreengrassInstaller/"+f.Name, string(f.Data), f.Mode)
	}
	d.put("/tmp/config.yaml", classicConfig, 0o600)
	_, err := standin.Setup(d.Host.Host, []string{"-Droot=" + classicAt, "-jar", "/opt/GreengrassInstaller/lib/Greengrass.jar", "--init-config", "/tmp/config.yaml", "--start", "false"})
	require.NoError(t, err)
	d.put("/usr/lib/systemd/system/greengrass.service", "[Service]\nExecStart=/bin/sh -c \"/greengrass/v2/alts/current/distro/bin/loader >> /greengrass/v2/logs/loader.log 2>&1\"\n[Install]\nWantedBy=multi-user.target\n", 0o644)
	_, err = d.Run(t.Context(), nucleus.Command{Argv: []string{"systemctl", "enable", "greengrass.service"}})
	require.NoError(t, err)
	f, err := nucleus.Find(t.Context(), d.Host)
	require.NoError(t, err)
	assert.Equal(t, nucleus.Found{Layout: nucleus.LayoutClassic, Version: "2.9.0", Root: classicAt, Unit: "greengrass.service", Config: classicAt + "/config/effectiveConfig.yaml"}, f)
	found := d.tree()

	r := classicRelease(t, "2.18.0")
	p := whole(t, d, d.Host, r, nucleus.Options{})
	pending, err := p.Pending(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"unpack", "launch folder", "switch"}, stepNames(pending), "its users, its unit and its configuration stay")
	require.NoError(t, p.Run(t.Context(), nil))
	f, err = nucleus.Find(t.Context(), d.Host)
	require.NoError(t, err)
	assert.Equal(t, "2.18.0", f.Version)
	require.NoError(t, whole(t, d, d.Again(), r, nucleus.Options{}).Undo(t.Context()))
	same(t, found, d.tree(), "back to what was found")
}

func TestAnInstallerThatWasCutOffIsRunAgain(t *testing.T) {
	d := newDevice(t, classicAt)
	r, java := classicRelease(t, "2.10.0"), d.Programs["java"]
	cut := true
	d.Programs["java"] = func(ctx context.Context, c nucleus.Command) nucleus.Result {
		out := java(ctx, c)
		if strings.Contains(strings.Join(c.Argv, " "), "--init-config") {
			// This release makes its launch folders at the first start.
			require.NoError(t, os.RemoveAll(d.Path(classicAt+"/alts")))
			if cut {
				d.put(classicAt+"/config/config.tlog", "half", 0o644)
				return nucleus.Result{Code: 137}
			}
		}
		return out
	}
	require.ErrorContains(t, whole(t, d, d.Host, r, classicOptions()).Run(t.Context(), nil), "code 137")
	cut = false
	require.NoError(t, whole(t, d, d.Again(), r, classicOptions()).Run(t.Context(), nil))
	b, err := d.ReadFile(classicAt + "/config/config.tlog")
	require.NoError(t, err)
	assert.Equal(t, classicConfig, string(b))
	f, err := nucleus.Find(t.Context(), d.Host)
	require.NoError(t, err)
	assert.Equal(t, "2.10.0", f.Version)
}

func TestAnUndoDoesNotBringBackAnOldKey(t *testing.T) {
	d := newDevice(t, liteAt)
	r := liteTree(t, "2.5.0")
	require.NoError(t, whole(t, d, d.Host, r, liteOptions()).Run(t.Context(), nil))
	d.put(liteAt+"/private.key", "-----BEGIN PRIVATE KEY-----\nrenewed\n", 0o640)
	require.NoError(t, whole(t, d, d.Host, r, liteOptions()).Undo(t.Context()))
	b, err := d.ReadFile(liteAt + "/private.key")
	require.NoError(t, err)
	assert.Contains(t, string(b), "renewed")
	info, err := d.Lstat(liteAt + "/private.key")
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}
