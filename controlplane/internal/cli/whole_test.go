package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cli"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/fleetapitest"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
)

// step is a command line and what it prints.
type step struct{ line, want string }

func (o operator) walk(t *testing.T, steps ...step) {
	t.Helper()
	for _, s := range steps {
		got, err := o.run(t, s.line)
		require.NoError(t, err, s.line)
		assert.Equal(t, strings.TrimSpace(s.want), got, s.line)
	}
}

func TestClientDevicesFromTheCommandLine(t *testing.T) {
	o := newOperator(t)
	o.walk(t,
		step{"device create gauge-1 gauge-2 --core press-07 --template gauges -p hall=b", `
TASK        DEVICE    STATUS    MESSAGE
devi-0001   gauge-1   Success
devi-0001   gauge-2   Success`},
		step{"device create gauge-3 --core press-08 --no-wait --idempotency-key k", "devi-0002"},
		step{"device create gauge-3 --core press-08 --wait=false --idempotency-key k", "devi-0002"},
		step{"device list --core press-08", `
NAME      CORE       PROVISIONING TEMPLATE   CREATED
gauge-3   press-08   default                 2026-03-02T08:00:00.120Z`},
		step{"core devices press-07 --limit 1", `
NAME      CORE       PROVISIONING TEMPLATE   CREATED
gauge-1   press-07   gauges                  2026-03-02T08:00:00.120Z`},
		step{"device get gauge-2", `
NAME      CORE       PROVISIONING TEMPLATE   CREATED                    AGENT
gauge-2   press-07   gauges                  2026-03-02T08:00:00.120Z`},
		step{"device tasks --core press-08", `
TASK        CORE       TYPE     STATUS    CREATED                    MESSAGE
devi-0002   press-08   Create   Success   2026-03-02T08:00:00.120Z`},
		step{"device task devi-0001", `
TASK        DEVICE    STATUS    MESSAGE
devi-0001   gauge-1   Success
devi-0001   gauge-2   Success`},
		step{"device delete gauge-1 --keep-thing", ""},
	)
	assert.Equal(t, fleet.DeleteDevice{Disassociate: true}, o.LastDelete)
	o.walk(t, step{"device delete gauge-2 --keep-association", ""})
	assert.Equal(t, fleet.DeleteDevice{Deprovision: true}, o.LastDelete)
	o.walk(t, step{"device delete gauge-3 --core press-08", `
TASK        DEVICE    STATUS    MESSAGE
devi-0003   gauge-3   Success`}, step{"device list", "NAME   CORE   PROVISIONING TEMPLATE   CREATED"})
	assert.JSONEq(t, `{"deprovisionClientDevices":true}`, string(o.LastDeviceTask.Options))
	_, err := o.run(t, "device delete nobody no-one")
	assert.Equal(t, cli.ExitNotFound, cli.ExitCode(err))
	assert.ErrorContains(t, err, "no-one", "every refusal is told")
}

func TestCoresAreDeletedFromTheCommandLine(t *testing.T) {
	o := newOperator(t)
	o.Tell(event.CoreCreated, "press-07", `{"coreName":"press-07","taskId":"core-0001","status":"success"}`)
	o.walk(t,
		step{"core create press-07 press-08 -p site=north --country DE --ca-id 0123", `
TASK        CORE       STATUS    MESSAGE
core-0001   press-07   Success
core-0001   press-08   Success`},
	)
	assert.Equal(t, map[string]string{"ThingName": "press-08", "site": "north"}, o.LastNewCoreTask.Cores[1].ProvisioningParameters)
	assert.JSONEq(t, `{"caId":"0123","certInfo":{"country":"DE"}}`, string(o.LastNewCoreTask.Cores[1].CDFProvisioningParameters))
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(overlay, []byte(`{"a":1}`), 0o600))
	o.walk(t, step{"core create press-09 --claim --generator FLEET_PROVISIONING --overlay " + overlay + " --no-wait", "core-0002"})
	assert.True(t, o.LastNewCoreTask.Cores[0].Claim)
	assert.JSONEq(t, `{"a":1}`, string(o.LastNewCoreTask.Cores[0].ConfigOverlay))
	o.walk(t,
		step{"core history press-07", `
TIME                       WHAT                 DETAIL
2026-03-02T08:00:00.120Z   Core Created Event   status=success taskId=core-0001`},
		step{"core delete press-07 press-08 --deprovision", `
TASK        CORE       STATUS    MESSAGE
core-0003   press-07   Success
core-0003   press-08   Success`},
		step{"core tasks --limit 1", `
TASK        TYPE     STATUS    CREATED                    MESSAGE
core-0001   Create   Success   2026-03-02T08:00:00.120Z`},
	)
	assert.Equal(t, fleet.CoreTaskDelete, o.LastNewCoreTask.Type)
	assert.JSONEq(t, `{"deprovisionCores":true,"deprovisionClientDevices":false}`, string(o.LastNewCoreTask.Options))
}

