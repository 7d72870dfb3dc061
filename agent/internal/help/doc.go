// Package help does on the device what operators ask of it from afar: it sends
// lines of a log or a support bundle, restarts the nucleus or a component, runs
// one of the named diagnostics. Nothing of it happens without the consent of the
// device's owner (package consent), which is looked at before each step.
//
// There is no shell, and nothing that comes from outside becomes a path or a
// program: a log is looked for among those that are there, programs and their
// flags are written down here.
//
// What leaves the device has no secrets in it. A bundle holds what is on a list
// and nothing else; every line passes a scrubber.
//
// The device keeps no record of a request. What was begun when the agent died is
// asked for again by the next one as another run: reading is repeated, a restart
// is not, because the control plane gives it to one run only. So remote help
// works when the disk is full or cannot be written, which is when it is needed.
//
// The control plane is a port; the package knows neither HTTP nor MQTT.
package help
