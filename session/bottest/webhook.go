package bottest

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

const (
	maxHookConnections     = 100 // (Bot API, setWebhook)
	defaultHookConnections = 40
	maxSecret              = 256
	maxCertificate         = 3 << 20 // (Client.h, MAX_CERTIFICATE_FILE_SIZE)
)

// webhookState is a bot's webhook. The bot's lock guards it.
type webhookState struct {
	url         string
	secret      string
	address     string // a fixed IP address
	certificate bool
	connections int
	next        time.Time // when setWebhook is allowed again
	errorAt     time.Time
	errorText   string
	goneSince   time.Time // since when every answer is 410
	delivery    *delivery // nil while there is nothing to deliver
}

func (w *webhookState) set() bool { return w.url != "" }

// wake makes sure that somebody delivers. The caller holds the bot's lock.
func (w *webhookState) wake(b *Bot) {
	switch {
	case !w.set():
	case w.delivery != nil:
		w.delivery.signal()
	case b.queue.list.Len() > 0 && b.srv.begin():
		w.delivery = newDelivery(b)
		go w.delivery.run()
	}
}

// stop ends the webhook. What is being delivered is broken off; its outcome
// counts no more.
func (w *webhookState) stop() {
	if w.delivery != nil {
		w.delivery.cancel()
	}
	*w = webhookState{next: w.next}
}

func setWebhook(q *request) (any, *apiError) {
	p, b := q.params, q.bot
	if p.get("url") == "" {
		return deleteWebhook(q)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &b.webhook
	now := time.Now()
	if every := q.srv.cfg.Limits.SetWebhookEvery; every > 0 {
		if now.Before(w.next) {
			return nil, tooMany(w.next.Sub(now))
		}
		w.next = now.Add(every)
	}
	hook, bad := q.newWebhook()
	if bad != nil {
		return nil, bad
	}
	drop := p.bool("drop_pending_updates")
	if w.url == hook.url && w.secret == hook.secret && w.address == hook.address && w.connections == hook.connections &&
		!w.certificate && !hook.certificate && !drop {
		b.queue.allow(p)
		q.note = "Webhook is already set"
		return jsonTrue(), nil
	}
	b.poll.interrupt(conflict(otherWebhook))
	hook.next = w.next
	w.stop()
	*w = hook
	b.queue.allow(p)
	if drop {
		b.queue.drop()
	}
	b.queue.retryAll(now)
	w.wake(b)
	q.note = "Webhook was set"
	return jsonTrue(), nil
}

// newWebhook reads the webhook a call describes.
func (q *request) newWebhook() (webhookState, *apiError) {
	p := q.params
	hook := webhookState{
		url: p.get("url"), secret: p.get("secret_token"), address: p.get("ip_address"),
		connections: int(p.int("max_connections", defaultHookConnections, 1, maxHookConnections)),
	}
	at, err := parseHookURL(hook.url)
	switch {
	case err != nil || at.Hostname() == "":
		return hook, badRequest("invalid webhook URL specified")
	case len(hook.secret) > maxSecret:
		return hook, badRequest("secret token is too long")
	case strings.Trim(hook.secret, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "":
		return hook, badRequest("secret token contains unallowed characters")
	}
	hook.url = at.String()
	if u := q.certificate(); u != nil {
		if u.Size > maxCertificate {
			return hook, badRequest("certificate size is too big (" + strconv.FormatInt(u.Size, 10) + " bytes)")
		}
		hook.certificate = true
	}
	if !q.srv.cfg.AnyWebhookURL {
		if text := unreachable(at, hook.address); text != "" {
			return hook, badRequest("bad webhook: " + text)
		}
	}
	return hook, nil
}

// parseHookURL reads a webhook's URL; https is assumed where no scheme is.
func parseHookURL(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	at, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	if at.Scheme != "http" && at.Scheme != "https" {
		return nil, url.InvalidHostError(at.Scheme)
	}
	return at, nil
}

// unreachable says why the real server would not deliver to a URL, "" if it
// would. Plain loopback addresses are let through.
func unreachable(at *url.URL, fixed string) string {
	ip, err := netip.ParseAddr(at.Hostname())
	if at.Hostname() == "localhost" || err == nil && ip.IsLoopback() {
		return ""
	}
	if at.Scheme != "https" {
		return "An HTTPS URL must be provided for webhook"
	}
	switch at.Port() {
	case "", "443", "80", "88", "8443":
	default:
		return "Webhook can be set up only on ports 80, 88, 443 or 8443"
	}
	if fixed != "" {
		if ip, err = netip.ParseAddr(fixed); err != nil {
			return "Invalid IP address specified"
		}
	}
	switch {
	case !ip.IsValid():
	case !ip.Is4():
		return "IPv6-only addresses are not allowed"
	case ip.IsPrivate() || ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast():
		return "IP address " + ip.String() + " is reserved"
	}
	return ""
}

func (q *request) certificate() *upload {
	if name, ok := strings.CutPrefix(q.params.get("certificate"), "attach://"); ok {
		return q.files[name]
	}
	return q.files["certificate"]
}

func deleteWebhook(q *request) (any, *apiError) {
	b := q.bot
	b.mu.Lock()
	defer b.mu.Unlock()
	if q.params.bool("drop_pending_updates") {
		b.queue.drop()
	}
	q.note = "Webhook is already deleted"
	if b.webhook.set() {
		q.note = "Webhook was deleted"
		b.webhook.stop()
		b.queue.retryAll(time.Now())
	}
	return jsonTrue(), nil
}

func getWebhookInfo(q *request) (any, *apiError) {
	b := q.bot
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue.prune(time.Now())
	w := &b.webhook
	info := gotgbot.WebhookInfo{
		Url: w.url, HasCustomCertificate: w.certificate, PendingUpdateCount: int64(b.queue.list.Len()),
		IpAddress: w.address, MaxConnections: int64(w.connections), AllowedUpdates: b.queue.names,
	}
	if w.url != "" && w.address == "" {
		// The real server shows the address in use, whether or not it is fixed, and
		// this until it knows one. Names are not looked up here.
		info.IpAddress = "<unknown>"
		if at, err := parseHookURL(w.url); err == nil {
			if ip, err := netip.ParseAddr(at.Hostname()); err == nil {
				info.IpAddress = ip.String()
			}
		}
	}
	if w.errorText != "" {
		info.LastErrorDate, info.LastErrorMessage = w.errorAt.Unix(), w.errorText
	}
	return info, nil
}
