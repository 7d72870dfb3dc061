"""A day of somebody who only knows boto3: from nothing to a deployment that rolled out.

It prints one JSON object a line; whoever started it connects cores when it says so.
"""
import hashlib
import io
import json
import os
import sys
import time
import uuid
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = os.environ["AWS_ENDPOINT"]
DIR = os.environ["WORK_DIR"]
BUCKET = os.environ["BUCKET"]
config = Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"})
gg = boto3.client("greengrassv2", endpoint_url=ENDPOINT, config=config)
iot = boto3.client("iot", endpoint_url=ENDPOINT, config=config)
s3 = boto3.client("s3", endpoint_url=ENDPOINT, config=config)
REGION, ACCOUNT = os.environ["AWS_DEFAULT_REGION"], os.environ["ACCOUNT"]
CORES = ["boto-1", "boto-2", "boto-3"]


def say(step, **more):
    print(json.dumps({"step": step, **more}, default=str), flush=True)


def refused(code, call, **kwargs):
    """The call must fail with code; returns the parsed error."""
    try:
        call(**kwargs)
    except ClientError as e:
        got = e.response["Error"]["Code"]
        assert got == code, f"{call.__name__}: {got}: {e}"
        return e.response
    raise AssertionError(f"{call.__name__} {kwargs} was not refused with {code}")


def eventually(what, check, seconds=300):
    end = time.monotonic() + seconds
    while True:
        got = check()
        if got:
            return got
        assert time.monotonic() < end, what
        time.sleep(0.1)


def thing_arn(name):
    return f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/{name}"


def group_arn(name):
    return f"arn:aws:iot:{REGION}:{ACCOUNT}:thinggroup/{name}"


def prepare():
    """Things with certificates, policy, group and role alias, and the endpoints of this server."""
    for kind in ["iot:Data-ATS", "iot:CredentialProvider", "iot:Jobs"]:
        assert iot.describe_endpoint(endpointType=kind)["endpointAddress"]
    document = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["iot:Connect", "iot:Publish", "iot:Subscribe", "iot:Receive", "greengrass:*"], "Resource": "*"}]}
    iot.create_policy(policyName="boto-core", policyDocument=json.dumps(document))
    iot.create_role_alias(roleAlias="boto-alias", roleArn=f"arn:aws:iam::{ACCOUNT}:role/core", credentialDurationSeconds=3600)
    iot.create_policy(policyName="boto-alias", policyDocument=json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "iot:AssumeRoleWithCertificate", "Resource": f"arn:aws:iot:{REGION}:{ACCOUNT}:rolealias/boto-alias"}]}))
    group = iot.create_thing_group(thingGroupName="boto-line", thingGroupProperties={"thingGroupDescription": "a line"})
    assert group["thingGroupArn"] == group_arn("boto-line")
    for name in CORES:
        thing = iot.create_thing(thingName=name, attributePayload={"attributes": {"line": "7"}})
        assert thing["thingArn"] == thing_arn(name)
        made = iot.create_keys_and_certificate(setAsActive=True)
        iot.attach_policy(policyName="boto-core", target=made["certificateArn"])
        iot.attach_policy(policyName="boto-alias", target=made["certificateArn"])
        iot.attach_thing_principal(thingName=name, principal=made["certificateArn"])
        for suffix, text in [("cert", made["certificatePem"]), ("key", made["keyPair"]["PrivateKey"])]:
            with open(f"{DIR}/{name}.{suffix}.pem", "w") as f:
                f.write(text)
        assert iot.list_thing_principals(thingName=name)["principals"] == [made["certificateArn"]]
    for name in CORES[:2]:
        iot.add_thing_to_thing_group(thingGroupName="boto-line", thingName=name)
    assert sorted(iot.list_things_in_thing_group(thingGroupName="boto-line")["things"]) == CORES[:2]
    refused("ResourceNotFoundException", iot.describe_thing, thingName="boto-nobody")
    say("prepared")


