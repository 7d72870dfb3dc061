package arch_test

import "slices"

// rule says what the packages below some paths may import. A path means itself
// and what lies below it, with $ at its end only itself; ours are relative to
// the name of the project.
type rule struct {
	Why    string
	From   []string
	Except []string // part of From that the rule does not mean
	Deny   []string
	Only   []string // if set: nothing but the standard library and these
	Tests  bool     // test files obey as well
}

// domain is what decides; it meets the outside only through ports of its own.
var domain = []string{
	"controlplane/internal/access",
	"controlplane/internal/assignment",
	"controlplane/internal/cloud",
	"controlplane/internal/distribution",
	"controlplane/internal/enrollment",
	"controlplane/internal/event",
	"controlplane/internal/faultpoint",
	"controlplane/internal/fleet",
	"controlplane/internal/help",
	"controlplane/internal/object",
	"controlplane/internal/pace",
	"controlplane/internal/patching",
	"controlplane/internal/provisioning",
	"controlplane/internal/release",
	"controlplane/internal/rollout",
	"controlplane/internal/seal",
	"controlplane/internal/state",
	"controlplane/internal/task",
	"controlplane/internal/telemetry",
	"controlplane/internal/selfhosted/artifact",
	"controlplane/internal/selfhosted/claims",
	"controlplane/internal/selfhosted/clienttoken",
	"controlplane/internal/selfhosted/component",
	"controlplane/internal/selfhosted/greengrass",
	"controlplane/internal/selfhosted/iot",
	"controlplane/internal/selfhosted/jobs",
	"controlplane/internal/selfhosted/policy",
}

// adapters speak to one outside system each.
var adapters = []string{
	"controlplane/internal/assetlibrary",
	"controlplane/internal/awscloud",
	"controlplane/internal/etcdstore",
	"controlplane/internal/event/webhook",
	"controlplane/internal/generator",
	"controlplane/internal/s3store",
	"controlplane/internal/selfhosted/gateway",
}

// sdks are the libraries whose words stay with their owner.
var sdks = []string{
	"aead.dev/minisign",
	"github.com/aws",
	"github.com/eclipse",
	"github.com/gin-gonic",
	"github.com/kardianos",
	"github.com/minio",
	"github.com/mochi-mqtt",
	"github.com/versity",
	"go.etcd.io",
}

var all = []string{"agent", "controlplane", "installer", "shared", "test"}

