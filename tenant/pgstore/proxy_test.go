package pgstore_test

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// proxy stands between a pool and its server, and cuts connections.
type proxy struct {
	listener net.Listener
	server   string
	wg       sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]bool
	refuse  bool
	last    bool  // refuse once a connection was cut
	toCut   int64 // bytes to pass before the cut; < 0: no cut
	answers bool  // count the server's bytes, not the client's
	passed  int64
	frozen  chan struct{} // where not nil, toCut freezes and does not cut; closed then
	thawed  chan struct{} // closed with the connections
}

func newProxy(t testing.TB, url string) *proxy {
	cfg, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	p := &proxy{server: net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port)), conns: map[net.Conn]bool{}, toCut: -1}
	p.listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = p.listener.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		if p.refuse {
			p.mu.Unlock()
			_ = client.Close()
			_ = server.Close()
			continue
		}
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		p.wg.Go(func() { p.copy(server, client, false) })
		p.wg.Go(func() { p.copy(client, server, true) })
	}
}

func (p *proxy) copy(to, from net.Conn, answers bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			pass, cut := p.allow(n, answers)
			if _, werr := to.Write(buf[:pass]); werr != nil {
				err = werr
			}
			if cut {
				err = io.EOF
				p.freeze()
			}
		}
		if err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
	p.mu.Lock()
	delete(p.conns, to)
	delete(p.conns, from)
	p.mu.Unlock()
}

// allow says how many bytes pass, and whether the connection is cut then.
func (p *proxy) allow(n int, answers bool) (pass int, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if answers != p.answers {
		return n, false
	}
	p.passed += int64(n)
	if p.toCut < 0 {
		return n, false
	}
	if int64(n) <= p.toCut {
		p.toCut -= int64(n)
		return n, false
	}
	pass = int(p.toCut)
	p.toCut = -1
	p.refuse, p.last = p.refuse || p.last, false
	return pass, true
}

// cutAfter cuts the connection over which the byte after the next n goes.
func (p *proxy) cutAfter(n int64, answers bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toCut, p.answers, p.passed = n, answers, 0
}

// refuseAfterCut lets no connection be made after the next cut.
func (p *proxy) refuseAfterCut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = true
}

// freezeAfter lets the client's connection fall silent, without an end, before
// the byte after the next n. cut ends that.
func (p *proxy) freezeAfter(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toCut, p.answers, p.passed = n, false, 0
	p.frozen, p.thawed = make(chan struct{}), make(chan struct{})
}

// freeze holds up a connection that is to be frozen.
func (p *proxy) freeze() {
	p.mu.Lock()
	frozen, thawed := p.frozen, p.thawed
	p.mu.Unlock()
	if frozen != nil {
		close(frozen)
		<-thawed
	}
}

func (p *proxy) waitFrozen(t testing.TB) {
	p.mu.Lock()
	frozen := p.frozen
	p.mu.Unlock()
	select {
	case <-frozen:
	case <-time.After(30 * time.Second):
		t.Fatal("the connection does not freeze")
	}
}

func (p *proxy) bytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passed
}

// cut cuts all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	if p.thawed != nil {
		close(p.thawed)
		p.frozen, p.thawed = nil, nil
	}
}

func (p *proxy) setRefuse(refuse bool) {
	p.mu.Lock()
	p.refuse = refuse
	p.mu.Unlock()
	if refuse {
		p.cut()
	}
}
