// Package patch runs the patches of this device: Ansible playbooks that the
// control plane's device patcher has queued for it (spec cdf-services §6.5).
//
// A playbook may do anything that the agent may, so the device decides: nothing
// runs unless Allow was called for its folder, and a refused patch fails saying so.
//
// One patch at a time. What happens to it is in a journal that is written before
// each step, so that after a kill at any point the agent knows whether the
// playbook can have begun: if not, it goes on; if so, the patch is reported as
// interrupted and never run again by itself.
//
// The control plane is a port; the package knows neither HTTP nor MQTT.
package patch
