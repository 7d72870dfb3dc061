// Somebody who only knows AWS's SDK for JavaScript deploys to one core. It prints
// one JSON object a line; whoever started it connects the core when it says so.
import { writeFileSync } from "node:fs";
import * as gg from "@aws-sdk/client-greengrassv2";
import * as iot from "@aws-sdk/client-iot";

const { AWS_ENDPOINT: endpoint, AWS_REGION: region, ACCOUNT: account, WORK_DIR: dir } = process.env;
const greengrass = new gg.GreengrassV2Client({ region, endpoint, maxAttempts: 1 });
const registry = new iot.IoTClient({ region, endpoint, maxAttempts: 1 });
const say = (step, more = {}) => console.log(JSON.stringify({ step, ...more }));
const must = (ok, what) => {
  if (!ok) throw new Error(typeof what === "string" ? what : JSON.stringify(what));
};

async function eventually(what, check) {
  for (let n = 0; n < 3000; n++) {
    const got = await check();
    if (got) return got;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(what);
}

async function prepare() {
  const allow = (Action, Resource) => JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Action, Resource }] });
  await registry.send(new iot.CreatePolicyCommand({ policyName: "js", policyDocument: allow(["iot:*", "greengrass:*"], "*") }));
  await registry.send(new iot.CreateRoleAliasCommand({ roleAlias: "js", roleArn: `arn:aws:iam::${account}:role/js` }));
  const group = await registry.send(new iot.CreateThingGroupCommand({ thingGroupName: "js-line" }));
  const thing = await registry.send(new iot.CreateThingCommand({ thingName: "js:1" }));
  const keys = await registry.send(new iot.CreateKeysAndCertificateCommand({ setAsActive: true }));
  writeFileSync(`${dir}/js:1.cert.pem`, keys.certificatePem);
  writeFileSync(`${dir}/js:1.key.pem`, keys.keyPair.PrivateKey);
  await registry.send(new iot.AttachPolicyCommand({ policyName: "js", target: keys.certificateArn }));
  await registry.send(new iot.AttachThingPrincipalCommand({ thingName: "js:1", principal: keys.certificateArn }));
  await registry.send(new iot.AddThingToThingGroupCommand({ thingGroupName: "js-line", thingName: "js:1" }));
  const described = await registry.send(new iot.DescribeThingCommand({ thingName: "js:1" }));
  must(described.thingId === thing.thingId, described);
  say("prepared");
  return group.thingGroupArn;
}

async function component() {
  const recipe = JSON.stringify({
    RecipeFormatVersion: "2020-01-25", ComponentName: "com.example.JsDrill", ComponentVersion: "1.0.0",
    Manifests: [{ Platform: { os: "linux" }, Lifecycle: { run: "sleep 1" } }],
  });
  const made = await greengrass.send(new gg.CreateComponentVersionCommand({ inlineRecipe: new TextEncoder().encode(recipe) }));
  must(made.creationTimestamp instanceof Date, made);
  await eventually("the component is not DEPLOYABLE", async () =>
    (await greengrass.send(new gg.DescribeComponentCommand({ arn: made.arn }))).status.componentState === "DEPLOYABLE");
  say("component");
}

async function deploy(targetArn) {
  const made = await greengrass.send(new gg.CreateDeploymentCommand({
    targetArn, components: { "com.example.JsDrill": { componentVersion: "1.0.0", configurationUpdate: { merge: '{"a":1}' } } },
  }));
  say("connect", { cores: ["js:1"], roleAlias: "js" });
  await eventually("the deployment did not reach the core", async () => {
    try {
      const got = await greengrass.send(new gg.ListEffectiveDeploymentsCommand({ coreDeviceThingName: "js:1" }));
      return got.effectiveDeployments.some((d) => d.deploymentId === made.deploymentId && d.coreDeviceExecutionStatus === "SUCCEEDED");
    } catch (e) {
      must(e instanceof gg.ResourceNotFoundException, String(e));
      return false;
    }
  });
  const got = await greengrass.send(new gg.GetDeploymentCommand({ deploymentId: made.deploymentId }));
  must(got.revisionId === "1" && got.creationTimestamp instanceof Date && got.deploymentPolicies.failureHandlingPolicy === "ROLLBACK", got);
  let seen = 0;
  for await (const page of gg.paginateListInstalledComponents({ client: greengrass, pageSize: 1 }, { coreDeviceThingName: "js:1", topologyFilter: "ALL" })) {
    seen += page.installedComponents.length;
  }
  must(seen > 0, "no component is installed");
  say("deployed");
}

async function refused() {
  for (const [command, kind, code] of [
    [new gg.GetDeploymentCommand({ deploymentId: "none" }), gg.ResourceNotFoundException, 404],
    [new gg.CreateDeploymentCommand({ targetArn: "x" }), gg.ValidationException, 400],
    [new gg.ListDeploymentsCommand({ maxResults: 101 }), gg.ValidationException, 400],
  ]) {
    try {
      await greengrass.send(command);
      throw new Error("was not refused");
    } catch (e) {
      must(e instanceof kind && e.$metadata.httpStatusCode === code, `${command.constructor.name}: ${e}`);
    }
  }
  say("refused");
}

const target = await prepare();
await component();
await deploy(target);
await refused();
say("end");
