package simulator

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// maxInstallerConfig bounds an installer configuration in bytes.
const maxInstallerConfig = 256 << 10

// text is a scalar as it is written, whether YAML takes it for a number or not.
type text string

// UnmarshalYAML takes any scalar.
func (t *text) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fault.New(fault.Invalid, "line %d is no plain value", n.Line)
	}
	if n.Tag != "!!null" {
		*t = text(n.Value)
	}
	return nil
}

type installerConfig struct {
	System struct {
		CertificateFilePath text `yaml:"certificateFilePath"`
		PrivateKeyPath      text `yaml:"privateKeyPath"`
		RootCAPath          text `yaml:"rootCaPath"`
		ThingName           text `yaml:"thingName"`
	} `yaml:"system"`
	Services map[string]installerService `yaml:"services"`
}

type installerService struct {
	Version       text `yaml:"version"`
	Configuration struct {
		Region            text `yaml:"awsRegion"`
		RoleAlias         text `yaml:"iotRoleAlias"`
		DataEndpoint      text `yaml:"iotDataEndpoint"`
		CredEndpoint      text `yaml:"iotCredEndpoint"`
		DataPlaneEndpoint text `yaml:"greengrassDataPlaneEndpoint"`
		DataPlanePort     text `yaml:"greengrassDataPlanePort"`
		MQTT              struct {
			Port    text `yaml:"port"`
			Version text `yaml:"version"`
		} `yaml:"mqtt"`
		FleetStatus struct {
			Interval text `yaml:"periodicStatusPublishIntervalSeconds"`
		} `yaml:"fleetStatus"`
	} `yaml:"configuration"`
}

// ParseInstallerConfig reads an installer configuration of either runtime
// (nucleus-contract §1.1, §1.2; MANUAL_INSTALL form of cdf-services §5.2) and
// returns the Config that it describes, without certificate and trust, and the
// three file paths as they stand there. The data plane is on the broker's host
// unless greengrassDataPlaneEndpoint names another.
func ParseInstallerConfig(b []byte) (Config, Files, error) {
	var in installerConfig
	if len(b) > maxInstallerConfig {
		return Config{}, Files{}, fault.New(fault.TooLarge, "installer configuration of %d bytes, at most %d", len(b), maxInstallerConfig)
	}
	if err := yaml.Unmarshal(b, &in); err != nil {
		return Config{}, Files{}, fault.New(fault.Invalid, "installer configuration: %v", err)
	}
	svc, ok := in.Services[nucleus]
	if !ok {
		if svc, ok = in.Services[nucleusLite]; !ok {
			return Config{}, Files{}, fault.Field("services", "has neither %s nor %s", nucleus, nucleusLite)
		}
	}
	c := svc.Configuration
	if c.DataEndpoint == "" || c.CredEndpoint == "" || in.System.ThingName == "" {
		return Config{}, Files{}, fault.New(fault.Invalid, "installer configuration lacks thingName, iotDataEndpoint or iotCredEndpoint: such a nucleus stays offline")
	}
	cfg := Config{
		Thing: string(in.System.ThingName), RoleAlias: string(c.RoleAlias), Region: string(c.Region), Version: string(svc.Version),
		MQTT:        address(string(c.DataEndpoint), string(c.MQTT.Port), "8883"),
		DataPlane:   address(string(c.DataEndpoint), string(c.DataPlanePort), "8443"),
		Credentials: address(string(c.CredEndpoint), "", "443"),
	}
	if e := strings.TrimPrefix(string(c.DataPlaneEndpoint), "https://"); e != "" && e != "iotdata" {
		cfg.DataPlane = address(e, string(c.DataPlanePort), "8443")
	}
	if c.MQTT.Version == "mqtt3" {
		cfg.MQTTVersion = 4
	}
	if s := string(c.FleetStatus.Interval); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return Config{}, Files{}, fault.Field("fleetStatus.periodicStatusPublishIntervalSeconds", "is %q, want seconds", s)
		}
		cfg.StatusInterval = time.Duration(n) * time.Second
	}
	return cfg, Files{string(in.System.CertificateFilePath), string(in.System.PrivateKeyPath), string(in.System.RootCAPath)}, nil
}

// address joins host and port; a port in host wins.
func address(host, port, def string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	if port == "" {
		port = def
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// Files are where a nucleus finds its identity.
type Files struct{ Certificate, Key, RootCA string }

// Load reads the files into cfg; relative paths are below dir.
func (f Files) Load(dir string, cfg *Config) error {
	at := func(p string) string {
		if filepath.IsAbs(p) {
			return p
		}
		return filepath.Join(dir, p)
	}
	cert, err := tls.LoadX509KeyPair(at(f.Certificate), at(f.Key))
	if err != nil {
		return fmt.Errorf("reading certificate and key: %w", err)
	}
	pem, err := os.ReadFile(at(f.RootCA))
	if err != nil {
		return fmt.Errorf("reading the root CA: %w", err)
	}
	cfg.Certificate, cfg.RootCAs = cert, x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return fault.New(fault.Invalid, "root CA file %s holds no certificate", f.RootCA)
	}
	return nil
}

// FromRoot is the Config of a nucleus that is installed in root: its
// configuration is root/config/config.yaml or root/installerConfig.yml, its state
// goes below root.
func FromRoot(root string) (Config, error) {
	for _, name := range []string{"config/config.yaml", "installerConfig.yml"} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Config{}, fmt.Errorf("reading the installer configuration: %w", err)
		}
		cfg, files, err := ParseInstallerConfig(b)
		if err != nil {
			return Config{}, fmt.Errorf("%s: %w", name, err)
		}
		cfg.StateDir = root
		return cfg, files.Load(root, &cfg)
	}
	return Config{}, fault.New(fault.NotFound, "%s has neither config/config.yaml nor installerConfig.yml", root)
}

// FromFile is the Config of a nucleus whose configuration is a file and whose
// state goes below dir: the way of the installed runtimes, classic
// (config/config.tlog in its root, which for a simulated one is the YAML it was
// set up with) and lite (/etc/greengrass/config.yaml).
func FromFile(file, dir string) (Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("reading the installer configuration: %w", err)
	}
	cfg, files, err := ParseInstallerConfig(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", file, err)
	}
	cfg.StateDir = dir
	return cfg, files.Load(dir, &cfg)
}

// FromIdentity is the Config of a core whose artifacts lie in dir as the control
// plane makes them: certs/cert.pem, certs/private.key, installerConfig.yml. The
// paths in the configuration are those of another machine and are not used. rootCA
// is the file to trust; empty: the file of the configured name in dir/certs.
func FromIdentity(dir, rootCA string) (Config, error) {
	b, err := os.ReadFile(filepath.Join(dir, "installerConfig.yml"))
	if err != nil {
		return Config{}, fmt.Errorf("reading the installer configuration: %w", err)
	}
	cfg, files, err := ParseInstallerConfig(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", dir, err)
	}
	if rootCA == "" {
		rootCA = filepath.Join(dir, "certs", filepath.Base(files.RootCA))
	}
	trust, err := filepath.Abs(rootCA)
	if err != nil {
		return Config{}, fmt.Errorf("finding the root CA: %w", err)
	}
	files = Files{"certs/cert.pem", "certs/private.key", trust}
	return cfg, files.Load(dir, &cfg)
}
