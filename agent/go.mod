module github.com/ggfleet/ggfleet/agent

go 1.26.0

require (
	github.com/ThalesGroup/crypto11 v1.5.0
	github.com/eclipse/paho.golang v0.23.0
	github.com/ggfleet/ggfleet/installer v0.0.0
	github.com/ggfleet/ggfleet/shared v0.0.0
	github.com/google/go-tpm v0.9.8
	github.com/kardianos/service v1.3.0
	github.com/miekg/pkcs11 v1.1.1
	github.com/mochi-mqtt/server/v2 v2.7.9
	github.com/spf13/cobra v1.10.2
	github.com/stretchr/testify v1.12.1
	go.yaml.in/yaml/v3 v3.0.5
	golang.org/x/net v0.43.0
	golang.org/x/sys v0.35.0
	pgregory.net/rapid v1.3.0
)

require (
	aead.dev/minisign v0.3.0 // indirect
	github.com/gorilla/websocket v1.5.3 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/rs/xid v1.4.0 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	github.com/thales-e-security/pool v0.0.2 // indirect
	golang.org/x/crypto v0.41.0 // indirect
	golang.org/x/text v0.28.0 // indirect
)

replace github.com/ggfleet/ggfleet/installer => ../installer

replace github.com/ggfleet/ggfleet/shared => ../shared
