package host

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
)

// machineID is equal for members that share a machine and its network, and for
// no others: those can reach the same nodes at loopback. It is a hash of what
// the kernel says of its boot, of the network namespace, and of the host's name,
// which tells machines apart where the kernel says nothing.
func machineID(hostname string) string {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	network, _ := os.Readlink("/proc/self/ns/net")
	sum := sha256.Sum256([]byte(strings.Join([]string{"debughost machine", string(boot), network, hostname}, "\x00")))
	return hex.EncodeToString(sum[:8])
}
