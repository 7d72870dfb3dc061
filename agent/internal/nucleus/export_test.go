package nucleus

// ShownUnits tells how many units of systemctl's output are up and how often they
// were restarted.
func ShownUnits(out string) (up, restarted int) {
	us := parseShow(out)
	for _, u := range us {
		if u.up() {
			up++
		}
	}
	return up, restarts(us)
}
