module github.com/ggfleet/ggfleet/agent

go 1.26.0

require (
	github.com/ggfleet/ggfleet/installer v0.0.0
	github.com/ggfleet/ggfleet/shared v0.0.0
)

require (
	github.com/eclipse/paho.golang v0.23.0 // indirect
	github.com/gorilla/websocket v1.5.3 // indirect
	github.com/kardianos/service v1.3.0 // indirect
	github.com/mochi-mqtt/server/v2 v2.7.9 // indirect
	github.com/rs/xid v1.4.0 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	golang.org/x/sys v0.34.0 // indirect
)

replace github.com/ggfleet/ggfleet/installer => ../installer

replace github.com/ggfleet/ggfleet/shared => ../shared
