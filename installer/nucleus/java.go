package nucleus

import (
	"context"
	"errors"
	"os/exec"
	"path"
	"regexp"
	"strconv"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// minJava is the oldest Java that classic runs on.
const minJava = 8

var javaVersion = regexp.MustCompile(`(?m)^\S+ version "([0-9]{1,4})(?:\.([0-9]{1,4}))?`)

// parseJavaVersion reads the major version of what java -version says: 8 for
// "1.8.0_402", 17 for "17.0.10" and "17-ea".
func parseJavaVersion(out []byte) (int, bool) {
	m := javaVersion.FindSubmatch(out)
	if m == nil {
		return 0, false
	}
	major, err := strconv.Atoi(string(m[1]))
	if err == nil && major == 1 && len(m[2]) > 0 {
		major, err = strconv.Atoi(string(m[2]))
	}
	return major, err == nil
}

// javaProgram is the java that classic is run with: the one of the options or
// the one of the PATH.
func javaProgram(sys System, o ClassicOptions) (string, error) {
	name := o.Java
	if name == "" {
		name = "java"
	}
	p, err := sys.LookPath(name)
	switch {
	case err == nil:
		return p, nil
	case o.Java != "":
		return "", fault.Field("classic.java", "%q is not a program on this device", o.Java)
	case errors.Is(err, exec.ErrNotFound):
		return "", fault.New(fault.Unsupported, "this device has no java; the classic nucleus needs a Java runtime, version %d or newer: install one (Debian: apt-get install default-jre-headless), or name its program with the option java", minJava)
	default:
		return "", err
	}
}

// Java returns the java program that classic would be run with and its major
// version, for which it is run. The error says what is wrong with it:
// fault.Unsupported, fault.Invalid.
func Java(ctx context.Context, sys System, o ClassicOptions) (program string, major int, err error) {
	p, err := javaProgram(sys, o)
	if err != nil {
		return "", 0, err
	}
	r, err := sys.Run(ctx, Command{Argv: []string{p, "-version"}})
	if err != nil {
		return p, 0, fault.New(fault.Unsupported, "%s does not run on this device: %v", p, err)
	}
	major, ok := parseJavaVersion(append(r.Stderr, r.Stdout...))
	switch {
	case r.Code != 0:
		return p, 0, fault.New(fault.Unsupported, "%s -version ended with code %d: %s", p, r.Code, lastLines(r))
	case !ok:
		return p, 0, fault.New(fault.Unsupported, "%s does not say its version: %s", p, lastLines(r))
	case major < minJava:
		return p, major, fault.New(fault.Unsupported, "%s is Java %d; the classic nucleus needs %d or newer", p, major, minJava)
	}
	return p, major, nil
}

// checkClassic checks what was asked for, without the device.
func (o ClassicOptions) check() error {
	switch {
	case o.Provision:
		return fault.Field("classic.provision", "would have the nucleus register itself at AWS; this device is registered by ggfleet: leave it out")
	case o.DeployDevTools:
		return fault.Field("classic.deployDevTools", "would have the nucleus fetch its command line tool from AWS; deploy the component aws.greengrass.Cli instead")
	case o.Java != "" && !path.IsAbs(o.Java):
		return fault.Field("classic.java", "%q is not an absolute path; the service has another PATH than you", o.Java)
	case o.LogStore != "" && o.LogStore != "FILE" && o.LogStore != "CONSOLE":
		return fault.Field("classic.logStore", "%q is neither FILE nor CONSOLE", o.LogStore)
	case o.EnvStage != "" && o.EnvStage != "prod" && o.EnvStage != "gamma" && o.EnvStage != "beta":
		return fault.Field("classic.envStage", "%q is none of prod, gamma, beta", o.EnvStage)
	}
	if _, _, err := ParseAccount(o.user()); err != nil {
		return fault.Field("classic.defaultUser", "%s", fault.Message(err))
	}
	for i, opt := range o.JVMOptions {
		// The loader splits the stored options at blanks.
		if len(opt) > maxJVMOption || !jvmOption.MatchString(opt) {
			return fault.Field("classic.jvmOptions["+strconv.Itoa(i)+"]", "%q is not one option of the JVM (-X..., -D..., without blanks and quotes)", opt)
		}
		if m := reservedOption.FindString(opt); m != "" {
			return fault.Field("classic.jvmOptions["+strconv.Itoa(i)+"]", "%q is set by the installation itself", opt)
		}
	}
	for i, p := range o.TrustedPlugins {
		if !path.IsAbs(p) || path.Ext(p) != ".jar" {
			return fault.Field("classic.trustedPlugins["+strconv.Itoa(i)+"]", "%q is not an absolute path of a jar file", p)
		}
	}
	return nil
}

const maxJVMOption = 512 // bytes

var (
	jvmOption      = regexp.MustCompile(`^-[-A-Za-z0-9_.,:=/+@%]+$`)
	reservedOption = regexp.MustCompile(`^-(Droot=|Dlog\.store=|jar$)`)
)

func (o ClassicOptions) user() string {
	if o.DefaultUser == "" {
		return "ggc_user:ggc_group"
	}
	return o.DefaultUser
}

func (o ClassicOptions) logStore() string {
	if o.LogStore == "" {
		return "FILE"
	}
	return o.LogStore
}
