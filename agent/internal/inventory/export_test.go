package inventory

var (
	Fact       = fact
	Number     = number
	Memory     = memory
	Celsius    = celsius
	PrettyName = prettyName
	Routes4    = routes4
	Routes6    = routes6
)

const (
	MaxFact   = maxFact
	MaxRoutes = maxRoutes
)
