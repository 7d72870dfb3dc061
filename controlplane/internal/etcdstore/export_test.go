package etcdstore

// Bridge is bridge.
var Bridge = bridge
