// A device on MQTT 5 by AWS's device SDK.
import { iot, mqtt5 } from "aws-crt";
import { iotjobs } from "aws-iot-device-sdk-v2";
import { env, jobsV1, jobsV2, launchMessage, main, queue, say, text, within } from "./lib.mjs";

const { QoS } = mqtt5;

async function connect(clientId, { session = mqtt5.ClientSessionBehavior.Clean, expiry = 0 } = {}) {
  const config = iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromPath(env.host, env.cert, env.key)
    .withCertificateAuthorityFromPath(undefined, env.ca)
    .withPort(env.port)
    .withSessionBehavior(session)
    .withMinReconnectDelayMs(60000)
    .withConnectProperties({ clientId, keepAliveIntervalSeconds: 30, sessionExpiryIntervalSeconds: expiry })
    .build();
  const client = new mqtt5.Mqtt5Client(config);
  const events = { message: queue(), end: queue() };
  client.on("messageReceived", (e) => events.message.put(e.message));
  client.on("disconnection", (e) => events.end.put({ reason: e.disconnect?.reasonCode, error: String(e.error) }));
  const up = queue();
  client.on("connectionSuccess", (e) => up.put(e));
  client.on("connectionFailure", (e) => up.put(e));
  client.start();
  const { connack, settings, error } = await up.take("CONNACK");
  if (error && connack?.reasonCode === undefined) throw new Error(`connecting as ${clientId}: ${error}`);
  return { client, connack, settings, ...events };
}

async function topics({ client, connack, message }) {
  say("connected", {
    reason: connack.reasonCode, sessionPresent: connack.sessionPresent, maximumQos: connack.maximumQos, retain: connack.retainAvailable,
    assigned: connack.assignedClientIdentifier, maximumPacket: connack.maximumPacketSize, receive: connack.receiveMaximum,
  });
  const filter = `${env.thing}/in/#`;
  const suback = await client.subscribe({ subscriptions: [{ topicFilter: filter, qos: QoS.AtLeastOnce }, { topicFilter: `${env.other}/#`, qos: QoS.AtLeastOnce }] });
  say("subscribed", { codes: suback.reasonCodes });
  for (const qos of [QoS.AtMostOnce, QoS.AtLeastOnce]) {
    const answer = await client.publish({
      topicName: `${env.thing}/in/${qos}`, qos, payload: `stroke ${qos}`, contentType: "text/plain", responseTopic: `${env.thing}/out`,
      correlationData: new TextEncoder().encode("c-1"), userProperties: [{ name: "line", value: "7" }],
    });
    const got = await message.take(`the message of QoS ${qos}`);
    say("message", {
      topic: got.topicName, payload: text(got.payload), qos: got.qos, puback: answer?.reasonCode ?? null, contentType: got.contentType,
      responseTopic: got.responseTopic, correlation: text(got.correlationData), properties: got.userProperties,
    });
  }
  const denied = await client.publish({ topicName: `${env.other}/in`, qos: QoS.AtLeastOnce, payload: "not mine" });
  say("denied", { puback: denied.reasonCode });
  const unsuback = await client.unsubscribe({ topicFilters: [filter] });
  say("unsubscribed", { codes: unsuback.reasonCodes });
}

async function stop(client) {
  const stopped = within(new Promise((done) => client.on("stopped", done)), "stop");
  client.stop();
  await stopped;
}

// away checks that messages wait for a session that outlives its connection.
async function away(publisher) {
  const id = `${env.thing}#1`;
  const before = await connect(id, { expiry: 600 });
  await before.client.subscribe({ subscriptions: [{ topicFilter: `${env.thing}/away`, qos: QoS.AtLeastOnce }] });
  await stop(before.client);
  await publisher.publish({ topicName: `${env.thing}/away`, qos: QoS.AtLeastOnce, payload: "while you were away" });
  const after = await connect(id, { session: mqtt5.ClientSessionBehavior.RejoinAlways, expiry: 600 });
  const got = await after.message.take("the message that waited");
  say("away", { sessionPresent: after.connack.sessionPresent, payload: text(got.payload), qos: got.qos });
  await stop(after.client);
}

main(async () => {
  const device = await connect(env.thing);
  await topics(device);
  await away(device.client);

  await device.client.publish({ topicName: `$aws/things/${env.thing}/greengrassv2/health/json`, qos: QoS.AtLeastOnce, payload: launchMessage() });
  say("launched");
  await jobsV1(iotjobs.IotJobsClient.newFromMqtt5Client(device.client), 1);
  await jobsV2(iotjobs.IotJobsClientv2.newFromMqtt5(device.client, { maxRequestResponseSubscriptions: 8, maxStreamingSubscriptions: 2, operationTimeoutInSeconds: 120 }));

  const stranger = await connect(env.other);
  say("stranger", { reason: stranger.connack.reasonCode });
  stranger.client.stop();

  const second = await connect(env.thing);
  const end = await device.end.take("the end of the first session");
  say("taken-over", { reason: end.reason, second: second.connack.reasonCode });
  device.client.stop();
  await stop(second.client);
});
