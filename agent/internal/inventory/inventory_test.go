package inventory_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/inventory"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestThisHostHasACondition(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	r := inventory.New("/")
	h := r.Read(t.TempDir())
	assert.Positive(t, h.UptimeSeconds)
	require.NotNil(t, h.Load1)
	require.NotNil(t, h.MemoryBytes)
	assert.Less(t, *h.MemoryUsedBytes, *h.MemoryBytes)
	require.NotNil(t, h.Disk.Bytes)
	assert.LessOrEqual(t, *h.Disk.FreeBytes, *h.Disk.Bytes)
	require.NotNil(t, h.Disk.ReadOnly)
	assert.False(t, *h.Disk.ReadOnly)
	assert.NotNil(t, h.ClockSynchronized)
	assert.Zero(t, r.Read("/no/such/path").Disk, "unknown is not zero")

	f := r.Facts()
	assert.Equal(t, runtime.GOOS, f.OS)
	assert.Equal(t, runtime.GOARCH, f.Architecture)
	assert.NotEmpty(t, f.Kernel)
	assert.NotEmpty(t, f.BootID)
	assert.Equal(t, f, r.Facts(), "nothing changed")
}

// machine lays out the pseudo files of a machine.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		p := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o700))
		require.NoError(t, os.WriteFile(p, []byte(content), 0o600))
	}
	return root
}

func TestMachines(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	tests := map[string]struct {
		files map[string]string
		facts protocol.HostFacts
		heat  any
	}{
		"a small computer is known by its device tree": {
			files: map[string]string{
				"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\x00", "proc/device-tree/serial-number": "10000000a1b2c3d4\x00",
				"proc/sys/kernel/osrelease": "6.12.41-v8\n", "proc/sys/kernel/random/boot_id": "0b9d2c1e-5a54-4c8e-9b7d-3f1f2e5d6c7b\n",
				"etc/os-release":                       "NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n",
				"sys/class/thermal/thermal_zone0/temp": "48312\n", "sys/class/thermal/thermal_zone1/temp": "51000\n",
				"sys/class/hwmon/hwmon0/temp1_input": "99000\n",
				"proc/net/route":                     "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\nwlan0\t00000000\t010200C0\t0003\t0\t0\t600\t00000000\nwlan0\t000200C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\n",
			},
			facts: protocol.HostFacts{
				Model: "Raspberry Pi 4 Model B Rev 1.4", Serial: "10000000a1b2c3d4", Kernel: "6.12.41-v8", BootID: "0b9d2c1e-5a54-4c8e-9b7d-3f1f2e5d6c7b",
				Distribution: "Debian GNU/Linux 13 (trixie)", Routes: []protocol.DefaultRoute{{Interface: "wlan0", Gateway: "192.0.2.1"}},
			},
			heat: 51.0,
		},
		"a PC is known by its DMI, and placeholders are nothing": {
			files: map[string]string{
				"sys/class/dmi/id/sys_vendor": "Advantech\n", "sys/class/dmi/id/product_name": "UNO-2271G\n", "sys/class/dmi/id/product_serial": "To Be Filled By O.E.M.\n",
				"sys/class/dmi/id/board_serial": "KSA1234567\n", "usr/lib/os-release": "PRETTY_NAME=Yocto\n",
				"sys/class/hwmon/hwmon0/temp1_input": "-273200\n", "sys/class/hwmon/hwmon1/temp1_input": "40500\n",
				"proc/net/ipv6_route": "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n" +
					"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n",
			},
			facts: protocol.HostFacts{
				Model: "Advantech UNO-2271G", Serial: "KSA1234567", Distribution: "Yocto", Routes: []protocol.DefaultRoute{{Interface: "eth0", Gateway: "fe80::1"}},
			},
			heat: 40.5,
		},
		"an empty root tells nothing": {},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := inventory.New(machine(t, tc.files))
			got := r.Facts()
			tc.facts.OS, tc.facts.Architecture, tc.facts.CPUs, tc.facts.Interfaces = got.OS, got.Architecture, got.CPUs, got.Interfaces
			assert.Equal(t, tc.facts, got)
			heat := r.Read("/").TemperatureCelsius
			if tc.heat == nil {
				assert.Nil(t, heat)
				return
			}
			require.NotNil(t, heat)
			assert.InDelta(t, tc.heat, *heat, 0.01)
		})
	}
}

func FuzzPseudoFiles(f *testing.F) {
	f.Add([]byte("MemTotal: 100 kB\nMemAvailable: 40 kB\n"))
	f.Add([]byte("wlan0\t00000000\t010200C0\t0003\t0\t0\t600\t00000000\n"))
	f.Add([]byte("00000000000000000000000000000000 00 0 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n"))
	f.Add([]byte("PRETTY_NAME=\"x\x00\xff\"\n48312\n0.25 0.1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range []string{inventory.Fact(b), inventory.PrettyName(b)} {
			require.LessOrEqual(t, len(s), inventory.MaxFact)
			require.NotContains(t, s, "\n")
			require.Equal(t, strings.ToValidUTF8(s, ""), s)
		}
		if v, ok := inventory.Number(b); ok {
			_, err := json.Marshal(v)
			require.NoError(t, err, "it can be told")
			require.GreaterOrEqual(t, v, 0.0)
		}
		if v, ok := inventory.Celsius(b); ok {
			require.Greater(t, v, -60.0)
			require.Less(t, v, 150.0)
		}
		if total, used, ok := inventory.Memory(b); ok {
			require.LessOrEqual(t, used, total)
		}
		for _, list := range [][]protocol.DefaultRoute{inventory.Routes4(b), inventory.Routes6(b)} {
			require.LessOrEqual(t, len(list), inventory.MaxRoutes)
			for _, r := range list {
				require.NotEmpty(t, r.Interface)
				if r.Gateway != "" {
					_, err := netip.ParseAddr(r.Gateway)
					require.NoError(t, err)
				}
			}
		}
	})
}
