"""A core device, a client device and a device without identity, by AWS's IoT device SDK.

It prints one JSON object a line.
"""
import json
import os
import queue
import time
import uuid

import boto3
from awscrt import io, mqtt
from awscrt.mqtt_request_response import ClientOptions
from awsiot import greengrass_discovery, iotidentity, iotjobs, mqtt5_client_builder, mqtt_connection_builder

HOST, CA, DIR = "localhost", os.environ["DEVICE_CA"], os.environ["WORK_DIR"]
PORTS = {"mqtt": int(os.environ["MQTT_PORT"]), "alpn": int(os.environ["ALPN_PORT"])}
REGION, ACCOUNT = os.environ["AWS_REGION"], os.environ["ACCOUNT"]
QOS = mqtt.QoS.AT_LEAST_ONCE
OPTIONS = ClientOptions(max_request_response_subscriptions=4, max_streaming_subscriptions=2, operation_timeout_in_seconds=30)
iot, gg = boto3.client("iot"), boto3.client("greengrassv2")


def say(step, **more):
    print(json.dumps({"step": step, **more}, default=str), flush=True)


def files(name, cert, key):
    paths = [f"{DIR}/{name}.{kind}" for kind in ["crt", "key"]]
    for path, text in zip(paths, [cert, key]):
        with open(path, "w") as f:
            f.write(text)
    return paths


def thing(name):
    iot.create_thing(thingName=name)
    made = iot.create_keys_and_certificate(setAsActive=True)
    iot.attach_policy(policyName="python", target=made["certificateArn"])
    iot.attach_thing_principal(thingName=name, principal=made["certificateArn"])
    return files(name, made["certificatePem"], made["keyPair"]["PrivateKey"])


def connect3(identity, client_id, port, **more):
    c = mqtt_connection_builder.mtls_from_path(*identity, endpoint=HOST, port=port, ca_filepath=CA, client_id=client_id, **more)
    return c, c.connect().result(30)


def connect5(identity, client_id, port):
    up = queue.Queue()
    c = mqtt5_client_builder.mtls_from_path(
        *identity, endpoint=HOST, port=port, ca_filepath=CA, client_id=client_id,
        on_lifecycle_connection_success=up.put, on_lifecycle_connection_failure=up.put)
    c.start()
    return c, up.get(timeout=30)


def alpn(builder):
    """The SDK offers a name on port 443 only; this is port 443, under another number."""
    original = io.TlsContextOptions.__init__

    def named(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.alpn_list = [builder]
    io.TlsContextOptions.__init__ = named
    return lambda: setattr(io.TlsContextOptions, "__init__", original)


def topics(core, identity):
    for where, port in PORTS.items():
        undo = alpn("x-amzn-mqtt-ca") if where == "alpn" else lambda: None
        c, up = connect5(identity, core, port)
        assert up.connack_packet.reason_code == 0, up
        c.stop()
        c, _ = connect3(identity, core + "#2", port)
        got = queue.Queue()
        c.subscribe(core + "/x", QOS, lambda topic, payload, **_: got.put(payload))[0].result(30)
        c.publish(core + "/x", where, QOS)[0].result(30)
        assert got.get(timeout=30) == where.encode()
        c.disconnect().result(30)
        undo()
        say("connected", where=where)


def jobs(core, identity):
    c, _ = connect3(identity, core, PORTS["mqtt"], clean_session=True)
    changed, answers = queue.Queue(), queue.Queue()
    client = iotjobs.IotJobsClient(c)
    client.subscribe_to_next_job_execution_changed_events(
        iotjobs.NextJobExecutionChangedSubscriptionRequest(thing_name=core), QOS, changed.put)[0].result(30)
    c.publish(f"$aws/things/{core}/greengrassv2/health/json", json.dumps({
        "ggcVersion": "2.12.0", "platform": "linux", "architecture": "amd64", "thing": core, "sequenceNumber": 0,
        "timestamp": int(time.time() * 1000), "messageType": "COMPLETE", "trigger": "NUCLEUS_LAUNCH", "overallDeviceStatus": "HEALTHY",
        "components": []}), QOS)[0].result(30)
    made = gg.create_deployment(targetArn=f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/{core}", components={})
    assert changed.get(timeout=30).execution.job_document["deploymentId"] == made["deploymentId"]
    start = iotjobs.StartNextPendingJobExecutionSubscriptionRequest(thing_name=core)
    client.subscribe_to_start_next_pending_job_execution_accepted(start, QOS, answers.put)[0].result(30)
    client.publish_start_next_pending_job_execution(iotjobs.StartNextPendingJobExecutionRequest(thing_name=core), QOS).result(30)
    execution = answers.get(timeout=30).execution
    update = iotjobs.UpdateJobExecutionSubscriptionRequest(thing_name=core, job_id=execution.job_id)
    client.subscribe_to_update_job_execution_accepted(update, QOS, answers.put)[0].result(30)
    client.publish_update_job_execution(iotjobs.UpdateJobExecutionRequest(
        thing_name=core, job_id=execution.job_id, status="SUCCEEDED", expected_version=execution.version_number), QOS).result(30)
    answers.get(timeout=30)
    c.disconnect().result(30)
    say("deployed", status=gg.get_deployment(deploymentId=made["deploymentId"])["deploymentStatus"])


def discover(core, device):
    identity = thing(device)
    failed = gg.batch_associate_client_device_with_core_device(coreDeviceThingName=core, entries=[{"thingName": device}])["errorEntries"]
    assert not failed, failed
    tls = io.TlsContextOptions.create_client_with_mtls_from_path(*identity)
    tls.override_default_trust_store_from_path(None, CA)
    client = greengrass_discovery.DiscoveryClient(
        io.ClientBootstrap.get_or_create_static_default(), io.SocketOptions(), io.ClientTlsContext(tls), REGION, gg_server_name=HOST)
    client.port = PORTS["alpn"]
    found = client.discover(device).result(30)
    say("discovered", cores=[c.thing_arn for g in found.gg_groups for c in g.cores])


def claim(name):
    body = {"Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}}, "Resources": {
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "SerialNumber"}}},
        "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "python"}}}}
    iot.create_provisioning_template(
        templateName="python", enabled=True, provisioningRoleArn=f"arn:aws:iam::{ACCOUNT}:role/unused", templateBody=json.dumps(body))
    made = iot.create_provisioning_claim(templateName="python")
    c, _ = connect5(files("claim", made["certificatePem"], made["keyPair"]["PrivateKey"]), str(uuid.uuid4()), PORTS["mqtt"])
    client = iotidentity.IotIdentityClientV2(c, OPTIONS)
    keys = client.create_keys_and_certificate(iotidentity.CreateKeysAndCertificateRequest()).result(30)
    got = client.register_thing(iotidentity.RegisterThingRequest(
        template_name="python", certificate_ownership_token=keys.certificate_ownership_token, parameters={"SerialNumber": name})).result(30)
    c.stop()
    c, _ = connect3(files(name, keys.certificate_pem, keys.private_key), name, PORTS["mqtt"])
    c.disconnect().result(30)
    say("claimed", thing=got.thing_name)


def main():
    iot.create_policy(policyName="python", policyDocument=json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["iot:*", "greengrass:*"], "Resource": "*"}]}))
    identity = thing("python-core")
    topics("python-core", identity)
    jobs("python-core", identity)
    discover("python-core", "python-gauge")
    claim("python-claimed")
    say("end")


main()
