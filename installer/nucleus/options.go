package nucleus

// Options say how a nucleus is installed. The zero value installs a nucleus
// that needs no configuration (a distribution with a manifest of its own).
type Options struct {
	// Archive and Format are where the distribution's archive lies. Needed only
	// while the version is not unpacked.
	Archive string `json:"archive,omitempty"`
	Format  string `json:"format,omitempty"` // one of the Format constants

	// Config is the installer configuration, whole, with the paths of this
	// device (config.RewriteSystemPaths). Empty: what is there stays, and there
	// must be one. Classic reads it once, at the first installation (--init-config);
	// lite at every start (/etc/greengrass/config.yaml).
	Config []byte `json:"config,omitempty"`
	// Brought is set for a plan that is only looked at: the files that Config names
	// will be put there before it is carried out.
	Brought bool `json:"-"`

	Classic ClassicOptions `json:"classic"`
	Lite    LiteOptions    `json:"lite"`
}

// ClassicOptions are the installer flags of the classic nucleus
// (nucleus-contract §7.1).
type ClassicOptions struct {
	Java       string   `json:"java,omitempty"`       // absolute path of the program; "": java in the PATH
	JVMOptions []string `json:"jvmOptions,omitempty"` // -Xmx64m, -Dname=value, ...; also for every later start (launch.params)
	LogStore   string   `json:"logStore,omitempty"`   // FILE (default) or CONSOLE

	// DefaultUser is --component-default-user: user[:group], names or numbers.
	// Default ggc_user:ggc_group. Names that do not exist are created as system
	// accounts.
	DefaultUser string `json:"defaultUser,omitempty"`

	// NoSystemService leaves out --setup-system-service: the caller runs the
	// nucleus as a process (Site.Launch). Without systemd there is no other way.
	NoSystemService bool `json:"noSystemService,omitempty"`

	TrustedPlugins []string `json:"trustedPlugins,omitempty"` // absolute paths of jar files: --trusted-plugin

	// Provision, DeployDevTools and the rest of AWS's own provisioning call AWS.
	// They are here to be refused with a reason.
	Provision      bool   `json:"provision,omitempty"`
	DeployDevTools bool   `json:"deployDevTools,omitempty"`
	AWSRegion      string `json:"awsRegion,omitempty"` // --aws-region; must be the one of Config
	EnvStage       string `json:"envStage,omitempty"`  // --env-stage: prod (default), gamma, beta
}

// LiteOptions are what nucleus lite's installation can be told
// (nucleus-contract §7.2).
type LiteOptions struct {
	CoreUser      string            `json:"coreUser,omitempty"`      // user:group of the daemons, fixed when lite was built; default ggcore:ggcore
	ComponentUser string            `json:"componentUser,omitempty"` // default: runWithDefault.posixUser of Config, else gg_component:gg_component
	ConfigD       map[string][]byte `json:"configD,omitempty"`       // further files of /etc/greengrass/config.d by name (*.yaml)
}
