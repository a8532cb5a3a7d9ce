package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// Inbox is where received updates go. Every [inbox.Inbox] is one.
type Inbox interface {
	// Put stores updates; see [inbox.Inbox].
	Put(ctx context.Context, batch []inbox.Update) ([]inbox.Outcome, error)
}

// Config configures a [Receiver]. Its zero value is a good one. Negative values
// are errors.
type Config struct {
	// Tenants tells which tenants' updates are wanted. Nil wants all whose
	// path and secret are right.
	Tenants Tenants
	// StatusFor is for how long a tenant's status is remembered, so for how
	// long a suspended one may still get updates. 0 means 10 s.
	StatusFor time.Duration

	// Networks are those that requests may come from, such as
	// [TelegramNetworks]. Empty is all: the path and the secret are what
	// protects a webhook, and Telegram may move.
	Networks []netip.Prefix
	// TrustedProxies are the networks whose X-Forwarded-For is believed. It is
	// read from the right. Empty believes none.
	TrustedProxies []netip.Prefix

	// MaxBody bounds an update, in bytes. 0 means 1 MiB, which is many times
	// what Telegram sends; the most is 1 GiB. Room for a body is made at once
	// when its length is told.
	MaxBody int64
	// BodyTimeout bounds how long the body may take to come. 0 means 10 s.
	BodyTimeout time.Duration
	// PutTimeout bounds each Put of the inbox, to that or a tenth less, and how
	// long an update waits until its Put begins. So an answer takes at most
	// twice as long, where the inbox obeys its context. 0 means 10 s. Telegram
	// waits for an answer for 60 s.
	PutTimeout time.Duration
	// MaxWaiting bounds how many updates wait for their Put to begin. Those
	// past it are answered 503 at once. 0 means 4096.
	MaxWaiting int
	// MaxBatch bounds how many updates are put together. 0 means 256.
	MaxBatch int

	// RetryAfter is when Telegram is to come back after a failure of the
	// inbox. 0 means 5 s.
	RetryAfter time.Duration
	// SuspendedRetryAfter is the same for updates of a tenant that is
	// suspended, which Telegram keeps for a day; so it is how long after being
	// resumed a tenant may wait for them. 0 means 10 min, the most is 1 h.
	SuspendedRetryAfter time.Duration

	// ReplyWithin is how long an answer to Telegram waits for the handler, so
	// that it can [Reply] in the answer. The update is safe before that. It
	// needs the middleware [Receiver.Replies] around the handler, and workers
	// in this process: an update that another process handles makes Telegram
	// wait the whole time. 0 is not at all, at most 30 s.
	ReplyWithin time.Duration
	// ReplyTo selects the updates whose answer waits, such as callback
	// queries. Nil selects all.
	ReplyTo func(u inbox.Update) bool

	// Logger hears of failures of the inbox and of wrong secrets, at most
	// once every 10 s. Nil discards.
	Logger *slog.Logger
}

// maxBody is the most that MaxBody may be: a length of more is none that memory
// can be had for, and the sum of it and 1 no length at all.
const maxBody = 1 << 30

