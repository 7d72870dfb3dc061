package fleet

// CheckTemplate lets tests try the check without a service.
func CheckTemplate(n NewTemplate) error { return checkTemplate(&n) }
