package aws_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
	"github.com/ggfleet/ggfleet/test/simulator"
)

const (
	region  = "us-east-1"
	account = "000000000000"
	bucket  = "ggfleet"
	python  = "/usr/bin/python3" // Debian's own, which has the packages of Debian
	cli     = "/usr/bin/aws"
)

// peer skips the test, or fails it where these peers are required, when what it
// needs is missing.
func peer(t *testing.T, missing bool, what string) {
	t.Helper()
	if !missing {
		return
	}
	what += "; make compat-aws installs it"
	if os.Getenv("GGFLEET_REQUIRE_AWS_PEERS") == "1" {
		require.Fail(t, what)
	}
	t.Skip(what)
}

// client is one program that somebody else wrote, with an access key.
type client struct {
	*world.World
	dir string
	env []string
}

func newClient(t *testing.T) *client {
	t.Helper()
	c := &client{World: world.Start(t, world.Options{}), dir: t.TempDir()}
	var key struct {
		AccessKeyID     string `json:"accessKeyId"`
		SecretAccessKey string `json:"secretAccessKey"`
	}
	c.Call(t, http.MethodPost, "/accessKeys", map[string]string{"description": t.Name()}, &key)
	c.env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+key.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+key.SecretAccessKey,
		"AWS_DEFAULT_REGION="+region, "AWS_REGION="+region, "AWS_ENDPOINT="+c.AWS, "WORK_DIR="+c.dir, "ACCOUNT="+account, "BUCKET="+bucket,
		"AWS_CONFIG_FILE="+filepath.Join(c.dir, "none"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(c.dir, "none"),
		"AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "PYTHONDONTWRITEBYTECODE=1")
	return c
}

// step is one line that a walk prints.
type step struct {
	Step      string   `json:"step"`
	Cores     []string `json:"cores"`
	RoleAlias string   `json:"roleAlias"`
	Error     string   `json:"error"`
}

// walk runs a program and connects the cores that it names. It returns the names
// of the steps that it took.
func (c *client) walk(t *testing.T, name string, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = c.env
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var steps []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		t.Log(lines.Text())
		var s step
		require.NoError(t, json.Unmarshal(lines.Bytes(), &s), lines.Text())
		steps = append(steps, s.Step)
		if s.Step == "connect" {
			for _, core := range s.Cores {
				c.connect(t, core, s.RoleAlias)
			}
		}
	}
	require.NoError(t, cmd.Wait(), said.String())
	return steps
}

// connect runs a simulated core with the certificate that the walk left in its
// directory, until the test ends.
func (c *client) connect(t *testing.T, core, alias string) {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(c.dir, core+".cert.pem"), filepath.Join(c.dir, core+".key.pem"))
	require.NoError(t, err)
	sim, err := simulator.New(simulator.Config{
		Thing: core, MQTT: c.MQTT, DataPlane: c.Device, Credentials: c.Device, RoleAlias: alias, Region: region, Certificate: cert, RootCAs: c.Roots,
		Runtime: simulator.Classic,
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = sim.Run(ctx) })
	t.Cleanup(func() { stop(); done.Wait() })
}

func TestBoto3GoesFromNothingToADeployment(t *testing.T) {
	peer(t, exec.Command(python, "-c", "import boto3").Run() != nil, "Debian's python3-boto3 is not installed")
	steps := newClient(t).walk(t, python, "walk.py")
	assert.Equal(t, []string{"prepared", "component", "connect", "effective", "deployed", "connect", "revisions", "validation", "around", "end"}, steps)
}

func TestEachRuleOfTheInstalledModelIsKept(t *testing.T) {
	peer(t, exec.Command(python, "-c", "import botocore").Run() != nil, "Debian's python3-botocore is not installed")
	steps := newClient(t).walk(t, python, "model.py")
	assert.Equal(t, []string{"greengrassv2", "iot"}, steps)
}

func TestTheSDKForJavaScriptDeploys(t *testing.T) {
	_, err := exec.LookPath("node")
	peer(t, err != nil, "node is not installed (Debian package nodejs)")
	_, err = os.Stat("node_modules/@aws-sdk/client-greengrassv2")
	peer(t, err != nil, "AWS's SDK for JavaScript is not installed (npm ci in test/compat/aws)")
	steps := newClient(t).walk(t, "node", "walk.mjs")
	assert.Equal(t, []string{"prepared", "component", "connect", "deployed", "refused", "end"}, steps)
}

// aws runs one command of the AWS CLI and returns what it printed, as JSON.
func (c *client) aws(t *testing.T, args ...string) map[string]any {
	t.Helper()
	out, err := c.tryAWS(t, args...)
	require.NoError(t, err, "aws %s: %s", strings.Join(args, " "), out)
	var v map[string]any
	if len(strings.TrimSpace(out)) > 0 {
		require.NoError(t, json.Unmarshal([]byte(out), &v), out)
	}
	return v
}

