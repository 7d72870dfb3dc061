// Package state is the port to the store of record: a small transactional
// key-value store with revisions, leases and watches, plus typed access to the
// JSON records in it.
//
// Domain packages describe a change as a [Batch]: the records they read, named
// by revision, and the records they write. A batch commits whole or not at all,
// so a change that spans two packages (a certificate, its thing, the core
// record and the item result of a task) is one batch that each of them adds to.
//
// Every batch names its [Step] from the one table in steps.go. The table is
// what the kill tests iterate over: a durable step that is not in it cannot be
// committed.
//
// The package knows no SDK. etcdstore implements it over etcd, state/memory in
// memory for tests in virtual time; both pass statetest.
package state