def component():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("press.txt", "stroke\n" * 1000)
    s3.put_object(Bucket=BUCKET, Key="boto/press.zip", Body=archive.getvalue())
    recipe = f"""---
RecipeFormatVersion: '2020-01-25'
ComponentName: com.example.BotoPress
ComponentVersion: 1.0.0
ComponentDescription: presses
ComponentPublisher: Example
ComponentConfiguration:
  DefaultConfiguration:
    strokes: 7
Manifests:
  - Platform:
      os: linux
    Lifecycle:
      run: sleep 1
    Artifacts:
      - URI: s3://{BUCKET}/boto/press.zip
        Unarchive: ZIP
"""
    token = str(uuid.uuid4())
    made = gg.create_component_version(inlineRecipe=recipe.encode(), tags={"team": "press"}, clientToken=token)
    assert made["status"]["componentState"] == "REQUESTED", made
    again = gg.create_component_version(inlineRecipe=recipe.encode(), tags={"team": "press"}, clientToken=token)
    assert again["arn"] == made["arn"] and again["creationTimestamp"] == made["creationTimestamp"]
    arn = made["arn"]
    eventually("the component is not DEPLOYABLE", lambda: gg.describe_component(arn=arn)["status"]["componentState"] == "DEPLOYABLE")
    e = refused("ConflictException", gg.create_component_version, inlineRecipe=recipe.encode())
    assert "already exists" in e["Error"]["Message"], e
    got = gg.get_component(arn=arn, recipeOutputFormat="JSON")
    artifact = json.loads(got["recipe"])["Manifests"][0]["Artifacts"][0]
    assert artifact["Algorithm"] == "SHA-256" and artifact["Digest"], artifact
    assert b"BotoPress" in gg.get_component(arn=arn, recipeOutputFormat="YAML")["recipe"]
    assert gg.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "press"}
    versions = [v["componentVersion"] for v in gg.list_component_versions(arn=arn.split(":versions:")[0])["componentVersions"]]
    assert versions == ["1.0.0"], versions
    e = refused("ValidationException", gg.create_component_version, inlineRecipe=b"RecipeFormatVersion: '2020-01-25'\nComponentName: x\n")
    assert "ComponentVersion" in e["Error"]["Message"], e
    for n in range(3):
        gg.create_component_version(inlineRecipe=recipe.replace("BotoPress", f"BotoPage{n}").encode())
    names = [c["componentName"] for page in gg.get_paginator("list_components").paginate(PaginationConfig={"PageSize": 2}) for c in page["components"]]
    assert [n for n in names if "Boto" in n] == ["com.example.BotoPage0", "com.example.BotoPage1", "com.example.BotoPage2", "com.example.BotoPress"], names
    assert len(names) == len(set(names))
    say("component", arn=arn, sha256=hashlib.sha256(archive.getvalue()).hexdigest())
    return arn


# Every member of CreateDeployment.
COMPONENTS = {"com.example.BotoPress": {
    "componentVersion": "1.0.0",
    "configurationUpdate": {"merge": json.dumps({"strokes": 9, "names": ["a", "b"]}), "reset": ["/network/useHttps", "/tags", ""]},
    "runWith": {"posixUser": "ggc_user:ggc_group", "systemResourceLimits": {"memory": 65536, "cpus": 0.5}, "windowsUser": "ggc"}}}
JOB = {
    "jobExecutionsRolloutConfig": {"maximumPerMinute": 1000, "exponentialRate": {
        "baseRatePerMinute": 500, "incrementFactor": 1.5, "rateIncreaseCriteria": {"numberOfNotifiedThings": 10, "numberOfSucceededThings": 5}}},
    "abortConfig": {"criteriaList": [
        {"failureType": t, "action": "CANCEL", "thresholdPercentage": 10.25, "minNumberOfExecutedThings": 100} for t in ["FAILED", "REJECTED", "TIMED_OUT", "ALL"]]},
    "timeoutConfig": {"inProgressTimeoutInMinutes": 5}}
POLICIES = {"failureHandlingPolicy": "DO_NOTHING",
            "componentUpdatePolicy": {"timeoutInSeconds": 61, "action": "SKIP_NOTIFY_COMPONENTS"},
            "configurationValidationPolicy": {"timeoutInSeconds": 31}}


def deployment():
    token = str(uuid.uuid4())
    whole = dict(targetArn=group_arn("boto-line"), deploymentName="boto line", components=COMPONENTS, iotJobConfiguration=JOB,
                 deploymentPolicies=POLICIES, tags={"env": "test", "empty": ""}, clientToken=token)
    made = gg.create_deployment(**whole)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201 and made["iotJobArn"].endswith(":job/" + made["iotJobId"])
    again = gg.create_deployment(**whole)
    assert again["deploymentId"] == made["deploymentId"]
    got = gg.get_deployment(deploymentId=made["deploymentId"])
    for member in ["targetArn", "deploymentName", "components", "iotJobConfiguration", "deploymentPolicies", "tags"]:
        assert got[member] == whole[member], (member, got[member])
    assert (got["revisionId"], got["deploymentStatus"], got["isLatestForTarget"]) == ("1", "ACTIVE", True)
    say("connect", cores=CORES[:2], roleAlias="boto-alias")

    try:
        eventually("the deployment did not reach the cores", lambda: all(
            d and d[0]["coreDeviceExecutionStatus"] == "SUCCEEDED" and d[0]["deploymentId"] == made["deploymentId"] for d in effective_or_empty(CORES[:2])))
    finally:
        say("effective", got=effective_or_empty(CORES[:2]))
    for c in CORES[:2]:
        core = eventually(f"{c} is not HEALTHY", lambda: healthy(c))
        assert core["coreVersion"] and core["platform"] and core["architecture"]
        installed = eventually(f"{c} does not show the component", lambda: [
            x for x in gg.list_installed_components(coreDeviceThingName=c)["installedComponents"] if x["componentName"] == "com.example.BotoPress"])
        assert installed[0]["isRoot"] and installed[0]["componentVersion"] == "1.0.0"
    listed = [c["coreDeviceThingName"] for page in gg.get_paginator("list_core_devices").paginate(
        thingGroupArn=group_arn("boto-line"), status="HEALTHY", PaginationConfig={"PageSize": 1}) for c in page["coreDevices"]]
    assert listed == CORES[:2], listed
    say("deployed", id=made["deploymentId"])
    return made["deploymentId"]


