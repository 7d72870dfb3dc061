// A device on MQTT 3.1.1 by AWS's device SDK.
import { iot, mqtt } from "aws-crt";
import { iotjobs } from "aws-iot-device-sdk-v2";
import { env, jobsV1, jobsV2, launchMessage, main, queue, say, text, within } from "./lib.mjs";

const { QoS } = mqtt;
const client = new mqtt.MqttClient();

function connection(clientId) {
  const config = iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder_from_path(env.cert, env.key)
    .with_certificate_authority_from_path(undefined, env.ca)
    .with_endpoint(env.host)
    .with_port(env.port)
    .with_client_id(clientId)
    .with_clean_session(true)
    .with_keep_alive_seconds(30)
    .with_reconnect_min_sec(1)
    .with_reconnect_max_sec(1)
    .with_protocol_operation_timeout_ms(120000)
    .build();
  const conn = client.new_connection(config);
  conn.on("error", () => {});
  const interrupted = queue();
  const resumed = queue();
  conn.on("interrupt", (error) => interrupted.put(error));
  conn.on("resume", (code, sessionPresent) => resumed.put({ code, sessionPresent }));
  return { conn, interrupted, resumed };
}

main(async () => {
  const device = connection(env.thing);
  const { conn } = device;
  say("connected", { sessionPresent: await within(conn.connect(), "CONNACK") });

  const messages = queue();
  const granted = await conn.subscribe(`${env.thing}/in/#`, QoS.AtLeastOnce, (topic, payload, dup, qos, retain) => messages.put({ topic, payload: text(payload), qos, retain }));
  say("subscribed", { qos: granted.qos, error: granted.error_code });
  for (const qos of [QoS.AtMostOnce, QoS.AtLeastOnce]) {
    await conn.publish(`${env.thing}/in/${qos}`, `stroke ${qos}`, qos);
    say("message", await messages.take(`the message of QoS ${qos}`));
  }
  const refused = await conn.subscribe(`${env.other}/#`, QoS.AtLeastOnce, () => {}).then((r) => r, (err) => ({ qos: 128, error: String(err) }));
  say("denied-subscribe", { qos: refused.qos });
  await conn.unsubscribe(`${env.thing}/in/#`);
  say("unsubscribed");

  await conn.publish(`$aws/things/${env.thing}/greengrassv2/health/json`, launchMessage(), QoS.AtLeastOnce);
  say("launched");
  await jobsV1(new iotjobs.IotJobsClient(conn), QoS.AtLeastOnce);
  await jobsV2(iotjobs.IotJobsClientv2.newFromMqtt311(conn, { maxRequestResponseSubscriptions: 8, maxStreamingSubscriptions: 2, operationTimeoutInSeconds: 120 }));

  // The server is killed and starts again: the device comes back by itself.
  say("restart");
  await device.interrupted.take("the end of the connection");
  const back = await device.resumed.take("the connection that comes back");
  await conn.subscribe(`${env.thing}/in/#`, QoS.AtLeastOnce, (topic, payload) => messages.put({ topic, payload: text(payload) }));
  await conn.publish(`${env.thing}/in/again`, "still here", QoS.AtLeastOnce);
  say("back", { ...back, ...(await messages.take("a message after the restart")) });

  const second = connection(env.thing);
  await within(second.conn.connect(), "CONNACK of the second session");
  await device.interrupted.take("the end of the first session");
  await conn.disconnect();
  say("taken-over");

  // MQTT 3.1.1 has no refusal of a publish but the end of the connection.
  while (second.interrupted.size() > 0) await second.interrupted.take("");
  second.conn.publish(`${env.other}/in`, "not mine", QoS.AtMostOnce);
  await second.interrupted.take("the end of a session that published on another's topic");
  say("denied");
  await within(second.resumed.take("the session that comes back"), "resume");
  await second.conn.disconnect();
});
