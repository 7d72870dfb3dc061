package app

// ServiceEnv is serviceEnv for tests.
func ServiceEnv(file string) func(string) string { return serviceEnv(file) }

// RootFlag is rootFlag for tests.
func RootFlag(root string) string { return rootFlag(root) }
