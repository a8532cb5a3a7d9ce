package bottest

import (
	"bytes"
	"container/list"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// How the real server delivers (WebhookActor.cpp).
const (
	hookTimeout    = 60 * time.Second
	hookMaxDelay   = 60 // seconds; the longest delay is random, from this to its double
	hookRetryAfter = 3600
	hookGone       = 23 * time.Hour
	maxHookAnswer  = 1 << 20 // bytes
)

// delivery brings a bot's updates to its webhook. It runs while there are any.
type delivery struct {
	bot         *Bot
	url         *url.URL
	secret      string
	connections int
	ctx         context.Context
	cancel      context.CancelFunc
	kick        chan struct{}

	// The bot's lock guards these.
	active int
	seen   map[lane]bool
}

// newDelivery prepares delivery to the bot's webhook. The caller holds the
// bot's lock.
func newDelivery(b *Bot) *delivery {
	at, err := parseHookURL(b.webhook.url)
	if err != nil {
		at = &url.URL{} // was parsed when it was set
	}
	d := &delivery{
		bot: b, url: at, secret: b.webhook.secret, connections: b.webhook.connections,
		kick: make(chan struct{}, 1), seen: make(map[lane]bool),
	}
	d.ctx, d.cancel = context.WithCancel(b.srv.ctx)
	return d
}

func (d *delivery) signal() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// run starts deliveries as they fall due, until nothing is left.
func (d *delivery) run() {
	defer d.bot.srv.end()
	defer d.cancel()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait, more := d.dispatch()
		if !more {
			return
		}
		timer.Reset(wait)
		select {
		case <-d.kick:
		case <-timer.C:
		case <-d.ctx.Done():
		}
	}
}

// dispatch starts every delivery that is due: the first of each lane, as far
// as connections go, out of the first updates of the queue, as many as the
// real server loads. It returns when to look again.
func (d *delivery) dispatch() (wait time.Duration, more bool) {
	b := d.bot
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.queue.prune(now)
	if d.ctx.Err() != nil || b.queue.list.Len() == 0 && d.active == 0 {
		if b.webhook.delivery == d {
			b.webhook.delivery = nil
		}
		return 0, false
	}
	wait = keepUpdate
	clear(d.seen)
	loaded := 0
	for e := b.queue.list.Front(); e != nil && loaded < 2*d.connections; e = e.Next() {
		loaded++
		u := e.Value.(*update)
		if u.lane != (lane{}) {
			if d.seen[u.lane] {
				continue
			}
			d.seen[u.lane] = true
		}
		switch {
		case u.sending:
		case u.next.After(now):
			wait = min(wait, u.next.Sub(now))
		case d.active >= d.connections:
			return wait, true // one that ends will look again
		case b.srv.begin():
			u.sending = true
			d.active++
			go d.deliver(e, u)
		}
	}
	return wait, true
}

// deliver sends one update and does what the answer says.
func (d *delivery) deliver(e *list.Element, u *update) {
	defer d.bot.srv.end()
	status, header, body, err := d.post(u)
	if err == nil && status/100 == 2 {
		d.bot.runReply(header.Get("Content-Type"), body)
	}
	d.finish(e, u, status, header, err)
	d.signal()
}

func (d *delivery) post(u *update) (status int, header http.Header, body []byte, err error) {
	ctx, cancel := context.WithTimeout(d.ctx, hookTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url.String(), bytes.NewReader(u.body))
	if err != nil {
		return 0, nil, nil, err
	}
	r.Header.Set("Content-Type", jsonType)
	if d.secret != "" {
		r.Header.Set("X-Telegram-Bot-Api-Secret-Token", d.secret)
	}
	if user := d.url.User; user != nil {
		password, _ := user.Password()
		r.SetBasicAuth(user.Username(), password)
	}
	resp, err := d.bot.srv.hooks.RoundTrip(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxHookAnswer))
	return resp.StatusCode, resp.Header, body, err
}

