package etcdstore

// Bridge is bridge.
var Bridge = bridge //nolint:gochecknoglobals // for tests
