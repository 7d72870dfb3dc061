package selfhosted

// For tests from outside.
var NewSessions = newSessions

func (s *Sessions) Began(clientID string)       { s.began(clientID) }
func (s *Sessions) Ended(clientID string)       { s.ended(clientID) }
func (s *Sessions) Elsewhere(thing string) bool { return s.elsewhere(thing) }
