// Package iotapi is the control plane of AWS IoT as far as a client of Greengrass
// needs it: things, thing types, static thing groups, certificates, policies,
// provisioning, endpoints, role aliases, and the jobs that deployments travel as
// (iot-api §2-4, §6-10).
//
// It translates and decides nothing: protocol is package rest's, rules are those
// of the services behind it.
package iotapi
