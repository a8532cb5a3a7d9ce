// Package hookbench measures how many updates per second come in by webhook and
// are handled, with any inbox. It is here so that the modules of the stores,
// which the core may not know, run what package webhook runs.
package hookbench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// Tenants is how many tenants' bots are sent updates.
const Tenants = 20

// Load is how updates are sent.
type Load struct {
	// Connections is how many there are, each of which waits for its answer.
	// Telegram opens up to 40 for each bot; a durable inbox stores together what
	// came on several.
	Connections int
	// Apart, on Linux, gives the sender a processor of its own and the receiver the
	// others, as Telegram has its own machines; elsewhere, and where there is only
	// one, they share.
	Apart bool
}

// Receive delivers messages to a receiver with that inbox, and handlers that do
// nothing. An iteration is an update that was delivered and handled.
func Receive(b *testing.B, in inbox.Inbox, load Load) {
	var handled sync.WaitGroup
	workers, err := inbox.NewWorkers(in, lend{new(tenant.Tenant)}, inbox.HandlerFunc(func(context.Context, *tenant.Tenant, inbox.Update) error {
		handled.Done()
		return nil
	}), inbox.WorkersConfig{})
	require.NoError(b, err)
	require.NoError(b, workers.Start(context.Background()))
	keys, err := webhook.NewKeys(webhook.Key{Master: bytes.Repeat([]byte{7}, 32), Generation: 1})
	require.NoError(b, err)
	receiver, err := webhook.NewReceiver(in, keys, webhook.Config{})
	require.NoError(b, err)
	Deliver(b, receiver, &handled, load, func(i int) (string, string) {
		id := fmt.Sprint("tenant", i)
		return "/webhook/" + keys.Path(id), keys.Secret(id)
	})
	require.NoError(b, workers.Stop(context.Background()))
}

// lend lends a tenant that is open already.
type lend struct{ tenant *tenant.Tenant }

func (l lend) Do(ctx context.Context, id string, f func(context.Context, *tenant.Tenant) error) error {
	return f(ctx, l.tenant)
}

// Deliver sends b.N updates as Telegram does, from another process over loopback,
// and waits until all are handled. The server is one of net/http: that of httptest
// locks all connections for every request. It reports updates/s, and
// cpu-ns/update, the processor time of the process that receives.
//
// The other process is the same program: a package that measures has a test
// that calls [Deliverer], by the name of [DelivererTest].
func Deliver(b *testing.B, h http.Handler, handled *sync.WaitGroup, load Load, target func(tenant int) (path, secret string)) {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	server := http.Server{Handler: h}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	defer serving.Wait()
	defer server.Close()
	each := int64(b.N)/Tenants + 1
	o := order{Address: listener.Addr().String(), Connections: load.Connections, N: int64(b.N), First: began.Add(each) - each} // ids of runs over one inbox are not to meet
	for i := range Tenants {
		path, secret := target(i)
		o.Heads = append(o.Heads, "POST "+path+" HTTP/1.1\r\nHost: hooks.example.com\r\nX-Telegram-Bot-Api-Secret-Token: "+secret+
			"\r\nContent-Type: application/json\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nContent-Length: ")
	}
	text, err := json.Marshal(o)
	require.NoError(b, err)
	program, err := os.Executable()
	require.NoError(b, err)
	sender := exec.Command(program, "-test.run=^"+DelivererTest+"$")
	sender.Env = append(os.Environ(), orderVariable+"="+string(text))
	sender.Stderr = os.Stderr
	in, err := sender.StdinPipe()
	require.NoError(b, err)
	out, err := sender.StdoutPipe()
	require.NoError(b, err)
	started := false
	if load.Apart {
		started, err = startApart(b, sender)
	}
	if !started {
		err = sender.Start()
	}
	require.NoError(b, err)
	defer func() { _ = sender.Wait() }()
	defer in.Close()
	said := bufio.NewReader(out)
	hear(b, said, "ready")
	handled.Add(b.N)
	spent := cpu()
	b.ResetTimer()
	_, err = in.Write([]byte("go\n"))
	require.NoError(b, err)
	hear(b, said, "delivered")
	handled.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
	b.ReportMetric(float64((cpu()-spent).Nanoseconds())/float64(b.N), "cpu-ns/update")
}

var began atomic.Int64

func hear(b *testing.B, r *bufio.Reader, word string) {
	b.Helper()
	line, err := r.ReadString('\n')
	require.NoError(b, err)
	require.Equal(b, word, strings.TrimSpace(line))
}

