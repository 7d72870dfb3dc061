// Package mqttwire reads and writes the MQTT packets of a device, versions 5
// and 3.1.1, as far as the Greengrass runtimes use them: no QoS 2, no will, no
// authentication packets.
//
// It is a codec of its own on purpose. The broker under test has one too, and a
// defect that both ends share would never be seen; and a simulated core must be
// able to be as strict, and as wrong, as the real runtime. It knows no network,
// no topic and no state.
package mqttwire
