//go:build !linux

package session

import "net"

// keepSendQueueShort does nothing where the system has no such bound.
func keepSendQueueShort(net.Conn) {}
