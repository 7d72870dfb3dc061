package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Config is how one control plane runs. File, environment and flags use the same
// names: http-addr in a file, GGFLEET_HTTP_ADDR in the environment, --http-addr
// on the command line; a later one of these wins.
type Config struct {
	DataDir string `koanf:"data-dir"`

	HTTPAddr     string `koanf:"http-addr"`     // fleet API and metrics
	AWSAddr      string `koanf:"aws-addr"`      // AWS-compatible endpoint, S3 included
	MQTTAddr     string `koanf:"mqtt-addr"`     // devices: MQTT over TLS
	DeviceAddr   string `koanf:"device-addr"`   // devices: HTTPS, also enrolment
	ALPNAddr     string `koanf:"alpn-addr"`     // devices: MQTT and HTTPS on one port; empty: none
	ArtifactAddr string `koanf:"artifact-addr"` // devices: artifact downloads

	// PublicHost is the host name or address that devices reach this server at;
	// it goes into installer configurations and URLs.
	PublicHost  string   `koanf:"public-host"`
	ServerNames []string `koanf:"server-names"` // further names in the server certificate

	Region    string `koanf:"region"`
	Account   string `koanf:"account"`
	RoleAlias string `koanf:"role-alias"`

	EtcdEndpoints []string `koanf:"etcd-endpoints"` // empty: embedded
	EtcdUsername  string   `koanf:"etcd-username"`
	EtcdPassword  string   `koanf:"etcd-password"`
	EtcdCA        string   `koanf:"etcd-ca"` // PEM file; empty: plain text, or the system's store for https

	S3Endpoint  string `koanf:"s3-endpoint"` // empty: embedded; else URL
	S3Bucket    string `koanf:"s3-bucket"`
	S3AccessKey string `koanf:"s3-access-key"`
	S3SecretKey string `koanf:"s3-secret-key"`
	S3PathStyle bool   `koanf:"s3-path-style"`
	S3Fsync     bool   `koanf:"s3-fsync"`

	ArtifactPrefix string `koanf:"artifact-prefix"` // of cores' artifacts, ends with /
	SealKeyFile    string `koanf:"seal-key-file"`   // empty: DIR/seal.key

	DeleteCertificates bool `koanf:"delete-certificates"` // with the thing, unless another shares them
	DeletePolicies     bool `koanf:"delete-policies"`     // with the thing, when nothing else uses them
	PreStage           bool `koanf:"pre-stage"`           // deploy to cores that never connected
	CertificateDays    int  `koanf:"certificate-days"`    // validity where a request names none

	RolloutRate   int     `koanf:"rollout-rate"`    // notifications a minute of a deployment that names no rate; 0: no limit
	DeployOnLeave bool    `koanf:"deploy-on-leave"` // a core that leaves a group is sent a deployment at once
	AWSRate       float64 `koanf:"aws-rate"`        // requests a second of one access key to each AWS service; 0: no limit

	Generators   []string `koanf:"generators"`         // ALIAS=URL of installer config generators
	Overlays     []string `koanf:"generator-overlays"` // ALIAS=FILE for the built-in ones
	CAAliases    []string `koanf:"ca-aliases"`         // ALIAS=ID or ARN of registered CAs
	PCAAliases   []string `koanf:"pca-aliases"`        // ALIAS=ARN of private CAs
	ClaimCertDir string   `koanf:"claim-cert-dir"`     // on devices, for provisioning by claim; empty: claim-certs below the nucleus' root

	AssetLibraryURL     string   `koanf:"asset-library-url"`     // empty: none
	AssetLibraryHeaders []string `koanf:"asset-library-headers"` // NAME=VALUE of each request to it

	PatchDays     int      `koanf:"patch-days"`     // until a patch fails that its device did not take
	PatchPrefixes []string `koanf:"patch-prefixes"` // of keys that patches of every device may link to

	EnrollmentWaiting     int `koanf:"enrollment-waiting"`      // devices that wait for approval at once
	EnrollmentWaitingFrom int `koanf:"enrollment-waiting-from"` // of them from one address

	AgentCertificateLife  time.Duration `koanf:"agent-certificate-life"`
	AgentCertificateGrace time.Duration `koanf:"agent-certificate-grace"` // after its end, in which one may still be renewed; 0: none

	AgentUpdateKeys string `koanf:"agent-update-keys"` // file of public keys; empty: signatures of releases are not checked here

	BasePath   string `koanf:"base-path"`   // removed from the path of requests to the fleet API
	CORSOrigin string `koanf:"cors-origin"` // empty: no page of another origin may call the fleet API

	EventRetain        int  `koanf:"event-retain"`         // events that the log keeps
	WebhookHTTP        bool `koanf:"webhook-http"`         // webhooks may be plain http to any address
	WebhookDenyPrivate bool `koanf:"webhook-deny-private"` // webhooks must not reach loopback and private addresses

	Workers        int    `koanf:"workers"` // task items at once
	LogLevel       string `koanf:"log-level"`
	LogFormat      string `koanf:"log-format"` // json or text
	InsecureNoAuth bool   `koanf:"insecure-no-auth"`
	PprofAddr      string `koanf:"pprof-addr"` // empty: no profiles
}

