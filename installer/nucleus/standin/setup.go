package standin

import (
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/ggfleet/ggfleet/installer/nucleus"
)

// Arguments are a call of the classic nucleus's jar, as its class GreengrassSetup
// reads it.
type Arguments struct {
	Root, Jar, InitConfig, DefaultUser string
	SystemService, Start, Version      bool
	TrustedPlugins                     []string
}

// ParseArguments reads the arguments of java. An argument that GreengrassSetup
// does not know ends it, and so does one that would call AWS.
func ParseArguments(args []string) (Arguments, error) {
	a := Arguments{Start: true}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		value := func() string {
			if i++; i < len(args) {
				return args[i]
			}
			return ""
		}
		switch {
		case strings.HasPrefix(arg, "-Droot="):
			a.Root = strings.TrimPrefix(arg, "-Droot=")
		case arg == "-jar":
			a.Jar = value()
		case a.Jar == "" && strings.HasPrefix(arg, "-"): // an option of the JVM
		case arg == "--init-config" || arg == "-init" || arg == "--config" || arg == "-i":
			a.InitConfig = value()
		case arg == "--root" || arg == "-r":
			a.Root = value()
		case arg == "--component-default-user" || arg == "-u":
			a.DefaultUser = value()
		case arg == "--version" || arg == "-v":
			a.Version = true
		case arg == "--setup-system-service" || arg == "-ss":
			a.SystemService = strings.EqualFold(value(), "true")
		case arg == "--start" || arg == "-s":
			a.Start = !strings.EqualFold(value(), "false")
		case arg == "--trusted-plugin" || arg == "-tp":
			a.TrustedPlugins = append(a.TrustedPlugins, value())
		case arg == "--aws-region" || arg == "-ar" || arg == "--env-stage" || arg == "-es":
			value()
		case (arg == "--provision" || arg == "-p" || arg == "--deploy-dev-tools" || arg == "-d") && strings.EqualFold(value(), "false"):
		default:
			return a, fmt.Errorf("undefined command line argument: %s", arg)
		}
	}
	if a.Jar == "" || a.Root == "" && !a.Version {
		return a, fmt.Errorf("no -Droot or no -jar in %q", args)
	}
	return a, nil
}

// Setup does on the host what the classic nucleus's installer leaves: folders,
// the links of the first launch, the configuration (as YAML in config.tlog, too;
// the real one is a log of changes). It does not start anything.
// args are java's.
func Setup(sys *nucleus.Host, args []string) (string, error) {
	a, err := ParseArguments(args)
	if err != nil {
		return "", err
	}
	at := func(name string) string { return sys.Path(path.Join(a.Root, name)) }
	for _, d := range []string{"alts", "config", "deployments", "logs", "packages/recipes", "packages/artifacts", "packages/artifacts-unarchived", "plugins/trusted", "telemetry", "work/aws.greengrass.Nucleus"} {
		if err := os.MkdirAll(at(d), 0o755); err != nil {
			return "", err
		}
	}
	if a.InitConfig != "" {
		b, err := os.ReadFile(sys.Path(a.InitConfig))
		if err != nil {
			return "", err
		}
		for name, data := range map[string][]byte{"config/effectiveConfig.yaml": b, "config/config.tlog": b} {
			if err := os.WriteFile(at(name), data, 0o644); err != nil {
				return "", err
			}
		}
	}
	for _, p := range a.TrustedPlugins {
		b, err := os.ReadFile(sys.Path(p))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(at("plugins/trusted/"+path.Base(p)), b, 0o644); err != nil {
			return "", err
		}
	}
	if _, err := os.Readlink(at("alts/current")); err == nil {
		return "Nucleus start set to false, exiting...\n", nil // a second version over a root changes nothing
	}
	if err := os.MkdirAll(at("alts/init"), 0o755); err != nil {
		return "", err
	}
	for _, l := range [][2]string{{path.Dir(path.Dir(a.Jar)), "alts/init/distro"}, {path.Join(a.Root, "alts/init"), "alts/current"}} {
		if err := os.Symlink(l[0], at(l[1])); err != nil && !os.IsExist(err) {
			return "", err
		}
	}
	return "Nucleus start set to false, exiting...\n", nil
}
