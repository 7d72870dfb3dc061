// Package iot is the registry of the self-hosted cloud: things, static thing
// groups, certificates and the authority that signs them, policies, role
// aliases (spec iot-api §15, §16).
//
// A principal is a certificate, named by its id. Which certificate belongs to
// which thing is written on both records and changed in one commit, so that
// either side can be asked. A thing's record lists its groups; the key
// member/<group>/<thing> is the same fact the other way round.
//
// A change that spans more than the registry (a core with its task item, a move
// between groups with the job executions that follow) is one commit: methods
// named …Batch add the registry's part to a batch that the caller commits.
//
// A thing that is being deleted is marked first: from then on nothing may refer to
// it, so that what is left of it only gets less. A group that is being removed and a
// policy that may be are marked likewise.
//
// The package does not know MQTT, HTTP or the fleet service.
package iot