func TestDeploymentsFromTheCommandLine(t *testing.T) {
	o := newOperator(t)
	query := filepath.Join(t.TempDir(), "query.json")
	require.NoError(t, os.WriteFile(query, []byte(`{"types":["press"]}`), 0o600))
	o.walk(t,
		step{"template create line --component com.example.Press=1.0.0", "line:1"},
		step{"deploy create line:1 --core press-07 --group hall-b --asset-device d1 --asset-group /works --asset-query @" + query +
			" --rate 10 --abort-after FAILED:20:10 --abort-after all:12.5%:4 --timeout 90m --force --pre-stage=false", `
TASK        TEMPLATE   CORE       STARTED   ON THE DEVICE   MESSAGE
depl-0001   line:1     press-07   Success   Success`},
	)
	assert.JSONEq(t, `{"thingNames":["press-07"],"thingGroupNames":["hall-b"],"assetLibraryDeviceIds":["d1"],"assetLibraryGroupPaths":["/works"],"assetLibraryQuery":{"types":["press"]}}`,
		string(o.LastDeployment.Targets.Raw))
	assert.JSONEq(t, `{
		"jobExecutionsRolloutConfig": {"maximumPerMinute": 10},
		"abortConfig": {"criteriaList": [
			{"failureType": "FAILED", "action": "CANCEL", "thresholdPercentage": 20, "minNumberOfExecutedThings": 10},
			{"failureType": "ALL", "action": "CANCEL", "thresholdPercentage": 12.5, "minNumberOfExecutedThings": 4}]},
		"timeoutConfig": {"inProgressTimeoutInMinutes": 90}}`, string(o.LastDeployment.IoTJobConfig))
	assert.True(t, o.LastDeployment.Force)
	require.NotNil(t, o.LastDeployment.PreStage)
	assert.False(t, *o.LastDeployment.PreStage)

	o.walk(t,
		step{"core deployments press-07 --limit 1", `
TASK        TEMPLATE   CORE       STARTED   ON THE DEVICE   MESSAGE
depl-0001   line:1     press-07   Success   Success`},
		step{"deploy create line --core press-07 --no-wait", "depl-0002"},
	)
	assert.Empty(t, o.LastDeployment.IoTJobConfig)
	assert.Nil(t, o.LastDeployment.PreStage, "what is not said is left to the server")

	running := fleet.DeploymentTask{
		TaskState: fleet.TaskState{ID: "running", Status: fleet.TaskInProgress, CreatedAt: fleetapitest.Now().Add(time.Minute)}, Template: fleet.TemplateRef{Name: "line", Version: 1},
		Deployments: []fleet.Deployment{
			{TaskItem: fleet.TaskItem{Name: "press-07", Status: fleet.TaskFailure, StatusMessage: "no such thing"}, TaskID: "running"},
			{TaskItem: fleet.TaskItem{Name: "press-08", Status: fleet.TaskInProgress}, TaskID: "running", Waiting: "the pace of the task"},
		},
	}
	o.SetDeployment(running)
	o.walk(t,
		step{"deploy list --limit 1", `
TASK      TEMPLATE   STATUS       CREATED                    MESSAGE
running   line:1     InProgress   2026-03-02T08:01:00.120Z`},
		step{"deploy get running", `
TASK      TEMPLATE   CORE       STARTED      ON THE DEVICE   MESSAGE
running   line:1     press-07   Failure                      no such thing
running   line:1     press-08   InProgress                   waits for the pace of the task`},
		step{"deploy cores running --failed", `
CORE       STARTED   ON THE DEVICE   MESSAGE
press-07   Failure                   no such thing`},
	)
	_, err := o.run(t, "deploy delete running")
	require.ErrorContains(t, err, "cancel it first")
	o.walk(t, step{"deploy cancel running", ""}, step{"deploy retry running --no-wait", "depl-0004"}, step{"deploy delete running", ""})
	got, err := o.run(t, "deploy watch depl-0004")
	assert.Equal(t, cli.ExitTaskFailed, cli.ExitCode(err))
	assert.Contains(t, got, "no such thing", "the cores are shown, too")
}

