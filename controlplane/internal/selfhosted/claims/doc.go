// Package claims is fleet provisioning of the self-hosted cloud (iot-api §8, §17;
// nucleus-contract §2.6): provisioning templates with their versions, claim
// certificates that live for five minutes, and the trade of a claim for a
// certificate of the device's own over MQTT.
//
// A template is kept as it was given. When a device is provisioned, its functions
// and references are worked out here and what is left, a template without
// parameters, goes to the Registrar, who makes the thing: the same that carries out
// RegisterThing. The package knows neither MQTT nor HTTP, and nothing of cores.
package claims