// Flags defines the flags of serve with their defaults. Each is also a key of
// the configuration file and a variable of the environment.
func Flags(f *pflag.FlagSet) {
	f.String("config", "", "configuration file (YAML, keys are the names of these flags)")
	f.String("data-dir", ".ggfleet", "directory of all data and secrets")
	f.String("http-addr", "127.0.0.1:8080", "fleet API; TLS with our own CA on any address but loopback")
	f.String("aws-addr", "127.0.0.1:4566", "AWS-compatible endpoint; TLS with our own CA on any address but loopback")
	f.String("mqtt-addr", ":8883", "MQTT for devices")
	f.String("device-addr", ":8443", "HTTPS for devices")
	f.String("alpn-addr", "", "one more address for devices, MQTT and HTTPS told apart by what they offer in TLS (ALPN): as AWS does on :443, which device SDKs ask unless told otherwise (default: none)")
	f.String("artifact-addr", ":8081", "artifact downloads for devices (plain HTTP; the contract with the runtimes asks for it)")
	f.String("public-host", "localhost", "host name or address at which devices reach this server")
	f.StringSlice("server-names", nil, "further names and addresses in the server certificate")
	f.String("region", "us-east-1", "region in ARNs and installer configurations; the classic nucleus accepts AWS's names only")
	f.String("account", "000000000000", "account in ARNs")
	f.String("role-alias", DefaultRoleAlias, "token exchange role alias in installer configurations")
	f.StringSlice("etcd-endpoints", nil, "external etcd (host:port or URL); empty: embedded")
	f.String("etcd-username", "", "user of the external etcd")
	f.String("etcd-password", "", "password of the external etcd")
	f.String("etcd-ca", "", "PEM file of the CA of the external etcd")
	f.String("s3-endpoint", "", "external S3 as a URL; empty: embedded")
	f.String("s3-bucket", "ggfleet", "bucket of artifacts")
	f.String("s3-access-key", "", "access key of the external S3")
	f.String("s3-secret-key", "", "secret key of the external S3")
	f.Bool("s3-path-style", true, "bucket in the path of requests to the external S3")
	f.Bool("s3-fsync", true, "sync each object of the embedded S3 to disk before it is acknowledged")
	f.String("artifact-prefix", "greengrass2/artifacts/", "prefix of the keys of cores' artifacts")
	f.String("seal-key-file", "", "file of the key that seals secrets; replicas of one store share it (default DIR/seal.key)")
	f.Bool("delete-certificates", true, "delete a thing's certificates with it, unless another thing shares them; otherwise they stay, INACTIVE")
	f.Bool("delete-policies", false, "delete a thing's policies with it, when no other certificate uses them")
	f.Bool("pre-stage", false, "let deployment tasks name cores that never connected: they wait in the group (a request can say so too)")
	f.Int("certificate-days", 365, "validity of device certificates where the request names none")
	f.Int("rollout-rate", 0, "cores notified a minute by a deployment that names no rate; 0: all at once (AWS: 1000)")
	f.Bool("deploy-on-leave", false, "send a core that leaves a thing group a deployment at once, so that it removes the group's components")
	f.Float64("aws-rate", 1000, "requests a second that one access key may send to each AWS-compatible service but S3; 0: no limit")
	f.StringSlice("generators", nil, "further installer config generators, each ALIAS=URL (docs/generators.md)")
	f.StringSlice("generator-overlays", nil, "JSON files merged into built-in installer configurations, each ALIAS=FILE (docs/generators.md)")
	f.StringSlice("ca-aliases", nil, "names for registered CAs in awsiotCaAlias, each ALIAS=ID or ALIAS=ARN")
	f.StringSlice("pca-aliases", nil, "names for private CAs in acmpcaCaAlias, each ALIAS=ARN")
	f.String("claim-cert-dir", "", "directory of the claim certificate on devices, in configurations for provisioning by claim (default: claim-certs below the root of the nucleus)")
	f.String("asset-library-url", "", "base URL of an Asset Library whose devices, groups and queries deployment tasks may name")
	f.StringSlice("asset-library-headers", nil, "headers of each request to the Asset Library, each NAME=VALUE")
	f.Int("patch-days", 7, "days that a patch waits for its device before it fails")
	f.StringSlice("patch-prefixes", nil, "folders of the bucket, each with a slash at its end, that the extraVars of any device's patch may link to; its own artifacts it always may")
	f.Int("enrollment-waiting", enrollment.DefaultWaiting, "devices that may wait to be approved at once; more are turned away until some are approved, denied or forgotten")
	f.Duration("agent-certificate-life", enrollment.DefaultCertificateLife, "how long certificates of agents are valid; an agent renews its own after two thirds of that")
	f.Duration("agent-certificate-grace", enrollment.DefaultCertificateGrace, "how long after its end an agent that was away may still renew its certificate; 0: not at all")
	f.Int("enrollment-waiting-from", enrollment.DefaultFromOne, "devices of one address that may wait to be approved at once")
	f.String("agent-update-keys", "", "file of minisign public keys: releases of the agent that are signed otherwise are refused when they are uploaded")
	f.String("base-path", "", "path under which a proxy publishes the fleet API, removed from requests")
	f.String("cors-origin", "", "origin whose web pages may call the fleet API, or * (default: none)")
	f.Int("event-retain", 100_000, "events that the log keeps for readers, webhooks and replays")
	f.Bool("webhook-http", false, "let webhooks be plain http to any address, not to this machine only")
	f.Bool("webhook-deny-private", false, "refuse webhooks to loopback and private addresses")
	f.Int("workers", 64, "task items worked on at once; each waits for the disk most of its time")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", "json", "json or text")
	f.Bool("insecure-no-auth", false, "answer the fleet API without a token; only on loopback")
	f.String("pprof-addr", "", "profiles of the process under /debug/pprof/, for developers; only on loopback (default: none)")
}