func (c Config) withDefaults() (Config, []error) {
	var bad []error
	for _, f := range []struct {
		name       string
		value      *time.Duration
		zero, most time.Duration
	}{
		{"StatusFor", &c.StatusFor, 10 * time.Second, 24 * time.Hour},
		{"BodyTimeout", &c.BodyTimeout, 10 * time.Second, time.Minute},
		{"PutTimeout", &c.PutTimeout, 10 * time.Second, time.Minute},
		{"RetryAfter", &c.RetryAfter, 5 * time.Second, time.Hour},
		{"SuspendedRetryAfter", &c.SuspendedRetryAfter, 10 * time.Minute, time.Hour},
		{"ReplyWithin", &c.ReplyWithin, 0, 30 * time.Second},
	} {
		if *f.value < 0 || *f.value > f.most {
			bad = append(bad, fmt.Errorf("%s is not between 0 and %v", f.name, f.most))
		}
		if *f.value == 0 {
			*f.value = f.zero
		}
	}
	if c.MaxBody < 0 || c.MaxBody > maxBody {
		bad = append(bad, fmt.Errorf("MaxBody is not between 0 and %d", maxBody))
	}
	if c.MaxBody == 0 {
		c.MaxBody = 1 << 20
	}
	if c.MaxBatch < 0 {
		bad = append(bad, errors.New("MaxBatch is negative"))
	}
	if c.MaxBatch == 0 {
		c.MaxBatch = 256
	}
	if c.MaxWaiting < 0 {
		bad = append(bad, errors.New("MaxWaiting is negative"))
	}
	if c.MaxWaiting == 0 {
		c.MaxWaiting = 4096
	}
	for name, networks := range map[string][]netip.Prefix{"Networks": c.Networks, "TrustedProxies": c.TrustedProxies} {
		if err := checkNetworks(name, networks); err != nil {
			bad = append(bad, err)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, bad
}

// Receiver is the [http.Handler] that Telegram delivers the updates of all
// bots to. Mount it where the last segment of the path is the tenant's
// [Keys.Path], such as at "POST /webhook/{opaque}".
//
// It answers 200 only once the inbox has the update, now or before. When the
// inbox is full it answers 429 and when it is broken 503, with a Retry-After
// that Telegram honours, so nothing is lost but time. Updates of a tenant that
// is suspended are answered 503 and stay with Telegram, and so do those of one
// that is gone, with 404: they are its owner's. It never answers 410, by which
// Telegram deletes a webhook.
//
// A stranger learns nothing and leaves nothing: a path that is not ours is
// found to be so by computing alone, and no body is read before path and
// secret are right.
//
// It starts no goroutine, and works with HTTP/1.1 and HTTP/2. Shut the server
// down before the inbox.
type Receiver struct {
	cfg      Config
	keys     *Keys
	source   source
	statuses statuses
	commit   committer
	replies  replies
	counts   counts
	log      *slog.Logger

	// One each, so that strangers, or one failure, can't hide another.
	loggedSecret, loggedStatus, loggedPut sometimes
}

// NewReceiver returns a Receiver. The error names every bad field.
func NewReceiver(in Inbox, keys *Keys, cfg Config) (*Receiver, error) {
	cfg, bad := cfg.withDefaults()
	if in == nil {
		bad = append(bad, errors.New("inbox is nil"))
	}
	if !keys.made() {
		bad = append(bad, errors.New("keys are nil or not from NewKeys"))
	}
	if len(bad) > 0 {
		return nil, fail("configure receiver", "", errors.Internal, errors.Join(bad...))
	}
	return &Receiver{
		cfg: cfg, keys: keys, source: source{cfg.Networks, cfg.TrustedProxies},
		statuses: newStatuses(cfg.Tenants, cfg.StatusFor),
		commit:   committer{inbox: in, timeout: cfg.PutTimeout, most: cfg.MaxBatch, room: cfg.MaxWaiting},
		log:      cfg.Logger,
	}, nil
}

// secretHeader carries the secret_token (Bot API, setWebhook), in Go's
// canonical form.
const secretHeader = "X-Telegram-Bot-Api-Secret-Token"

// ServeHTTP implements [http.Handler].
func (rc *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		rc.strange(w, r, http.StatusMethodNotAllowed)
		return
	}
	path := r.URL.Path
	if r.URL.RawPath != "" { // escaped where it need not be: not our spelling
		path = r.URL.RawPath
	}
	id, key, ok := rc.keys.open(path[strings.LastIndexByte(path, '/')+1:], now)
	if !ok {
		rc.strange(w, r, http.StatusNotFound)
		return
	}
	if !rc.source.lets(r) {
		rc.strange(w, r, http.StatusForbidden)
		return
	}
	if secrets := r.Header[secretHeader]; len(secrets) != 1 || !key.holds(id, secrets[0]) {
		rc.counts.badSecret.Add(1)
		if rc.loggedSecret.now(now) {
			rc.log.WarnContext(r.Context(), "webhook called with a wrong secret", slog.String("tenant", id))
		}
		rc.strange(w, r, http.StatusUnauthorized)
		return
	}
	// From here on it is Telegram, or who knows the tenant's secret.
	switch s, err := rc.statuses.of(r.Context(), id); {
	case err != nil:
		rc.failed(w, r, id, &rc.loggedStatus, "tenant's status unknown", err)
		return
	case s == gone:
		rc.counts.unwanted.Add(1)
		rc.refuse(w, http.StatusNotFound, time.Hour)
		return
	case s == away:
		rc.counts.unwanted.Add(1)
		rc.refuse(w, http.StatusServiceUnavailable, rc.cfg.SuspendedRetryAfter)
		return
	}
	raw, status := rc.read(w, r)
	if status != 0 {
		rc.counts.badRequest.Add(1)
		rc.refuse(w, status, 0)
		return
	}
	u, err := inbox.Parse(id, raw, now)
	if err != nil {
		rc.counts.badRequest.Add(1)
		rc.refuse(w, http.StatusBadRequest, 0)
		return
	}
	rc.take(w, r, u)
}

// take puts an update into the inbox and answers.
func (rc *Receiver) take(w http.ResponseWriter, r *http.Request, u inbox.Update) {
	var waiter *reply
	if rc.cfg.ReplyWithin > 0 && (rc.cfg.ReplyTo == nil || rc.cfg.ReplyTo(u)) {
		if waiter = rc.replies.open(u.Ref()); waiter != nil { // before a worker can have it
			defer rc.replies.close(u.Ref(), waiter)
		}
	}
	outcome, err := rc.commit.put(u)
	if err == nil {
		err = outcome.Err
	}
	switch {
	case err == nil && outcome.Duplicate:
		rc.counts.duplicates.Add(1)
	case err == nil:
		rc.counts.received.Add(1)
		if waiter != nil {
			if body := waiter.wait(r.Context(), rc.cfg.ReplyWithin); body != nil {
				rc.counts.replies.Add(1)
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(body)
			}
		}
	case errors.Is(err, inbox.ErrFull):
		rc.counts.full.Add(1)
		rc.refuse(w, http.StatusTooManyRequests, max(errors.RetryAfter(err), time.Second))
	default:
		rc.failed(w, r, u.Tenant, &rc.loggedPut, "inbox failed", err)
	}
}

// failed answers for a failure of ours.
func (rc *Receiver) failed(w http.ResponseWriter, r *http.Request, id string, logged *sometimes, what string, err error) {
	rc.counts.failed.Add(1)
	if logged.now(time.Now()) {
		rc.log.ErrorContext(r.Context(), what, slog.String("tenant", id), slog.String("error", errors.KindOf(err).String()))
	}
	rc.refuse(w, http.StatusServiceUnavailable, max(errors.RetryAfter(err), rc.cfg.RetryAfter))
}

// strange answers somebody who has not shown that they are Telegram. Nothing
// more is read of the request: the server would otherwise wait for the rest of
// the body. An HTTP/1.1 connection closes; of HTTP/2 only the stream ends, since
// a proxy may have others' requests on the same connection, which "close" would
// shut down.
func (rc *Receiver) strange(w http.ResponseWriter, r *http.Request, status int) {
	rc.counts.strangers.Add(1)
	_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	if r.ProtoMajor < 2 {
		w.Header().Set("Connection", "close")
	}
	rc.refuse(w, status, 0)
}

// maxRetryAfter is the longest wait that Telegram honours
// (telegram-bot-api, WebhookActor.cpp).
const maxRetryAfter = time.Hour

func (rc *Receiver) refuse(w http.ResponseWriter, status int, after time.Duration) {
	if after > 0 {
		after = min(after, maxRetryAfter)
		w.Header().Set("Retry-After", strconv.FormatInt(int64((after+time.Second-1)/time.Second), 10))
	}
	w.WriteHeader(status)
}
