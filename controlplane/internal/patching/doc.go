// Package patching is the device patcher (spec cdf-services §6.3-6.6): patch
// templates, which are versions of an Ansible playbook with variables, and
// patches, each one run of such a playbook on one device.
//
// Nothing here runs a playbook. A patch stands in the queue of its device from
// the moment its task exists until the device's agent has reported how it ended;
// the agent asks for what waits, takes one, and reports. A run is taken once: a
// device that lost its memory of a run it had taken gets no second one silently.
//
// Records come before the queue: the patches of a task are stored first, then the
// task, then the queue entries, and whatever a crash interrupts is finished or
// removed by Run. The package knows neither HTTP nor MQTT; what it needs of
// activations, download links and notices are the ports in ports.go.
package patching
