// Package standin is a small cloud for the tests of the simulated core and of
// the capture replay: an MQTT broker with jobs, the data plane, credentials and
// artifacts, in process. It answers as spec nucleus-contract says, and can be
// made to answer wrongly. It stands in for a control plane where none is wanted,
// and is no reference of one.
package standin
