package localstate

// DefaultRoot is where the agent lives unless told otherwise.
const DefaultRoot = "/var/lib/ggfleet-agent"
