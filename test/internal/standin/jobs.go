package standin

import (
	"crypto/tls"
	"encoding/json"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// hook binds sessions to certificates and consumes the requests of $aws topics.
type hook struct {
	mqtt.HookBase
	cloud *Cloud
}

func (h *hook) ID() string { return "standin" }

func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnPublish, mqtt.OnPacketEncode:
		return true
	}
	return false
}

func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	c := h.cloud
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connects = append(c.connects, Connect{
		ClientID: cl.ID, Username: string(pk.Connect.Username), Version: pk.ProtocolVersion, Clean: pk.Connect.Clean,
		KeepAlive: pk.Connect.Keepalive, MaxPacket: pk.Properties.MaximumPacketSize,
	})
	return cl.ID == thingOf(cl)
}

func (h *hook) OnACLCheck(*mqtt.Client, string, bool) bool { return true }

func (h *hook) OnPacketEncode(_ *mqtt.Client, pk packets.Packet) packets.Packet {
	h.cloud.mu.Lock()
	code := h.cloud.faults.Unsuback
	h.cloud.mu.Unlock()
	if pk.FixedHeader.Type == packets.Unsuback {
		for i := range pk.ReasonCodes {
			pk.ReasonCodes[i] = code
		}
	}
	return pk
}

func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline || !strings.HasPrefix(pk.TopicName, "$aws/") {
		return pk, nil
	}
	c := h.cloud
	c.mu.Lock()
	th := c.things[thingOf(cl)]
	c.mu.Unlock()
	if th == nil {
		return pk, packets.CodeSuccessIgnore
	}
	if pk.TopicName == protocol.FleetStatusTopic(th.name) {
		if s, err := protocol.ParseFleetStatus(pk.Payload); err == nil {
			c.mu.Lock()
			th.statuses = append(th.statuses, s)
			c.mu.Unlock()
		}
	} else if jt, ok := protocol.ParseJobTopic(pk.TopicName); ok && jt.Thing == th.name {
		c.jobRequest(th, jt, pk.TopicName, pk.Payload)
	}
	return pk, packets.CodeSuccessIgnore
}

func thingOf(cl *mqtt.Client) string {
	conn, ok := cl.Net.Conn.(*tls.Conn)
	if !ok || len(conn.ConnectionState().PeerCertificates) == 0 {
		return ""
	}
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func (c *Cloud) jobRequest(th *thing, jt protocol.JobTopic, topic string, payload []byte) {
	var req protocol.JobRequest
	if json.Unmarshal(payload, &req) != nil {
		return
	}
	a := protocol.JobAnswer{ClientToken: req.ClientToken, Timestamp: time.Now().Unix()}
	if jt.Op == protocol.JobOpDescribe {
		c.mu.Lock()
		th.queries++
		if e := th.next(); e != nil && !c.faults.NoPromise {
			execution := e.JobExecution
			a.Execution = &execution
		}
		c.mu.Unlock()
		c.publish(protocol.Accepted(topic), a)
		return
	}
	c.mu.Lock()
	var hit *execution
	for _, e := range th.jobs {
		if e.JobID == jt.Job && !e.Status.Terminal() {
			hit = e
		}
	}
	if hit != nil {
		hit.Status = req.Status
		hit.VersionNumber++
		th.updates = append(th.updates, jt.Job+" "+string(req.Status))
	}
	c.mu.Unlock()
	if hit == nil {
		c.publish(protocol.Rejected(topic), protocol.JobRejection{Code: protocol.CodeTerminalStateReached, ClientToken: req.ClientToken, Timestamp: a.Timestamp})
		return
	}
	c.publish(protocol.Accepted(topic), a)
	if req.Status.Terminal() {
		c.notify(th)
	}
}

func (th *thing) next() *execution {
	var next *execution
	for _, e := range th.jobs {
		if e.Status == protocol.JobInProgress {
			return e
		}
		if next == nil && e.Status == protocol.JobQueued {
			next = e
		}
	}
	return next
}

// notify sends notify-next and notify.
func (c *Cloud) notify(th *thing) {
	now := time.Now().Unix()
	c.mu.Lock()
	next := protocol.JobAnswer{Timestamp: now}
	if e := th.next(); e != nil {
		execution := e.JobExecution
		next.Execution = &execution
	}
	all := protocol.JobNotice{Timestamp: now, Jobs: map[protocol.JobStatus][]protocol.JobExecutionSummary{}}
	for _, e := range th.jobs {
		if !e.Status.Terminal() {
			all.Jobs[e.Status] = append(all.Jobs[e.Status], protocol.JobExecutionSummary{JobID: e.JobID, QueuedAt: e.QueuedAt, LastUpdatedAt: e.LastUpdatedAt, VersionNumber: e.VersionNumber, ExecutionNumber: 1})
		}
	}
	c.mu.Unlock()
	c.publish(protocol.JobsNotifyNext(th.name), next)
	c.publish(protocol.JobsNotify(th.name), all)
}

func (c *Cloud) publish(topic string, v any) {
	b, _ := json.Marshal(v)
	c.mu.Lock()
	rewrite := c.faults.Answer
	c.mu.Unlock()
	if rewrite != nil {
		b = rewrite(topic, b)
	}
	_ = c.broker.Publish(topic, b, false, 1)
}

// Queries returns how often a thing asked for its next job.
func (c *Cloud) Queries(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.things[name].queries
}

// Announce sends any payload to a topic, as the cloud.
func (c *Cloud) Announce(topic, payload string) {
	_ = c.broker.Publish(topic, []byte(payload), false, 1)
}

// Kick drops a client's connection.
func (c *Cloud) Kick(clientID string) {
	if cl, ok := c.broker.Clients.Get(clientID); ok {
		cl.Stop(packets.ErrServerShuttingDown)
	}
}
