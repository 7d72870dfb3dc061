// Package load measures a running ggfleet from the outside and prints each figure
// beside a floor that was measured in the same run, so that figures of different
// machines compare. Nothing here asserts a time.
//
// `make bench` runs the sizes that docs/benchmarks.md speaks of and prints the rows
// of its table; without GGFLEET_BENCH each benchmark runs small, so that it cannot
// rot. GGFLEET_BENCH_LARGE lets the fleet grow to 100,000 cores. Sizes can be set:
// GGFLEET_BENCH_CORES, _CONNECTED, _ROLLOUT, _COMPONENTS, _ARTIFACT_MB, _SESSIONS, _DEVICES, _EVENTS.
// GGFLEET_BENCH_PROFILES names a directory for CPU profiles of the control plane,
// GGFLEET_BENCH_FLAGS holds further flags of ggfleet serve.
package load