var rules = []rule{
	{
		Why:  "whatever shared pulls in, everybody pulls in: the standard library and YAML for recipes",
		From: []string{"shared"},
		Only: []string{"shared", "go.yaml.in/yaml/v3"},
	},
	{
		Why:   "shared is imported by all and imports none of ours",
		From:  []string{"shared"},
		Deny:  []string{"agent", "controlplane", "installer", "test"},
		Tests: true,
	},
	{
		Why:  "installer is a library of both sides and lands on the device: shared, the standard library, YAML and minisign",
		From: []string{"installer"},
		Only: []string{"installer", "shared", "go.yaml.in/yaml/v3", "aead.dev/minisign"},
	},
	{
		Why:   "the two sides meet only in shared and installer",
		From:  []string{"controlplane"},
		Deny:  []string{"agent"},
		Tests: true,
	},
	{
		Why:   "the two sides meet only in shared and installer",
		From:  []string{"agent", "installer"},
		Deny:  []string{"controlplane"},
		Tests: true,
	},
	{
		Why:   "test may see everybody, nobody sees test",
		From:  []string{"agent", "controlplane", "installer", "shared"},
		Deny:  []string{"test"},
		Tests: true,
	},
	{
		Why:  "the domain knows no SDK: adapters translate",
		From: domain,
		Deny: sdks,
	},
	{
		Why:  "HTTP stops at the edge: a domain package answers with values and kinds of fault",
		From: domain,
		Except: []string{
			"controlplane/internal/event/webhook",       // is an adapter below the domain whose port it fulfils
			"controlplane/internal/selfhosted/artifact", // is the handler that streams an artifact
		},
		Deny: []string{"net/http"},
	},
	{
		Why:  "the domain knows ports, not who implements them",
		From: domain,
		Deny: slices.Concat(adapters, []string{"controlplane/app", "controlplane/internal/edge"}),
	},
	{
		// Its tests may: they run over the self-hosted cloud, which is the fake.
		Why:  "the fleet service reaches a cloud through internal/cloud only: the next cloud is AWS",
		From: []string{"controlplane/internal/fleet", "controlplane/internal/provisioning", "controlplane/internal/task", "controlplane/internal/enrollment", "controlplane/internal/patching"},
		Deny: []string{"controlplane/internal/selfhosted"},
	},
	{
		Why:  "the self-hosted cloud does not know the fleet service: it could run alone",
		From: []string{"controlplane/internal/selfhosted"},
		Deny: []string{"controlplane/internal/fleet", "controlplane/internal/provisioning", "controlplane/internal/task", "controlplane/internal/enrollment", "controlplane/internal/patching"},
	},
	{
		Why:  "the ports are the common ground: they know neither side",
		From: []string{"controlplane/internal/cloud", "controlplane/internal/state", "controlplane/internal/object"},
		Deny: []string{"controlplane/internal/fleet", "controlplane/internal/selfhosted", "controlplane/internal/task"},
	},
	{
		Why:  "an edge translates requests; what stands behind the ports is app's choice",
		From: []string{"controlplane/internal/edge"},
		Deny: []string{"controlplane/app", "controlplane/internal/etcdstore", "controlplane/internal/s3store"},
	},
	{
		Why:  "an adapter does not know who calls the process",
		From: adapters,
		Deny: []string{"controlplane/app", "controlplane/internal/edge"},
	},
	{
		Why:    "only app puts edges and adapters together",
		From:   []string{"controlplane"},
		Except: []string{"controlplane/app", "controlplane/internal/edge"},
		Deny:   []string{"controlplane/internal/edge"},
	},
	{
		Why:    "only app puts edges and adapters together",
		From:   []string{"controlplane"},
		Except: []string{"controlplane/app", "controlplane/cmd/ggfleet-floor", "controlplane/internal/etcdstore", "controlplane/internal/s3store"}, // the floor of the benchmarks measures them bare
		Deny:   []string{"controlplane/internal/etcdstore", "controlplane/internal/s3store"},
	},
	{
		Why:  "only app puts the parts together; a command is a thin call",
		From: []string{"controlplane/cmd/ggfleet"},
		Deny: slices.Concat(domain, adapters, []string{"controlplane/internal/edge", "controlplane/internal/selfhosted"}),
	},
	{
		Why:  "commands and the demo use the fleet API as anybody's client does: what they can do, a script can",
		From: []string{"controlplane/internal/cli", "controlplane/internal/demo"},
		Deny: slices.Concat(domain, adapters, []string{"controlplane/app", "controlplane/internal/edge", "controlplane/internal/selfhosted"}),
	},
	{
		Why:    "gin is owned by controlplane/internal/edge",
		From:   all,
		Except: []string{"controlplane/internal/edge"},
		Deny:   []string{"github.com/gin-gonic"},
		Tests:  true,
	},
	{
		Why:    "etcd is owned by controlplane/internal/etcdstore",
		From:   all,
		Except: []string{"controlplane/internal/etcdstore"},
		Deny:   []string{"go.etcd.io"},
		Tests:  true,
	},
	{
		Why:    "minio-go and versitygw are owned by controlplane/internal/s3store",
		From:   all,
		Except: []string{"controlplane/internal/s3store", "test"},
		Deny:   []string{"github.com/minio", "github.com/versity"},
		Tests:  true,
	},
	{
		Why:    "AWS's SDK is owned by controlplane/internal/awscloud; s3store has its types from versitygw's backend, tests prove compatibility with it",
		From:   all,
		Except: []string{"controlplane/internal/awscloud", "controlplane/internal/s3store", "test"},
		Deny:   []string{"github.com/aws"},
	},
	{
		Why:    "the broker is owned by controlplane/internal/selfhosted/gateway; tests of the agent and of the simulator run one to talk to",
		From:   all,
		Except: []string{"controlplane/internal/selfhosted/gateway", "agent/internal/agenttest", "test"},
		Deny:   []string{"github.com/mochi-mqtt"},
	},
	{
		Why:    "the MQTT client is owned by agent/internal/mqttlink",
		From:   all,
		Except: []string{"agent/internal/mqttlink", "test"},
		Deny:   []string{"github.com/eclipse"},
	},
	{
		Why:    "system services are owned by agent/internal/svc",
		From:   all,
		Except: []string{"agent/internal/svc"},
		Deny:   []string{"github.com/kardianos"},
		Tests:  true,
	},
	{
		Why:    "minisign is owned by installer/signed",
		From:   all,
		Except: []string{"installer/signed"},
		Deny:   []string{"aead.dev/minisign"},
		Tests:  true,
	},
	{
		Why:    "the agent's commands are owned by agent/internal/command: what they call knows no command line",
		From:   []string{"agent"},
		Except: []string{"agent/internal/command"},
		Deny:   []string{"github.com/spf13"},
		Tests:  true,
	},
	{
		Why:    "keys that do not leave their hardware are owned by agent/internal/keystore: everybody else has a crypto.Signer",
		From:   all,
		Except: []string{"agent/internal/keystore"},
		Deny:   []string{"github.com/google/go-tpm", "github.com/ThalesGroup", "github.com/miekg"},
		Tests:  true,
	},
	{
		Why:   "one of each: the standard library or the maintained fork does it",
		From:  all,
		Deny:  []string{"github.com/pkg/errors", "math/rand$", "io/ioutil", "log$", "gopkg.in/yaml.v2", "gopkg.in/yaml.v3", "golang.org/x/exp"},
		Tests: true,
	},
}

// testCode is what no program of ours may contain.
var testCode = []string{"testing", "github.com/stretchr/testify", "pgregory.net/rapid", "go.uber.org/goleak"}
