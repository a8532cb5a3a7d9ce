//go:build unix

package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/mymmrac/telego"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/session"
	"github.com/valyala/fasthttp"
)

const (
	inFlight = 32 // concurrent calls
	chats    = 32

	sendToken = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr"
	sendText  = `Your order <b>1042</b> is on its way. <a href="https://example.com/orders/1042">Track it</a>`
)

// BenchmarkSendTLS measures sendMessage over loopback sockets, 32 calls at a
// time. tls/ is a server that offers HTTP/2 and HTTP/1.1, as api.telegram.org
// does; http/ is plain HTTP/1.1, as a self-hosted Bot API server speaks it.
// The server runs in a process of its own, so cpu-µs/op is the user and system
// time of the client alone. Connections are open before the timer starts.
//
// The libraries do different amounts of work:
//
//   - gotgbot is BaseBotClient with net/http, configured to keep 32 idle
//     connections, and a time-out.
//   - telego has its default client, which is fasthttp: HTTP/1.1 also over TLS,
//     and no time-out.
//   - tgfleet is gotgbot on a session with retry, rate limits, circuit breakers,
//     health and usage. The limits are applied but never delay a call.
func BenchmarkSendTLS(b *testing.B) {
	api := startAPI(b)
	for _, client := range sendClients {
		b.Run(client.name, func(b *testing.B) {
			send := client.make(b, api)
			sendMany(b, 10*inFlight, send)
			b.ReportAllocs()
			b.ResetTimer()
			start := processorTime(b)
			sendMany(b, b.N, send)
			used := processorTime(b) - start
			b.ReportMetric(float64(used)/float64(time.Microsecond)/float64(b.N), "cpu-µs/op")
		})
	}
}