func TestThingsFromTheCommandLine(t *testing.T) {
	o := newOperator(t)
	dir := t.TempDir()
	list := filepath.Join(dir, "things.json")
	require.NoError(t, os.WriteFile(list, []byte(`[{"ThingName":"gauge-8"},{"ThingName":"gauge-9"}]`), 0o600))
	o.walk(t,
		step{"thing provision gauge-1 --template gauges", "certificate\nkey of gauge-1"},
		step{"thing provision gauge:2 --out " + dir, `
THING     CERTIFICATE                                  FILES
gauge:2   arn:aws:iot:us-east-1:000000000000:cert/c1   gauge_2.cert.pem, gauge_2.private.key`},
		step{"thing certificates gauge-1 --status inactive", ""},
		step{"thing get gauge-1", `
THING     CERTIFICATES   POLICIES   GROUPS
gauge-1   c1 INACTIVE    gauges     hall-b`},
		step{"thing delete gauge-1", ""},
		step{"thing bulk gauge-7 -f " + list + " --template plain", `
TASK        STATUS      SUCCESS   FAILURE   PERCENT
bulk-0001   Completed         3         0       100`},
		step{"thing task bulk-0001 -o json", `
{
  "creationDate": "2026-03-02T08:00:00.120Z",
  "failureCount": 0,
  "lastModifiedDate": "2026-03-02T08:00:00.120Z",
  "percentageProgress": 100,
  "status": "Completed",
  "successCount": 3,
  "taskId": "bulk-0001"
}`},
	)
	key, err := os.ReadFile(filepath.Join(dir, "gauge_2.private.key"))
	require.NoError(t, err)
	assert.Equal(t, "key of gauge:2", string(key))
	info, err := os.Stat(filepath.Join(dir, "gauge_2.private.key"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	for line, code := range map[string]int{
		"thing get gauge-1":                      cli.ExitNotFound,
		"thing provision x --out /does/not":      cli.ExitUsage,
		"thing provision x -p bad":               cli.ExitUsage,
		"thing provision x -p a=1 -p a=2":        cli.ExitUsage,
		"thing provision x --cdf /dev/null":      cli.ExitUsage,
		"thing bulk --template plain":            cli.ExitUsage,
		"thing certificates gauge-1":             cli.ExitUsage,
		"thing certificates gauge:2 --status on": cli.ExitFailed,
	} {
		_, err := o.run(t, line)
		assert.Equal(t, code, cli.ExitCode(err), "%s: %v", line, err)
	}
	assert.NotEqual(t, "x", o.LastThing.Parameters["ThingName"], "nothing is made that could not be kept")
}

func TestWhatCanBeEditedTakesAVersion(t *testing.T) {
	o := newOperator(t)
	dir := t.TempDir()
	play, doc := filepath.Join(dir, "clock.yml"), filepath.Join(dir, "line.json")
	require.NoError(t, os.WriteFile(play, []byte("- hosts: all\n"), 0o600))
	require.NoError(t, os.WriteFile(doc, []byte(`{"Resources":{}}`), 0o600))
	o.walk(t,
		step{"template create line --component a=1.0.0", "line:1"},
		step{"template update line --component a=1.0.1 --if-match 1", "line:2"},
		step{"template versions line", `
NAME   VERSION   CREATED                    UPDATED
line         1   2026-03-02T08:00:00.120Z
line         2   2026-03-02T08:00:00.120Z   2026-03-02T08:00:00.120Z`},
		step{"patch-template create clock --playbook " + play + " --var zone=UTC", `
NAME    VERSION   PLAYBOOK    ENABLED   DESCRIPTION
clock         1   clock.yml   true`},
		step{`patch-template update clock --var zone=Europe/Berlin --description new --if-match "1"`, ""},
	)
	for _, line := range []string{
		"template update line --component a=1 --if-match 1", "template delete line --if-match 1", "patch-template update clock --description x --if-match 1", "patch-template delete clock --if-match 1",
	} {
		_, err := o.run(t, line)
		assert.ErrorContains(t, err, "read it again", line)
	}
	o.walk(t, step{"template delete line --if-match 2", ""}, step{"patch-template delete clock --if-match *", ""})

	tag, err := o.run(t, "provisioning-template put line "+doc+" --new")
	require.NoError(t, err)
	o.walk(t, step{"provisioning-template get line --etag", tag}, step{"provisioning-template get line", `{"Resources":{}}`})
	_, err = o.run(t, "provisioning-template put line "+doc+" --new")
	assert.Equal(t, cli.ExitFailed, cli.ExitCode(err))
	_, err = o.run(t, "provisioning-template delete line --if-match other")
	assert.Equal(t, cli.ExitFailed, cli.ExitCode(err))
	o.walk(t, step{"provisioning-template put line " + doc + " --if-match " + tag, tag}, step{"provisioning-template delete line --if-match " + tag, ""})
}

func TestWebhooksFromTheCommandLine(t *testing.T) {
	o := newOperator(t)
	o.Tell(event.CoreCreated, "press-07", `{}`)
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("0123456789abcdef\n"), 0o600))
	o.walk(t,
		step{"webhook create https://hooks.example.com/a --type core-created -o env", `
export GGFLEET_WEBHOOK_ID='hook-1'
export GGFLEET_WEBHOOK_SECRET='made-secret-of-hook-1'`},
		step{"webhook create https://hooks.example.com/b --paused --secret-file " + secret, `
ID       URL                           SECRET
hook-2   https://hooks.example.com/b   0123456789abcdef`},
		step{"webhook update hook-2 --active --type core-deleted --url https://hooks.example.com/c", `
ID       URL                           TYPES                ACTIVE   SEQUENCE   LOST   REASON
hook-2   https://hooks.example.com/c   Core Deleted Event   true            0      0`},
		step{"webhook list", `
ID       URL                           TYPES                ACTIVE   SEQUENCE   LOST   REASON
hook-1   https://hooks.example.com/a   Core Created Event   true            0      0
hook-2   https://hooks.example.com/c   Core Deleted Event   true            0      0`},
		step{"webhook dead-letters hook-1", `
SEQUENCE   TYPE                 CORE       ATTEMPTS   GIVEN UP                   REASON
       1   Core Created Event   press-07         12   2026-03-02T08:00:00.120Z   the receiver answered 500`},
		step{"webhook replay hook-1 --dead-letters", ""},
	)
	assert.Equal(t, event.ReplayRequest{DeadLetters: true}, o.LastReplay)
	o.walk(t, step{"webhook replay hook-1 --from 1", ""}, step{"webhook delete hook-2 --if-match 2", ""})
	assert.Equal(t, event.ReplayRequest{FromSequence: 1}, o.LastReplay)
	_, err := o.run(t, "webhook replay hook-1")
	assert.Equal(t, cli.ExitUsage, cli.ExitCode(err))
	_, err = o.run(t, "webhook get hook-2")
	assert.Equal(t, cli.ExitNotFound, cli.ExitCode(err))
}

