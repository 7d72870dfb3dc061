module github.com/ggfleet/ggfleet/test

go 1.26.0

require (
	github.com/ggfleet/ggfleet/installer v0.0.0
	github.com/ggfleet/ggfleet/shared v0.0.0
)

require (
	github.com/Masterminds/semver/v3 v3.5.0
	github.com/gorilla/websocket v1.5.0 // indirect
	github.com/mochi-mqtt/server/v2 v2.7.9
	github.com/rs/xid v1.4.0 // indirect
	github.com/stretchr/testify v1.12.1
	go.yaml.in/yaml/v3 v3.0.5
)

replace github.com/ggfleet/ggfleet/shared => ../shared

replace github.com/ggfleet/ggfleet/installer => ../installer
