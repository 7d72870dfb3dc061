module github.com/ggfleet/ggfleet/installer

go 1.26.0

require (
	aead.dev/minisign v0.3.0
	github.com/ggfleet/ggfleet/shared v0.0.0
	github.com/stretchr/testify v1.12.1
	go.yaml.in/yaml/v3 v3.0.5
)

require (
	golang.org/x/crypto v0.13.0 // indirect
	golang.org/x/sys v0.12.0 // indirect
)

replace github.com/ggfleet/ggfleet/shared => ../shared
