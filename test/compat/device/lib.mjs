// What both scenarios share: the device's identity from the environment, and one
// JSON line for each step, which the Go test reads and checks.
import { setTimeout as wait } from "node:timers/promises";

export const env = {
  host: process.env.DEVICE_HOST,
  port: Number(process.env.DEVICE_PORT),
  thing: process.env.DEVICE_THING,
  other: process.env.DEVICE_OTHER_THING,
  ca: process.env.DEVICE_CA,
  cert: process.env.DEVICE_CERT,
  key: process.env.DEVICE_KEY,
};

export function say(step, values = {}) {
  process.stdout.write(JSON.stringify({ step, ...values }) + "\n");
}

export const text = (payload) => new TextDecoder().decode(payload);

// within fails when an answer does not come.
export function within(promise, what) {
  const late = wait(120000, undefined, { ref: false }).then(() => {
    throw new Error(`${what}: nothing within two minutes`);
  });
  return Promise.race([promise, late]);
}

// queue collects events and hands them out in order.
export function queue() {
  const items = [];
  const takers = [];
  return {
    put: (item) => (takers.length ? takers.shift()(item) : items.push(item)),
    take: (what) => within(new Promise((done) => (items.length ? done(items.shift()) : takers.push(done))), what),
    size: () => items.length,
  };
}

export function launchMessage() {
  return JSON.stringify({
    ggcVersion: "2.12.0", platform: "linux", architecture: "amd64", thing: env.thing, sequenceNumber: 1, timestamp: Date.now(),
    messageType: "COMPLETE", trigger: "NUCLEUS_LAUNCH", overallDeviceStatus: "HEALTHY", components: [],
  });
}

// nextJob passes over notices that nothing is to do: one of an earlier job may
// still be on its way.
async function nextJob(events, what) {
  for (;;) {
    const { execution } = await events.take(what);
    if (execution) return execution;
  }
}

const documentOf = (execution) => execution && { jobId: execution.jobId, status: execution.status, version: execution.versionNumber, deploymentId: execution.jobDocument?.deploymentId };

// jobsV2 drives one execution with the request-response client: list, describe,
// IN_PROGRESS, SUCCEEDED, and the stream of what comes next.
export async function jobsV2(client) {
  const thingName = env.thing;
  const events = queue();
  const opened = queue();
  const stream = client.createNextJobExecutionChangedStream({ thingName });
  stream.on("incomingPublish", (event) => events.put(event.message));
  stream.on("incomingPublishError", (event) => say("stream-error", { error: String(event.error) }));
  stream.on("subscriptionStatus", (event) => opened.put(event));
  stream.open();
  const status = await opened.take("stream of notify-next");
  say("v2-stream", { type: status.type, error: status.error && String(status.error) });
  const lists = queue();
  const changes = client.createJobExecutionsChangedStream({ thingName });
  changes.on("incomingPublish", (event) => lists.put(event.message));
  changes.on("subscriptionStatus", (event) => opened.put(event));
  changes.open();
  await opened.take("stream of notify");

  const pending = await client.getPendingJobExecutions({ thingName });
  say("v2-pending", { queued: pending.queuedJobs.length, inProgress: pending.inProgressJobs.length, timestamp: pending.timestamp });

  try {
    await client.describeJobExecution({ thingName, jobId: "no-such-job" });
    say("v2-unknown", { code: "accepted" });
  } catch (err) {
    say("v2-unknown", { code: err.modeledError?.code, message: err.modeledError?.message });
  }

  say("deploy");
  say("v2-next", documentOf(await nextJob(events, "notify-next of the first deployment")));
  let queued;
  do ({ jobs: { QUEUED: queued } } = await lists.take("notify of the first deployment")); while (!queued);
  say("v2-list", { queued: queued.map((e) => e.jobId) });
  const described = await client.describeJobExecution({ thingName, jobId: "$next", includeJobDocument: true });
  say("v2-described", documentOf(described.execution));
  const { jobId } = described.execution;
  const started = await client.updateJobExecution({ thingName, jobId, status: "IN_PROGRESS", statusDetails: { step: "1 of 2" }, includeJobExecutionState: true });
  say("v2-updated", { status: started.executionState?.status, version: started.executionState?.versionNumber, details: started.executionState?.statusDetails });
  try {
    await client.updateJobExecution({ thingName, jobId, status: "SUCCEEDED", expectedVersion: 99 });
    say("v2-conflict", { code: "accepted" });
  } catch (err) {
    say("v2-conflict", { code: err.modeledError?.code });
  }
  await client.updateJobExecution({ thingName, jobId, status: "SUCCEEDED" });
  const none = await events.take("notify-next after the last job");
  say("v2-done", { jobId, next: documentOf(none.execution) ?? null });

  say("deploy");
  const second = await nextJob(events, "notify-next of the second deployment");
  const next = await client.startNextPendingJobExecution({ thingName });
  say("v2-start-next", { ...documentOf(next.execution), notified: second.jobId });
  await client.updateJobExecution({ thingName, jobId: next.execution.jobId, status: "SUCCEEDED" });
  say("v2-done", { jobId: next.execution.jobId });
  stream.close();
  changes.close();
  client.close();
}

// jobsV1 drives one execution with the older client, whose user subscribes and
// publishes. It comes first: the newer client ends its subscriptions when it is
// closed, also those that both have.
export async function jobsV1(client, qos) {
  const thingName = env.thing;
  const events = queue();
  const answers = queue();
  const answer = (kind) => (error, response) => answers.put({ kind, error: error && String(error), response });
  await client.subscribeToNextJobExecutionChangedEvents({ thingName }, qos, (error, event) => events.put(event));
  await client.subscribeToGetPendingJobExecutionsAccepted({ thingName }, qos, answer("pending"));
  await client.subscribeToGetPendingJobExecutionsRejected({ thingName }, qos, answer("pending rejected"));
  await client.publishGetPendingJobExecutions({ thingName, clientToken: "pending-1" }, qos);
  const pending = await answers.take("pending executions");
  say("v1-pending", { kind: pending.kind, token: pending.response.clientToken, queued: pending.response.queuedJobs.length });

  say("deploy");
  const execution = await nextJob(events, "notify-next");
  say("v1-next", documentOf(execution));
  await client.subscribeToDescribeJobExecutionAccepted({ thingName, jobId: "$next" }, qos, answer("described"));
  await client.publishDescribeJobExecution({ thingName, jobId: "$next", includeJobDocument: true, clientToken: "describe-1" }, qos);
  const described = await answers.take("description of $next");
  say("v1-described", { kind: described.kind, token: described.response.clientToken, ...documentOf(described.response.execution) });
  const { jobId } = execution;
  await client.subscribeToUpdateJobExecutionAccepted({ thingName, jobId }, qos, answer("updated"));
  await client.subscribeToUpdateJobExecutionRejected({ thingName, jobId }, qos, answer("update rejected"));
  for (const status of ["IN_PROGRESS", "SUCCEEDED", "FAILED"]) {
    await client.publishUpdateJobExecution({ thingName, jobId, status, clientToken: status }, qos);
    const updated = await answers.take(`update to ${status}`);
    say("v1-updated", { kind: updated.kind, status, token: updated.response?.clientToken, code: updated.response?.code });
  }
  say("v1-done", { jobId });
}

// main ends the process with the scenario's result; the SDK's own threads would
// keep it alive.
export function main(scenario) {
  scenario().then(
    () => { say("end"); process.exitCode = 0; },
    (err) => { say("error", { error: String(err?.stack ?? err) }); process.exitCode = 1; },
  ).finally(() => process.stdout.write("", () => process.exit()));
}
