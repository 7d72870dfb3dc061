package app

// Policies is policies.
var Policies = policies

// CorePolicy and TokenExchangePolicy name policies of the first start.
const (
	CorePolicy          = corePolicy
	TokenExchangePolicy = tokenExchangePolicy
	ClientPolicy        = clientPolicy
)

// Bounded names the servers whose open connections are bounded.
func (a *App) Bounded() (names []string) {
	for _, s := range a.servers {
		if s.http.ConnState != nil {
			names = append(names, s.name)
		}
	}
	return names
}
