// Package jobs is the IoT jobs service of the self-hosted cloud, as far as
// Greengrass deployments need it (spec iot-api §18, §19; nucleus-contract §2.2).
//
// A Job is one unit of work for a target; an Execution is that job on one
// thing. Pending executions (QUEUED, IN_PROGRESS) lie under one prefix, by
// thing, so that what a device has to do is one short range. An execution that
// ended moves, in the same commit, under another prefix where the last one for
// each target of a thing is kept: that is what became of the target's
// deployment on this core. Both lie under one prefix, so that a single watch tells
// in order what devices take up and how it ends.
//
// $next is IN_PROGRESS before QUEUED, then by the time queued. Devices are told
// of changes by Announcer, after the commit and never before: a notification
// and the answer to $next/get must never disagree (traps 9 to 12).
//
// Many things at once are read by ranges of keys and committed as many as fit
// (Known, HandBatch, Packer). What is pending on connected things is followed in
// memory, so that an announcement to thousands of them reads nothing.
//
// The package knows neither MQTT nor HTTP: Device turns a request topic and
// payload into answers, somebody else carries them.
package jobs