// order is what the other process is to send.
type order struct {
	Address     string
	Connections int
	Heads       []string // of requests, by tenant
	N, First    int64
}

// orderVariable is the environment variable that has it.
const orderVariable = "TGFLEET_DELIVER"

// DelivererTest is the name of the test that calls [Deliverer].
const DelivererTest = "TestDeliverer"

// Deliverer is what the process does that [Deliver] starts, and nothing in any
// other.
func Deliverer(t *testing.T) {
	text := os.Getenv(orderVariable)
	if text == "" {
		return // this is a run of the tests
	}
	var o order
	require.NoError(t, json.Unmarshal([]byte(text), &o))
	bodies := newBodies()
	conns := make([]net.Conn, o.Connections)
	for i := range conns {
		conn, err := net.Dial("tcp", o.Address)
		require.NoError(t, err)
		defer conn.Close()
		conns[i] = conn
	}
	fmt.Println("ready")
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	require.NoError(t, err)
	if err := send(conns, o, bodies); err != nil {
		fmt.Println(strings.ReplaceAll(err.Error(), "\n", " ")) // the parent compares
		return
	}
	fmt.Println("delivered")
}

// send sends updates over connections in turn until all are sent and answered:
// on each the next once the one before is answered. One goroutine does it for
// all, and mostly finds an answer when it comes to ask for it, so that it takes
// little more of a processor than its system calls do.
func send(conns []net.Conn, o order, bodies bodies) error {
	answers := make([]*bufio.Reader, len(conns))
	for i, conn := range conns {
		answers[i] = bufio.NewReader(conn)
	}
	var out []byte
	window := int64(len(conns))
	for n := int64(1); n <= o.N+window; n++ {
		at := n % window
		if n > window { // the one before was sent
			if err := answer200(answers[at]); err != nil {
				return err
			}
		}
		if n <= o.N {
			out = append(out[:0], o.Heads[n%Tenants]...)
			out = bodies.append(out, int(n), o.First+n/Tenants)
			if _, err := conns[at].Write(out); err != nil {
				return err
			}
		}
	}
	return nil
}

// answer200 reads an answer without a body.
func answer200(r *bufio.Reader) error {
	for line := 0; ; line++ {
		text, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line == 0 && !bytes.HasPrefix(text, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("answer is %q", text)
		}
		if bytes.HasPrefix(text, []byte("Content-Length:")) && !bytes.Equal(bytes.TrimSpace(text), []byte("Content-Length: 0")) {
			return fmt.Errorf("answer has a body")
		}
		if len(text) <= 2 {
			return nil
		}
	}
}

// bodies are messages as users write them, one in each of 1000 chats: a reply
// with some formatting. The ids of the updates are written when they are sent,
// and all else before, so that those who deliver take as little time as they
// can from those who receive.
type bodies []string

const opening = `{"update_id":`

func newBodies() bodies {
	all := make(bodies, 1000)
	for i := range all {
		user := 500_000_000 + i
		all[i] = fmt.Sprintf(`,"message":{"message_id":%d,"from":{"id":%d,"is_bot":false,"first_name":"Ann","last_name":"Example","username":"ann_example","language_code":"en"},`, 100_000_000+i, user) +
			fmt.Sprintf(`"chat":{"id":%d,"first_name":"Ann","last_name":"Example","username":"ann_example","type":"private"},"date":1750000000,`, user) +
			fmt.Sprintf(`"reply_to_message":{"message_id":%d,"from":{"id":77,"is_bot":true,"first_name":"Shop","username":"shop_bot"},"chat":{"id":%d,"first_name":"Ann","last_name":"Example","username":"ann_example","type":"private"},"date":1749999990,"text":"What would you like to order today?"},`, 99_999_999+i, user) +
			`"text":"/order two pizzas, please: https://example.com/menu","entities":[{"offset":0,"length":6,"type":"bot_command"},{"offset":27,"length":24,"type":"url"}],"link_preview_options":{"is_disabled":true}}}`
	}
	return all
}

// append appends the length of the n-th update, the end of a request's head and
// the update.
func (all bodies) append(b []byte, n int, id int64) []byte {
	const digits, base = 9, 100_000_000
	rest := all[n%len(all)]
	b = strconv.AppendInt(b, int64(len(opening)+digits+len(rest)), 10)
	b = append(b, "\r\n\r\n"...)
	b = append(b, opening...)
	b = strconv.AppendInt(b, base+id, 10)
	return append(b, rest...)
}
