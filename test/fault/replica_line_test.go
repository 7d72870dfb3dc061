package fault_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/test/internal/world"
)

// balancer is where devices connect to, and leads to one of several replicas.
type balancer struct {
	address string

	mu    sync.Mutex // guards all below
	to    string
	conns map[net.Conn]bool
}

func newBalancer(t *testing.T, to string) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	b := &balancer{address: net.JoinHostPort("localhost", port), to: to, conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { b.carry(in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.leads("")
		all.Wait()
	})
	return b
}

// leads ends all connections; new ones lead to another address.
func (b *balancer) leads(to string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.to = to
	for c := range b.conns {
		_ = c.Close()
	}
}

func (b *balancer) carry(in net.Conn) {
	defer in.Close()
	b.mu.Lock()
	to := b.to
	b.conns[in] = true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.conns, in)
	}()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(in, out)
		_ = in.Close()
	})
	_, _ = io.Copy(out, in)
	_ = out.Close()
	back.Wait()
}

// lines are the balancers between a device and the replicas.
type lines struct{ mqtt, https *balancer }

// between has the device's agent use balancers, which lead to w.
func (d *device) between(w *world.World) lines {
	d.t.Helper()
	l := lines{newBalancer(d.t, w.MQTT), newBalancer(d.t, w.Device)}
	d.identity(func(id map[string]any) { id["mqttAddress"], id["url"] = l.mqtt.address, "https://"+l.https.address })
	return l
}

// leads makes the device's next connections go to w, and ends those that it has.
func (l lines) leads(w *world.World) {
	l.mqtt.leads(w.MQTT)
	l.https.leads(w.Device)
}

// An idle agent asks nothing for an hour: what it does at once, notices made it do.
func TestAnAgentAtOneReplicaIsReachedFromTheOther(t *testing.T) {
	t.Parallel()
	one, two, _ := awsReplicas(t)
	here, there := one.w, two.w
	one.succeeded(one.postCores([]string{"roams"}), []string{"roams"})
	offer(t, there, "1.0.0", worksFine, 10)
	d := newDevice(t, here, "roams", "")
	d.must("enroll", "-", "--allow", "logs,patches")
	key, private, err := signed.NewKey("")
	require.NoError(t, err)
	d.must("update-key", "add", key.String())
	l := d.between(here)
	d.start()
	d.runs("1.0.0")

	// Somebody asks for its log.
	var asked struct{ RequestID string }
	there.Call(t, http.MethodPost, "/cores/roams/helpRequests", object{"kind": "logs.tail", "of": "agent"}, &asked)
	for _, w := range []*world.World{there, here} {
		world.Eventually(t, func() string {
			var r struct{ Status, Message string }
			w.Call(t, http.MethodGet, "/helpRequests/"+asked.RequestID, nil, &r)
			if r.Status == "done" {
				return ""
			}
			return fmt.Sprintf("the request for the log is %s %s", r.Status, r.Message)
		})
		assert.NotEmpty(t, w.Call(t, http.MethodGet, "/helpRequests/"+asked.RequestID+"/content", nil, nil).Body)
	}

	// A patch, which fails where there is no Ansible.
	there.Call(t, http.MethodPost, "/patchTemplates", object{
		"name": "tpl", "patchType": "agentbased", "playbookFileContents": base64.StdEncoding.EncodeToString([]byte("- hosts: nobody\n")),
	}, nil)
	there.Call(t, http.MethodPost, "/patchTasks", object{"patches": []object{{"deviceId": "roams", "patchTemplateName": "tpl"}}}, nil)
	for _, w := range []*world.World{there, here} {
		world.Eventually(t, func() string {
			var list struct {
				Patches []struct{ PatchStatus, PatchStatusMessage string }
			}
			w.Call(t, http.MethodGet, "/devices/roams/patches", nil, &list)
			if len(list.Patches) == 1 && (list.Patches[0].PatchStatus == "success" || list.Patches[0].PatchStatus == "failed") {
				return ""
			}
			return fmt.Sprintf("patches: %+v", list.Patches)
		})
	}

	// Another nucleus, for all and for this core.
	offer(t, there, "2.0.0", worksFine, 10)
	d.runs("2.0.0")
	there.Call(t, http.MethodPut, "/cores/roams/nucleus", object{"name": testNucleus, "version": "1.0.0"}, nil)
	d.runs("1.0.0")
	there.Call(t, http.MethodDelete, "/cores/roams/nucleus", nil, nil)
	d.runs("2.0.0")

	// A release of the agent, which is no program.
	platform := runtime.GOOS + "/" + runtime.GOARCH
	(&lineage{story: two.story, signer: private}).upload("1.1.0")
	there.Call(t, http.MethodPost, "/agentReleases/1.1.0/activate", object{"percentage": 100, "spreadSeconds": 0}, nil)
	for _, w := range []*world.World{there, here} {
		world.Eventually(t, func() string {
			var list struct {
				Devices []struct{ Name, Platform, UpdateVersion, UpdateState, Reason string }
			}
			w.Call(t, http.MethodGet, "/agentReleases/1.1.0/devices", nil, &list)
			if len(list.Devices) == 1 && list.Devices[0].Platform == platform && (list.Devices[0].UpdateState == "refused" || list.Devices[0].UpdateState == "failed") {
				return ""
			}
			return fmt.Sprintf("devices with the release: %+v", list.Devices)
		})
	}

	// Its replica is killed. It goes on at the other one, which hears all of it.
	here.Kill9(t)
	d.w = there
	l.leads(there)
	d.runs("2.0.0")
	s, _ := d.shown()
	assert.Zero(t, s.DroppedReports)
	offer(t, there, "3.0.0", worksFine, 10)
	d.runs("3.0.0")
}

