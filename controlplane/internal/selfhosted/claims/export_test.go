package claims

// Filled is a template without functions.
type Filled struct {
	Body          []byte
	Parameters    map[string]string
	Configuration map[string]any
}

// Check looks at a body as CreateTemplate does, but for what the registrar says.
func Check(body string) error {
	d, err := parse(body)
	if err == nil {
		_, err = d.check()
	}
	return err
}

// Fill works a body out for one device.
func Fill(body string, given map[string]string) (Filled, error) {
	d, err := parse(body)
	if err != nil {
		return Filled{}, err
	}
	p, err := d.fill(given)
	return Filled{p.body, p.parameters, p.configuration}, err
}
