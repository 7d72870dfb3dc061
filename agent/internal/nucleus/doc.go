// Package nucleus keeps the nucleus running: starts it, starts it again with
// growing waits when it ends by itself, proves that it works (the health gate),
// and stops it.
//
// There are two ways to run one. A process group of the agent's own: it outlives
// an agent that is killed; its pid, start time and a token in its environment are
// stored, the token before the start, so that the next agent takes it up and
// never starts a second one. Or services of the host's systemd: they belong to the
// host, start with it, and go on when the agent stops; the agent watches them, and
// starts what systemd has given up.
//
// The package does not install and does not decide which version runs.
package nucleus