func (c *client) tryAWS(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, cli, append([]string{"--endpoint-url", c.AWS, "--output", "json"}, args...)...)
	cmd.Env = c.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestTheAWSCLIDeploys(t *testing.T) {
	_, err := os.Stat(cli)
	peer(t, err != nil, "Debian's awscli is not installed")
	c := newClient(t)
	file := func(name, content string) string {
		path := filepath.Join(c.dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	file("saw.txt", strings.Repeat("tooth ", 1000))
	out, err := c.tryAWS(t, "s3", "cp", filepath.Join(c.dir, "saw.txt"), "s3://"+bucket+"/cli/saw.txt")
	require.NoError(t, err, out)
	recipe := file("recipe.yaml", "RecipeFormatVersion: '2020-01-25'\nComponentName: com.example.CliSaw\nComponentVersion: 1.0.0\nManifests:\n"+
		"  - Platform:\n      os: linux\n    Lifecycle:\n      run: sleep 1\n    Artifacts:\n      - URI: s3://"+bucket+"/cli/saw.txt\n")
	made := c.aws(t, "greengrassv2", "create-component-version", "--inline-recipe", "fileb://"+recipe)
	arn := made["arn"].(string)
	world.Eventually(t, func() string {
		status := c.aws(t, "greengrassv2", "describe-component", "--arn", arn)["status"].(map[string]any)
		if status["componentState"] != "DEPLOYABLE" {
			return fmt.Sprintf("the component is %v", status)
		}
		return ""
	})

	target := c.aws(t, "iot", "create-thing-group", "--thing-group-name", "cli-line")["thingGroupArn"].(string)
	c.aws(t, "iot", "create-thing", "--thing-name", "cli-1")
	keys := c.aws(t, "iot", "create-keys-and-certificate", "--set-as-active",
		"--certificate-pem-outfile", filepath.Join(c.dir, "cli-1.cert.pem"), "--private-key-outfile", filepath.Join(c.dir, "cli-1.key.pem"))
	policy := file("policy.json", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:*","greengrass:*"],"Resource":"*"}]}`)
	c.aws(t, "iot", "create-policy", "--policy-name", "cli", "--policy-document", "file://"+policy)
	c.aws(t, "iot", "attach-policy", "--policy-name", "cli", "--target", keys["certificateArn"].(string))
	c.aws(t, "iot", "attach-thing-principal", "--thing-name", "cli-1", "--principal", keys["certificateArn"].(string))
	c.aws(t, "iot", "create-role-alias", "--role-alias", "cli", "--role-arn", "arn:aws:iam::"+account+":role/cli")
	c.aws(t, "iot", "add-thing-to-thing-group", "--thing-group-name", "cli-line", "--thing-name", "cli-1")

	deployment := file("deployment.json", `{"targetArn":"`+target+`","deploymentName":"cli","components":{"com.example.CliSaw":{"componentVersion":"1.0.0",
		"configurationUpdate":{"merge":"{\"teeth\":32}"}}},"iotJobConfiguration":{"timeoutConfig":{"inProgressTimeoutInMinutes":5}},"tags":{"by":"cli"}}`)
	id := c.aws(t, "greengrassv2", "create-deployment", "--cli-input-json", "file://"+deployment)["deploymentId"].(string)
	c.connect(t, "cli-1", "cli")
	world.Eventually(t, func() string {
		out, err := c.tryAWS(t, "greengrassv2", "list-effective-deployments", "--core-device-thing-name", "cli-1")
		if err != nil || !strings.Contains(out, `"SUCCEEDED"`) {
			return out
		}
		return ""
	})
	got := c.aws(t, "greengrassv2", "get-deployment", "--deployment-id", id)
	assert.Equal(t, "ACTIVE", got["deploymentStatus"])
	assert.Equal(t, map[string]any{"by": "cli"}, got["tags"])
	assert.Len(t, c.aws(t, "greengrassv2", "list-deployments", "--page-size", "1", "--history-filter", "ALL")["deployments"], 1)
	assert.Len(t, c.aws(t, "greengrassv2", "list-core-devices", "--status", "HEALTHY")["coreDevices"], 1)
	assert.Equal(t, "SUCCESS", c.aws(t, "greengrassv2", "cancel-deployment", "--deployment-id", id)["message"])
	c.aws(t, "greengrassv2", "delete-deployment", "--deployment-id", id)
	out, err = c.tryAWS(t, "greengrassv2", "get-deployment", "--deployment-id", id)
	require.Error(t, err)
	assert.Contains(t, out, "ResourceNotFoundException")
	out, err = c.tryAWS(t, "greengrassv2", "create-deployment", "--target-arn", target, "--deployment-name", strings.Repeat("x", 257))
	require.Error(t, err)
	assert.Contains(t, out, "deploymentName")
}
