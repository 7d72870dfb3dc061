// Package fleet is the fleet service: templates of components, core devices,
// the tasks that create cores and deploy templates to them, and the fleet
// summary (spec cdf-services §1-§3).
//
// It knows neither AWS nor MQTT nor HTTP. What it needs from a cloud (things,
// certificates, groups, deployments, core devices) are the ports of
// internal/cloud, implemented by the self-hosted cloud and, later, by an adapter
// to AWS. Its own records lie in the store of record (internal/state), long work
// runs on the task engine (internal/task).
//
// Words: a Template is a named, versioned list of components. A core's desired
// template is what a deployment task asked for, its reported template is what
// the core itself last reported as done.
package fleet
