package webhook_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// answer reads an answer off a connection; 0 is none.
func answer(c net.Conn) int {
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func head(path, secret string, length int) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s: %s\r\nContent-Length: %d\r\n\r\n", path, secretHeader, secret, length)
}

// memory is what is reachable, in bytes.
func memory() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// bubbled counts the goroutines of this test, which others' and the runtime's are
// none of.
func bubbled() (n int, stacks string) {
	synctest.Wait()
	buf := make([]byte, 1<<20)
	stacks = string(buf[:runtime.Stack(buf, true)])
	return strings.Count(stacks, ", synctest bubble "), stacks
}

// A server that sets no time-outs of its own serves strangers: wrong paths,
// secrets, sizes and slow bodies, of which 10,000 have different paths. After
// that memory and goroutines are where they were, and the store of tenants was
// never asked.
func TestAStrangersRequestsLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		store := &flaky{MemoryStore: tenant.NewMemoryStore()}
		m := newMemory(t, inbox.MemoryConfig{})
		rc := newReceiver(t, m, keys, webhook.Config{Tenants: store})
		p := start(t, rc)
		once := func(request string, want int) {
			t.Helper()
			c := p.dial()
			defer c.Close()
			go func() { _, _ = io.WriteString(c, request) }()
			require.Equal(t, want, answer(c))
			_, err := c.Read(make([]byte, 1))
			require.Error(t, err, "the connection is closed")
		}
		path := "/webhook/" + keys.Path("a")
		visit := func(n int) {
			for i := range n {
				once(head(fmt.Sprintf("/webhook/1.%030d", i), "x", 10)+"0123456789", 404)
			}
			for i := range n / 10 {
				once(head(fmt.Sprintf("/%d", i), "x", 1<<30), 404) // and never sends it
				once(head(fmt.Sprintf("/%d", i), "x", 1000), 404)  // nor this, which the server would wait for
				once(head(path, fmt.Sprint(i), 1<<30)+"{", 401)
				once(fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i), 405)
			}
		}
		visit(100) // what is made once
		goroutines, _ := bubbled()
		before := memory()
		visit(10_000)
		after, stacks := bubbled()
		require.NotZero(t, goroutines)
		assert.Equal(t, goroutines, after, stacks)
		assert.Less(t, memory()-before, int64(256<<10))
		assert.Zero(t, store.asked)
		assert.Zero(t, depth(t, m))
		assert.Equal(t, uint64(14_140), rc.Stats().Strangers)
		runtime.KeepAlive(rc)
	})
}

func TestASlowBodyIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		m := newMemory(t, inbox.MemoryConfig{})
		p := start(t, newReceiver(t, m, keys, webhook.Config{BodyTimeout: 5 * time.Second}))
		c := p.dial()
		begun := time.Now()
		var wg sync.WaitGroup
		defer wg.Wait()
		defer c.Close()
		wg.Go(func() {
			_, err := io.WriteString(c, head("/webhook/"+keys.Path("a"), keys.Secret("a"), 1000))
			for err == nil {
				time.Sleep(time.Second)
				_, err = io.WriteString(c, " ")
			}
		})
		assert.Equal(t, http.StatusRequestTimeout, answer(c))
		assert.Equal(t, 5*time.Second, time.Since(begun))
		_, err := c.Read(make([]byte, 1))
		require.Error(t, err)
		assert.Zero(t, depth(t, m))
	})
}

// The deadline of one body does not end the next request, nor the wait for a
// handler.
func TestTheConnectionLivesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		m := newMemory(t, inbox.MemoryConfig{})
		p := start(t, newReceiver(t, m, keys, webhook.Config{BodyTimeout: 5 * time.Second, ReplyWithin: 8 * time.Second}))
		c := p.dial()
		defer c.Close()
		r := bufio.NewReader(c)
		for id := range int64(3) {
			b := body(id + 1)
			begun := time.Now()
			_, err := io.WriteString(c, head("/webhook/"+keys.Path("a"), keys.Secret("a"), len(b))+b)
			require.NoError(t, err)
			resp, err := http.ReadResponse(r, nil)
			require.NoError(t, err)
			_ = resp.Body.Close()
			assert.Equal(t, http.StatusOK, resp.StatusCode)
			assert.Equal(t, 8*time.Second, time.Since(begun))
			time.Sleep(time.Minute)
		}
		// A body that is refused for what it is does no harm either.
		_, err := io.WriteString(c, head("/webhook/"+keys.Path("a"), keys.Secret("a"), 3)+"{}{")
		require.NoError(t, err)
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
		assert.False(t, resp.Close)
		assert.Equal(t, 3, depth(t, m))
	})
}

func TestNoAnswerIs410(t *testing.T) {
	// Telegram deletes a webhook that says so for 23 h. What can be answered
	// is what these tests see; that none of the sources says it is left.
	for _, file := range sources(t) {
		assert.NotContains(t, file.text, "StatusGone", file.name)
		assert.False(t, strings.Contains(file.text, "410)"), file.name)
	}
}