// Load reads the configuration: defaults, file, environment, flags.
func Load(flags *pflag.FlagSet) (Config, error) {
	k := koanf.New("\x00") // no key of ours is a path
	path, err := flags.GetString("config")
	if err != nil {
		return Config{}, err
	}
	if path == "" {
		path = os.Getenv("GGFLEET_CONFIG")
	}
	if path != "" {
		if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
			return Config{}, fmt.Errorf("read configuration file %s: %w", path, err)
		}
		for _, key := range k.Keys() {
			if flags.Lookup(key) == nil {
				return Config{}, fmt.Errorf("configuration file %s: %q is not a setting; ggfleet serve --help lists them", path, key)
			}
		}
	}
	fromEnv := env.Provider("\x00", env.Opt{Prefix: "GGFLEET_", TransformFunc: func(name, value string) (string, any) {
		key := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "GGFLEET_")), "_", "-")
		f := flags.Lookup(key)
		if f == nil || value == "" {
			return "", nil // a variable of another command, or of nobody
		}
		if f.Value.Type() == "stringSlice" {
			return key, strings.Split(value, ",")
		}
		return key, value
	}})
	if err := k.Load(fromEnv, nil); err != nil {
		return Config{}, fmt.Errorf("read environment: %w", err)
	}
	if err := k.Load(posflag.Provider(flags, "\x00", k), nil); err != nil {
		return Config{}, fmt.Errorf("read flags: %w", err)
	}
	var c Config
	if err := k.Unmarshal("", &c); err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	return c, c.complete()
}

