// Package etcdstore implements state.Store over etcd: embedded in this process
// without a listener, or a cluster outside, through the same client. It is the
// only package that knows etcd; nothing of etcd's types or errors gets out of
// Store. It knows no record: keys and values are opaque to it.
package etcdstore
