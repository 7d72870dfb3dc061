package app

// Policies is policies.
var Policies = policies //nolint:gochecknoglobals // for tests

// CorePolicy and TokenExchangePolicy name policies of the first start.
const (
	CorePolicy          = corePolicy
	TokenExchangePolicy = tokenExchangePolicy
)