// finish takes the update off the queue or puts its next try down.
func (d *delivery) finish(e *list.Element, u *update, status int, header http.Header, err error) {
	b := d.bot
	b.mu.Lock()
	defer b.mu.Unlock()
	d.active--
	w := &b.webhook
	if w.delivery != d { // the webhook was changed or deleted meanwhile
		return
	}
	u.sending = false
	now := time.Now()
	if status != http.StatusGone && status != 0 {
		w.goneSince = time.Time{}
	}
	if err == nil && status/100 == 2 {
		b.queue.list.Remove(e)
		return
	}
	w.errorAt = now
	if err != nil {
		w.errorText = hookError(err)
	} else {
		w.errorText = "Wrong response from the webhook: " + strconv.Itoa(status) + " " + http.StatusText(status)
	}
	if status == http.StatusGone {
		if w.goneSince.IsZero() {
			w.goneSince = now
		} else if now.Sub(w.goneSince) > hookGone {
			w.stop()
			b.queue.retryAll(now)
			return
		}
	}
	retryAfter, _ := strconv.Atoi(header.Get("Retry-After"))
	retryAfter = min(max(retryAfter, 0), hookRetryAfter)
	if wait := u.failed(retryAfter, b.srv); now.Add(wait).After(u.expires) {
		b.queue.list.Remove(e)
	} else {
		u.next = now.Add(wait)
	}
}

// failed counts a failure and returns how long to wait: what the webhook asked
// for, or nothing after the first failure, then 2, 4, 8 ... seconds.
func (u *update) failed(retryAfter int, s *Server) time.Duration {
	wait := time.Duration(retryAfter) * time.Second
	if retryAfter == 0 && u.failures > 0 {
		longest := time.Duration(s.rand.between(hookMaxDelay, 2*hookMaxDelay)) * time.Second
		u.delay = min(longest, 2*u.delay)
		wait = u.delay
	}
	u.failures++
	return wait
}

// retryAll forgets what deliveries have done so far.
func (q *updateQueue) retryAll(now time.Time) {
	for e := q.list.Front(); e != nil; e = e.Next() {
		u := e.Value.(*update)
		u.sending, u.failures, u.delay, u.next = false, 0, time.Second, now
	}
}

// drop forgets all updates. It takes them out one by one, so that a delivery
// under way sees that its update is gone.
func (q *updateQueue) drop() {
	for e := q.list.Front(); e != nil; e = q.list.Front() {
		q.list.Remove(e)
	}
}

// hookError is last_error_message for an error of the connection.
func hookError(err error) string {
	var (
		dns     *net.DNSError
		network net.Error
		cert    *x509.UnknownAuthorityError
		host    x509.HostnameError
	)
	switch {
	case errors.As(err, &dns):
		return "Failed to resolve host: Name or service not known"
	case errors.As(err, &cert) || errors.As(err, &host):
		return "SSL error {error:0A000086:SSL routines::certificate verify failed}"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "Connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "Connection reset by peer"
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout():
		return "Read timeout expired"
	}
	return "Webhook connection closed"
}

// runReply executes the method that a webhook's answer asks for, if it asks
// for one that may be. Nobody hears the result, but the inspector has it.
func (b *Bot) runReply(contentType string, body []byte) {
	if len(bytes.TrimSpace(body)) == 0 {
		return
	}
	s := b.srv
	q := &request{srv: s, ctx: s.ctx, bot: b, token: b.Token(), params: make(params)}
	q.call = Call{Time: time.Now(), Bot: b, ContentType: contentType, Remote: "webhook"}
	bad := q.readBody(bytes.NewReader(body), contentType)
	name := strings.ToLower(q.params.get("method"))
	switch name {
	case "", "setwebhook", "deletewebhook", "close", "logout":
		return
	}
	if bad != nil || strings.HasPrefix(name, "get") || !q.params.valid() {
		return
	}
	q.nameIt(name)
	q.call.Params = q.params
	q.record(q.perform(q.call.Remote, 0))
}
