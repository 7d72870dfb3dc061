"""What AWS's development kit for Greengrass does when it publishes a component, by boto3.

It prints one JSON object a line.
"""
import json
import os
import sys
import time

import boto3

REGION, BUCKET = os.environ["AWS_REGION"], sys.argv[1]
NAME = "com.example.Published"
gg, s3 = boto3.client("greengrassv2"), boto3.client("s3")


def say(step, **more):
    print(json.dumps({"step": step, **more}, default=str), flush=True)


account = boto3.client("sts").get_caller_identity()["Account"]
arn = f"arn:aws:greengrass:{REGION}:{account}:components:{NAME}"
for version in ["1.0.0", "1.0.1"]:
    there = gg.list_component_versions(arn=arn)["componentVersions"]
    say("versions", newest=there[0]["componentVersion"] if there else None)
    s3.create_bucket(Bucket=BUCKET)
    path = os.path.join(os.environ["WORK_DIR"], "big.bin")
    with open(path, "wb") as f:
        f.write(os.urandom(9 << 20))
    key = f"{NAME}/{version}/big.bin"
    s3.upload_file(path, BUCKET, key, ExtraArgs={"Metadata": {"by": "gdk"}})  # in parts
    s3.copy_object(Bucket=BUCKET, Key=key + ".copy", CopySource={"Bucket": BUCKET, "Key": key})
    recipe = {"RecipeFormatVersion": "2020-01-25", "ComponentName": NAME, "ComponentVersion": version, "Manifests": [
        {"Platform": {"os": "all"}, "Artifacts": [{"URI": f"s3://{BUCKET}/{key}"}], "Lifecycle": {"run": "sleep 1"}}]}
    made = gg.create_component_version(inlineRecipe=json.dumps(recipe))
    for _ in range(600):
        state = gg.describe_component(arn=made["arn"])["status"]["componentState"]
        if state != "REQUESTED" and state != "INITIATED":
            break
        time.sleep(0.1)
    say("published", version=version, state=state)
say("end")