// TestSendTLS sends one message through each client of BenchmarkSendTLS and
// checks the protocol, which the figures depend on.
func TestSendTLS(t *testing.T) {
	api := startAPI(t)
	for _, client := range sendClients {
		t.Run(client.name, func(t *testing.T) {
			id, err := client.make(t, api)(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			if want := messageID(client.protocol); id != want {
				t.Errorf("message id %d, want %d, which stands for HTTP/%d", id, want, client.protocol)
			}
		})
	}
}

// sender sends a message to a chat and returns the message's id.
type sender func(ctx context.Context, chat int64) (int64, error)

var sendClients = []struct {
	name     string
	protocol int // major version of HTTP
	make     func(testing.TB, *sendAPI) sender
}{
	{"tls/gotgbot", 2, func(tb testing.TB, api *sendAPI) sender { return gotgbotSender(tb, api.TLS, api.trust(tb)) }},
	{"tls/telego", 1, func(tb testing.TB, api *sendAPI) sender { return telegoSender(tb, api.TLS, api.trust(tb)) }},
	{"tls/tgfleet", 2, func(tb testing.TB, api *sendAPI) sender { return tgfleetSender(tb, api.TLS, api.trust(tb)) }},
	{"http/gotgbot", 1, func(tb testing.TB, api *sendAPI) sender { return gotgbotSender(tb, api.HTTP, nil) }},
	{"http/telego", 1, func(tb testing.TB, api *sendAPI) sender { return telegoSender(tb, api.HTTP, nil) }},
	{"http/tgfleet", 1, func(tb testing.TB, api *sendAPI) sender { return tgfleetSender(tb, api.HTTP, nil) }},
}

func gotgbotSender(tb testing.TB, url string, trust *tls.Config) sender {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = trust
	transport.ForceAttemptHTTP2 = true
	transport.MaxIdleConnsPerHost = inFlight
	tb.Cleanup(transport.CloseIdleConnections)
	bot, err := gotgbot.NewBot(sendToken, &gotgbot.BotOpts{
		DisableTokenCheck: true,
		BotClient: &gotgbot.BaseBotClient{
			Client:             http.Client{Transport: transport},
			DefaultRequestOpts: &gotgbot.RequestOpts{APIURL: url, Timeout: time.Minute},
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return sendByGotgbot(bot)
}

func sendByGotgbot(bot *gotgbot.Bot) sender {
	return func(ctx context.Context, chat int64) (int64, error) {
		m, err := bot.SendMessageWithContext(ctx, chat, sendText, &gotgbot.SendMessageOpts{ParseMode: "HTML"})
		if err != nil {
			return 0, err
		}
		return m.MessageId, nil
	}
}

// telegoSender closes its connections at the end. fasthttp's clean-up goroutines
// sleep up to 10 s more; the one for addresses runs as long as the process.
func telegoSender(tb testing.TB, url string, trust *tls.Config) sender {
	client := &fasthttp.Client{TLSConfig: trust}
	tb.Cleanup(client.CloseIdleConnections)
	bot, err := telego.NewBot(sendToken,
		telego.WithFastHTTPClient(client), telego.WithAPIServer(url), telego.WithDiscardLogger())
	if err != nil {
		tb.Fatal(err)
	}
	return func(ctx context.Context, chat int64) (int64, error) {
		m, err := bot.SendMessage(ctx, &telego.SendMessageParams{
			ChatID: telego.ChatID{ID: chat}, Text: sendText, ParseMode: telego.ModeHTML,
		})
		if err != nil {
			return 0, err
		}
		return int64(m.MessageID), nil
	}
}

func tgfleetSender(tb testing.TB, url string, trust *tls.Config) sender {
	monitor, err := health.New(health.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	recorder, err := usage.New(usage.Config{Store: usage.NewMemoryStore()})
	if err != nil {
		tb.Fatal(err)
	}
	guard, err := session.NewGuard(session.GuardConfig{Limit: wideLimits(), Health: monitor, Usage: recorder})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(guard.Close)
	s, err := session.New(session.Config{
		APIURL: url, TLS: trust,
		// Without HTTP/2 each call needs a connection; the default is 30.
		MaxConnsPerHost: inFlight,
		Guard:           guard,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	token, err := session.ParseToken(sendToken)
	if err != nil {
		tb.Fatal(err)
	}
	return sendByGotgbot(s.Bot("shop", token, gotgbot.User{}))
}

// sendMany sends n messages, with inFlight calls at a time.
func sendMany(b *testing.B, n int, send sender) {
	var sent atomic.Int64
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			for {
				i := sent.Add(1)
				if i > int64(n) {
					return
				}
				if _, err := send(context.Background(), 1+i%chats); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// processorTime returns the user and system time that this process has used.
func processorTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sendAPI describes a running server. The server writes it to its standard output.
type sendAPI struct {
	TLS, HTTP   string // URLs
	Certificate []byte // DER
}

// trust returns a client configuration that accepts the server's certificate.
func (a *sendAPI) trust(tb testing.TB) *tls.Config {
	cert, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{RootCAs: roots}
}

// serveAPIEnv makes the test binary a Bot API server.
const serveAPIEnv = "TGFLEET_BENCH_SERVE_API"

func TestMain(m *testing.M) {
	if os.Getenv(serveAPIEnv) == "" {
		os.Exit(m.Run())
	}
	if err := serveAPI(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "serve the Bot API:", err)
		os.Exit(1)
	}
}

// startAPI runs the test binary as a server. It ends with the test, because its
// standard input is closed then, also if this process is killed.
func startAPI(tb testing.TB) *sendAPI {
	path, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), serveAPIEnv+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(stdin.Close(), cmd.Wait()); err != nil {
			tb.Error(err)
		}
	})
	api := new(sendAPI)
	if err := json.NewDecoder(stdout).Decode(api); err != nil {
		tb.Fatal(err)
	}
	return api
}

// serveAPI serves sendMessage with and without TLS until in ends.
func serveAPI(in io.Reader, out io.Writer) error {
	plain := httptest.NewServer(http.HandlerFunc(answerSendMessage))
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.HandlerFunc(answerSendMessage))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	api := sendAPI{TLS: secure.URL, HTTP: plain.URL, Certificate: secure.Certificate().Raw}
	if err := json.NewEncoder(out).Encode(api); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, in)
	return err
}

// answerSendMessage answers with the headers and a message as api.telegram.org
// sends them. The message is the same for all requests but for its id.
func answerSendMessage(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || !strings.HasSuffix(r.URL.Path, "/sendMessage") || !strings.Contains(string(body), "order") {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"ok":false,"error_code":400,"description":"Bad Request"}`)
		return
	}
	reply := sendReplies[r.ProtoMajor]
	header := w.Header()
	header["Server"] = []string{"nginx/1.18.0"}
	header["Content-Type"] = []string{"application/json"}
	header["Content-Length"] = []string{strconv.Itoa(len(reply))}
	header["Strict-Transport-Security"] = []string{"max-age=31536000; includeSubDomains; preload"}
	header["Access-Control-Allow-Origin"] = []string{"*"}
	header["Access-Control-Allow-Methods"] = []string{"GET, POST, OPTIONS"}
	header["Access-Control-Expose-Headers"] = []string{"Content-Length,Content-Type,Date,Server,Connection"}
	_, _ = io.WriteString(w, reply)
}

// messageID returns the id of all messages sent by a major version of HTTP.
func messageID(protocol int) int64 { return 48210 + int64(protocol) }

var sendReplies = map[int]string{1: sendReply(1), 2: sendReply(2)}

func sendReply(protocol int) string {
	return fmt.Sprintf(`{"ok":true,"result":{"message_id":%d,`+
		`"from":{"id":123456,"is_bot":true,"first_name":"Shop","username":"shop_bot"},`+
		`"chat":{"id":1042137,"first_name":"Ann","last_name":"Smith","username":"ann_smith","type":"private"},`+
		`"date":1764360000,"text":"Your order 1042 is on its way. Track it",`+
		`"entities":[{"offset":11,"length":4,"type":"bold"},`+
		`{"offset":31,"length":8,"type":"text_link","url":"https://example.com/orders/1042"}]}}`, messageID(protocol))
}
