package session

import (
	"net"
	"syscall"
)

// tcpNotSentLowat is TCP_NOTSENT_LOWAT (linux/tcp.h), which package syscall lacks.
const tcpNotSentLowat = 25

// keepSendQueueShort bounds the bytes that wait in the kernel to be sent. Behind
// megabytes of an upload a ping would not be answered in time.
func keepSendQueueShort(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, 64<<10)
	})
}