func TestPatchesFromTheCommandLine(t *testing.T) {
	o := newOperator(t)
	task, err := o.run(t, "patch create clock press-07 press-08 --var zone=UTC --no-wait")
	require.NoError(t, err)
	first := fmt.Sprintf("1f0e7a30-5c3b-4b5e-9a57-%012d", 1)
	want := `
ID                                     DEVICE     TEMPLATE   STATUS    MESSAGE
` + first + `   press-07   clock      created`
	o.walk(t,
		step{"patch list --task " + task + " --limit 1", want},
		step{"patch list --device press-07 --status created", want},
		step{"patch get " + first, want},
		step{"patch retry " + first + " --var zone=CET --patch-template other", ""},
		step{"patch delete " + first, ""},
	)
	assert.Equal(t, "other", o.LastRetry.PatchTemplateName)
	assert.Equal(t, map[string]string{"zone": "CET"}, o.LastRetry.ExtraVars)
	for _, line := range []string{"patch list", "patch list --task a --device b", "patch create clock", "patch list --task a --status failed"} {
		_, err := o.run(t, line)
		assert.Equal(t, cli.ExitUsage, cli.ExitCode(err), line)
	}
}

func TestListsAreReadToTheirEnd(t *testing.T) {
	o := newOperator(t)
	const many = 2300 // of pages of 1,000
	for i := range many {
		o.AddStub(fmt.Sprintf("component-%04d", i), "1.0.0")
		_, err := o.CreateTemplate(t.Context(), fleet.NewTemplate{Name: fmt.Sprintf("template-%04d", i)})
		require.NoError(t, err)
	}
	for line, want := range map[string]int{
		"component list": many, "component list --limit 1001": 1001, "component list component-0007": 1,
		"template list": many, "template list --limit 7": 7, "template list --limit 2300": many,
	} {
		got, err := o.run(t, line)
		require.NoError(t, err)
		assert.Len(t, strings.Split(got, "\n"), want+1, line)
	}
}

func TestTheHelpOfEachCommandIsInAGroup(t *testing.T) {
	root := cli.New("1.2.3", nil)
	for _, c := range root.Commands() {
		assert.NotEmpty(t, c.GroupID, c.Name())
		assert.NotEmpty(t, c.Short, c.Name())
		for _, sub := range c.Commands() {
			assert.NotEmpty(t, sub.Short, sub.CommandPath())
		}
	}
}