def effective_or_empty(cores):
    out = []
    for c in cores:
        try:
            out.append(gg.list_effective_deployments(coreDeviceThingName=c)["effectiveDeployments"])
        except ClientError:
            out.append([])
    return out


def healthy(core):
    try:
        got = gg.get_core_device(coreDeviceThingName=core)
    except ClientError:
        return None
    return got if got["status"] == "HEALTHY" else None


def joins_and_revisions(first):
    say("connect", cores=CORES[2:], roleAlias="boto-alias")
    eventually("the third core did not report", lambda: healthy(CORES[2]))
    iot.add_thing_to_thing_group(thingGroupArn=group_arn("boto-line"), thingArn=thing_arn(CORES[2]))
    eventually("who joins gets the deployment", lambda: any(
        d["deploymentId"] == first and d["coreDeviceExecutionStatus"] == "SUCCEEDED" for d in effective_or_empty(CORES[2:])[0]))
    second = gg.create_deployment(targetArn=group_arn("boto-line"), components={})["deploymentId"]
    assert gg.get_deployment(deploymentId=first)["deploymentStatus"] == "INACTIVE"
    assert gg.get_deployment(deploymentId=second)["revisionId"] == "2"
    latest = gg.list_deployments(targetArn=group_arn("boto-line"))["deployments"]
    assert [d["deploymentId"] for d in latest] == [second], latest
    every = [d["deploymentId"] for page in gg.get_paginator("list_deployments").paginate(
        targetArn=group_arn("boto-line"), historyFilter="ALL", PaginationConfig={"PageSize": 1}) for d in page["deployments"]]
    assert every == [second, first], every
    eventually("the component was not removed", lambda: not any(
        x["componentName"] == "com.example.BotoPress" for c in CORES for x in gg.list_installed_components(coreDeviceThingName=c)["installedComponents"]))
    own = gg.create_deployment(targetArn=thing_arn(CORES[0]), components={"com.example.BotoPress": {"componentVersion": "1.0.0"}})
    assert "iotJobId" not in own, own
    eventually("a thing's deployment reads COMPLETED", lambda: gg.get_deployment(deploymentId=own["deploymentId"])["deploymentStatus"] == "COMPLETED")
    mine = [d for d in gg.list_effective_deployments(coreDeviceThingName=CORES[0])["effectiveDeployments"] if d["deploymentId"] == own["deploymentId"]]
    assert mine[0]["coreDeviceExecutionStatus"] == "COMPLETED" and "iotJobId" not in mine[0], mine
    refused("ConflictException", gg.cancel_deployment, deploymentId=own["deploymentId"])
    refused("ConflictException", gg.delete_deployment, deploymentId=second)
    assert gg.cancel_deployment(deploymentId=second)["message"] == "SUCCESS"
    got = gg.get_deployment(deploymentId=second)
    assert (got["deploymentStatus"], got["isLatestForTarget"]) == ("CANCELED", True)
    assert gg.delete_deployment(deploymentId=second)["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused("ResourceNotFoundException", gg.get_deployment, deploymentId=second)
    say("revisions")


def validation():
    ok = dict(targetArn=group_arn("boto-line"))
    for member, wrong in {
        "targetArn": {"targetArn": "arn:aws:iot:x"},
        "deploymentName": {"deploymentName": "x" * 257},
        "components.com.example.X.componentVersion": {"components": {"com.example.X": {"componentVersion": "1"}}},
        "components.com.example.BotoPress.configurationUpdate.merge": {"components": {"com.example.BotoPress": {
            "componentVersion": "1.0.0", "configurationUpdate": {"merge": "[]"}}}},
        "components.com.example.BotoPress.configurationUpdate.reset": {"components": {"com.example.BotoPress": {
            "componentVersion": "1.0.0", "configurationUpdate": {"reset": ["x"]}}}},
        "iotJobConfiguration.timeoutConfig.inProgressTimeoutInMinutes": {"iotJobConfiguration": {"timeoutConfig": {"inProgressTimeoutInMinutes": 10081}}},
        "iotJobConfiguration.jobExecutionsRolloutConfig.maximumPerMinute": {"iotJobConfiguration": {"jobExecutionsRolloutConfig": {"maximumPerMinute": 1001}}},
        "iotJobConfiguration.abortConfig.criteriaList": {"iotJobConfiguration": {"abortConfig": {"criteriaList": [
            {"failureType": "ALL", "action": "CANCEL", "thresholdPercentage": 10.999, "minNumberOfExecutedThings": 1}]}}},
        "deploymentPolicies.failureHandlingPolicy": {"deploymentPolicies": {"failureHandlingPolicy": "NONE"}},
        "tags": {"tags": {"aws:x": "y"}},
        "clientToken": {"clientToken": "a b"},
    }.items():
        e = refused("ValidationException", gg.create_deployment, **{**ok, **wrong})
        fields = [f["name"] for f in e.get("fields", [])]
        assert any(f.startswith(member) for f in fields), (member, e)
        assert member in e["Error"]["Message"], (member, e["Error"])
    refused("ResourceNotFoundException", gg.create_deployment, targetArn=group_arn("boto-nothing"))
    refused("ResourceNotFoundException", gg.create_deployment, targetArn=group_arn("boto-line"), components={"com.example.None": {"componentVersion": "1.0.0"}})
    refused("ValidationException", gg.list_core_devices, maxResults=101)
    refused("ValidationException", gg.list_core_devices, nextToken="nonsense")
    refused("ResourceNotFoundException", gg.get_core_device, coreDeviceThingName="boto-nobody")
    wrong = boto3.client("greengrassv2", endpoint_url=ENDPOINT, config=config,
                         aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key="x" * 40)
    refused("InvalidSignatureException", wrong.list_core_devices)
    say("validation")


def around():
    for n in range(3):
        iot.create_thing(thingName=f"boto-device-{n}")
    entries = [{"thingName": f"boto-device-{n}"} for n in range(3)]
    got = gg.batch_associate_client_device_with_core_device(coreDeviceThingName=CORES[0], entries=entries + [{"thingName": "boto-nobody"}])
    assert [(e["thingName"], e["code"]) for e in got["errorEntries"]] == [("boto-nobody", "ResourceNotFoundException")], got
    names = [d["thingName"] for page in gg.get_paginator("list_client_devices_associated_with_core_device").paginate(
        coreDeviceThingName=CORES[0], PaginationConfig={"PageSize": 2}) for d in page["associatedClientDevices"]]
    assert names == [e["thingName"] for e in entries], names
    assert gg.batch_disassociate_client_device_from_core_device(coreDeviceThingName=CORES[0], entries=entries)["errorEntries"] == []
    info = [{"id": "1", "hostAddress": "192.0.2.7", "portNumber": 8883, "metadata": "m"}]
    wire = [{"Id": "1", "HostAddress": "192.0.2.7", "PortNumber": 8883, "Metadata": "m"}]
    shape = gg.meta.service_model.operation_model("UpdateConnectivityInfo").input_shape.members
    member = "ConnectivityInfo" if "ConnectivityInfo" in shape else "connectivityInfo"
    assert gg.update_connectivity_info(thingName=CORES[0], **{member: wire if member[0] == "C" else info})["ResponseMetadata"]["HTTPStatusCode"] == 200
    got = gg.get_connectivity_info(thingName=CORES[0])
    assert len(got.get("connectivityInfo") or got.get("ConnectivityInfo")) == 1, got
    gg.associate_service_role_to_account(roleArn=f"arn:aws:iam::{ACCOUNT}:role/gg")
    assert gg.get_service_role_for_account()["roleArn"] == f"arn:aws:iam::{ACCOUNT}:role/gg"
    gg.disassociate_service_role_from_account()
    refused("ResourceNotFoundException", gg.get_service_role_for_account)
    arn = f"arn:aws:greengrass:{REGION}:{ACCOUNT}:coreDevices:{CORES[0]}"
    gg.tag_resource(resourceArn=arn, tags={"a b": "c/d", "e": ""})
    gg.untag_resource(resourceArn=arn, tagKeys=["e", "not there"])
    assert gg.list_tags_for_resource(resourceArn=arn)["tags"] == {"a b": "c/d"}
    assert gg.get_core_device(coreDeviceThingName=CORES[0])["tags"] == {"a b": "c/d"}
    say("around")


def main():
    prepare()
    component()
    joins_and_revisions(deployment())
    validation()
    around()
    say("end")


try:
    main()
except BaseException as e:
    say("failed", error=repr(e))
    raise
sys.exit(0)