// complete checks the configuration and makes paths absolute, because the
// embedded S3 server changes the working directory of the process.
func (c *Config) complete() error {
	var err error
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return fmt.Errorf("data-dir: %w", err)
	}
	if c.SealKeyFile == "" {
		c.SealKeyFile = filepath.Join(c.DataDir, "seal.key")
	} else if c.SealKeyFile, err = filepath.Abs(c.SealKeyFile); err != nil {
		return fmt.Errorf("seal-key-file: %w", err)
	}
	for i, entry := range c.Overlays {
		alias, name, ok := strings.Cut(entry, "=")
		if ok && name != "" {
			if name, err = filepath.Abs(name); err != nil {
				return fmt.Errorf("generator-overlays: %w", err)
			}
			c.Overlays[i] = alias + "=" + name
		}
	}
	if len(c.EtcdEndpoints) > 0 && c.S3Endpoint == "" {
		return errors.New("etcd-endpoints is set but s3-endpoint is not: replicas that share an etcd must share the artifacts too; set s3-endpoint, or leave both out")
	}
	if c.S3Endpoint != "" && (c.S3AccessKey == "" || c.S3SecretKey == "") {
		return errors.New("s3-endpoint is set: s3-access-key and s3-secret-key are required with it")
	}
	if c.InsecureNoAuth && !loopback(c.HTTPAddr) {
		return fmt.Errorf("insecure-no-auth is refused with http-addr %s: it is allowed on a loopback address only", c.HTTPAddr)
	}
	if c.PprofAddr != "" && !loopback(c.PprofAddr) {
		return fmt.Errorf("pprof-addr %s is refused: profiles are served on a loopback address only", c.PprofAddr)
	}
	if len(c.ArtifactPrefix) < 2 || !strings.HasSuffix(c.ArtifactPrefix, "/") || c.ArtifactPrefix[0] == '/' {
		return fmt.Errorf("artifact-prefix %q must be a folder: not empty, no slash before it, one after it", c.ArtifactPrefix)
	}
	if len(c.Account) != 12 || strings.Trim(c.Account, "0123456789") != "" {
		return fmt.Errorf("account %q must be twelve digits", c.Account)
	}
	if err := names.CheckRoleAlias(c.RoleAlias); err != nil {
		return fmt.Errorf("role-alias: %w", err)
	}
	if c.PublicHost == "" || strings.ContainsAny(c.PublicHost, "/: ") && net.ParseIP(c.PublicHost) == nil {
		return fmt.Errorf("public-host %q must be a host name or an address, without scheme and port", c.PublicHost)
	}
	if c.LogFormat != "json" && c.LogFormat != "text" {
		return fmt.Errorf("log-format %q must be json or text", c.LogFormat)
	}
	if _, err = c.level(); err != nil {
		return err
	}
	return c.checkServices()
}

func (c *Config) level() (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return l, fmt.Errorf("log-level %q must be debug, info, warn or error", c.LogLevel)
	}
	return l, nil
}

func (c *Config) realm() names.Realm { return names.Realm{Region: c.Region, Account: c.Account} }

// loopback reports whether addr can be reached from this machine only.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