// seenFrom waits until a replica shows of a core that it is connected, or not.
func seenFrom(t *testing.T, w *world.World, core string, connected bool) {
	t.Helper()
	world.Eventually(t, func() string {
		var c world.CoreState
		w.Call(t, http.MethodGet, "/cores/"+core, nil, &c)
		if c.Device.Connected == connected {
			return ""
		}
		return fmt.Sprintf("%s: connected is %t", core, c.Device.Connected)
	})
}

func TestADeviceIsConnectedToOneReplicaAndAllKnow(t *testing.T) {
	t.Parallel()
	one, two, store := awsReplicas(t)
	here, there := one.w, two.w
	names := []string{"core-0000", "copied"}
	one.succeeded(one.postCores(names), names)
	offer(t, here, "1.0.0", worksFine, 10)

	// A core.
	cores := failingCores(t, store, here, names[:1])
	one.healthy(names[:1])
	two.healthy(names[:1])
	cores.stop()
	seenFrom(t, there, names[0], false)
	cores = failingCores(t, store, here, names[:1])
	seenFrom(t, there, names[0], true)

	// Two agents with one identity, at different replicas.
	first := enrolled(t, here, "copied", "")
	first.runs("1.0.0")
	first.stop()
	second := &device{t: t, w: there, core: "copied", program: first.program, root: filepath.Join(t.TempDir(), "root"), log: filepath.Join(t.TempDir(), "agent.log")}
	require.NoError(t, os.CopyFS(second.root, os.DirFS(first.root)))
	for _, p := range []string{"agent/key.pem", "private.key"} { // CopyFS gives its own modes
		require.NoError(t, os.Chmod(filepath.Join(second.root, p), 0o600))
	}
	t.Cleanup(second.end)
	second.between(there)
	first.start()
	first.connectedAgain()
	second.start()
	second.connectedAgain()
	world.Eventually(t, func() string {
		if !strings.Contains(first.said(), "another agent uses this identity") {
			return "the first does not say that there is another"
		}
		return ""
	})
	first.waitFor("its replica knows that it is elsewhere", func(s agentView) bool { return s.LastReport.IsZero() })
	second.runs("1.0.0")
	world.Eventually(t, func() string {
		if first.oneNucleus() == 0 {
			return "the first has no nucleus any more"
		}
		return ""
	})
	second.stop()
	first.kill9() // at the next start it does not wait for its turn
	first.start()
	first.waitFor("the fleet shows that its identity is shared", func(s agentView) bool { return s.Connected && slices.Contains(s.Warnings, "identityShared") })

	// Whoever was connected to a replica that is killed is not for long.
	here.Kill9(t)
	seenFrom(t, there, names[0], false)
	cores.stop()
}
