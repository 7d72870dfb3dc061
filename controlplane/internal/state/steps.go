package state

// Step names one durable step. It is the name of a fault point: the kill tests
// end the process right before and right after each step of the table.
type Step string

// The steps that commit to the store of record.
const (
	StepSetup Step = "setup" // first start: CA, policies, default template, tokens

	StepTaskItems  Step = "task.items"  // the items and batches of a new task
	StepTaskCreate Step = "task.create" // the task record: from here on the task exists
	StepTaskClaim  Step = "task.claim"  // a worker takes a batch
	StepTaskItem   Step = "task.item"   // an item's result that is not part of another step
	StepTaskBatch  Step = "task.batch"  // a batch is done
	StepTaskExpand Step = "task.expand" // targets became items
	StepTaskFinish Step = "task.finish" // the task's final status
	StepTaskSweep  Step = "task.sweep"  // items without a task are removed

	StepCoreRegister Step = "core.register" // certificate, thing, attachments, core record, item result
	StepCoreComplete Step = "core.complete" // the certificate that a core was created without
	StepCoreReport   Step = "core.report"   // reported state of a core record

	StepCoreDelete     Step = "core.delete"     // the last commit of a core's deletion: thing, records, item result
	StepDevice         Step = "device"          // a client device's record, association and item result
	StepRollout        Step = "rollout"         // the pace of a deployment task: started, stopped, withdrawn
	StepTemplate       Step = "template"        // a template version
	StepTemplateDeploy Step = "template.deploy" // template version ↔ group and deployment

	StepGroup       Step = "group"              // a thing group
	StepMove        Step = "group.move"         // a core changes groups; its executions follow
	StepDeployment  Step = "deployment"         // a deployment revision and its job
	StepRolling     Step = "deployment.rollout" // how far a deployment's rollout is: phase, counters, cursor
	StepExecutions  Step = "job.execute"        // executions for the members of a target
	StepJobUpdate   Step = "job.update"         // a device's report on an execution
	StepJobTimeout  Step = "job.timeout"        // an execution that took too long
	StepFleetStatus Step = "fleet.status"       // a core device's own report
	StepAccount     Step = "greengrass.record"  // tags, connectivity, the account's service role

	StepDeprovision Step = "deprovision" // what goes before the thing itself: certificates, executions, memberships
	StepAssociate   Step = "associate"   // which core a client device belongs to

	StepEvent    Step = "event"        // events get their place in the log, or leave it
	StepDelivery Step = "event.cursor" // how far a subscriber is, its dead letters
	StepWebhook  Step = "webhook"      // a subscriber made, changed, removed
	StepHistory  Step = "history"      // what happened to a core
	StepOnce     Step = "once"         // the answer that an Idempotency-Key repeats
	StepPatch    Step = "patch"        // patch templates, patch tasks, patches
	StepHelp     Step = "help"         // a request for remote help made, taken, ended, removed

	StepComponent    Step = "component"    // a component version
	StepDistribution Step = "distribution" // a nucleus archive recorded, current, pinned
	StepActivation   Step = "activation"   // an activation made, used or removed
	StepEnroll       Step = "enroll"       // the agent's certificate and thing

	StepRenew        Step = "renew"         // a certificate beside the one whose place it will take
	StepRenewConfirm Step = "renew.confirm" // it works, and the other one ends

	StepRelease       Step = "release"        // files and rollouts of releases of the agent, what agents say of them
	StepEnrollRequest Step = "enroll.request" // a device that asks to be let in: asked, approved, denied, forgotten
	StepEnrollRule    Step = "enroll.rule"    // who may be let in: rules and lists of serials
	StepAccess        Step = "access"         // access keys and tokens
	StepSession       Step = "session"        // which of several replicas a device is connected to
	StepRegistry      Step = "registry"       // things, certificates, policies one by one
)

// The steps that put objects.
const (
	PutCerts        Step = "put.certs"        // certs.zip of a core
	PutConfig       Step = "put.config"       // installerConfig.yml of a core
	PutTemplate     Step = "put.template"     // a provisioning template
	PutArtifact     Step = "put.artifact"     // a component artifact
	PutDistribution Step = "put.distribution" // a nucleus archive
	PutPlaybook     Step = "put.playbook"     // the playbook of a patch template
	PutRelease      Step = "put.release"      // a file of a release of the agent
	PutHelp         Step = "put.help"         // a part of what a device sent when it was asked for help
)

// Steps returns every step of the table, commits first.
func Steps() []Step {
	return []Step{
		StepSetup, StepTaskItems, StepTaskCreate, StepTaskClaim, StepTaskItem, StepTaskBatch, StepTaskExpand,
		StepTaskFinish, StepTaskSweep, StepCoreRegister, StepCoreComplete, StepCoreReport, StepCoreDelete, StepDevice,
		StepRollout, StepTemplate, StepTemplateDeploy, StepGroup, StepMove, StepDeployment, StepRolling, StepExecutions, StepJobUpdate, StepJobTimeout,
		StepFleetStatus, StepAccount, StepDeprovision, StepAssociate,
		StepEvent, StepDelivery, StepWebhook, StepHistory, StepOnce, StepPatch, StepHelp, StepComponent, StepDistribution, StepActivation, StepEnroll, StepRelease, StepRenew, StepRenewConfirm, StepEnrollRequest, StepEnrollRule, StepAccess, StepSession, StepRegistry,
		PutCerts, PutConfig, PutTemplate, PutArtifact, PutDistribution, PutPlaybook, PutRelease, PutHelp,
	}
}

// Known reports whether s is in the table.
func (s Step) Known() bool {
	for _, k := range Steps() {
		if k == s {
			return true
		}
	}
	return false
}
