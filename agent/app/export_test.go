package app

// ServiceEnv is serviceEnv for tests.
func ServiceEnv(file string) func(string) string { return serviceEnv(file) }
