package app

// Policies is policies.
var Policies = policies

// CorePolicy and TokenExchangePolicy name policies of the first start.
const (
	CorePolicy          = corePolicy
	TokenExchangePolicy = tokenExchangePolicy
	ClientPolicy        = clientPolicy
)
