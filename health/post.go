package health

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// PostConfig configures [PostAlerts].
type PostConfig struct {
	// URL is where alerts are posted: http or https.
	URL string
	// Secret is the key of the signature, at least 16 bytes that only the
	// receiver knows. Nil sends no signature.
	Secret []byte
	// Client sends the requests. Nil means one with a time-out of 10 s that
	// follows no redirects.
	Client *http.Client
	// Attempts is how often an alert is posted at most. 0 means 6, which takes
	// about half a minute.
	Attempts int
	// Transitions bounds how many of an alert's are sent. 0 means 100. Where
	// there are more, each tenant's last one is sent, and those of the tenants
	// that are worst off if that is still too many. The counts are of all.
	Transitions int
}

// PostAlerts returns a handler that posts alerts as JSON to a URL, signed as
// the Standard Webhooks specification asks (https://www.standardwebhooks.com),
// so that receivers have libraries for it: the headers are webhook-id,
// webhook-timestamp and webhook-signature. [VerifyAlert] checks one.
//
// Any answer of 2xx is success. After an answer of 408, 425, 429 or 5xx, or
// none, it tries again with the same id, after a second, then two, and so on,
// or when a Retry-After says so. Other answers are errors.
//
// The error's text holds no part of the URL but the host, since such URLs often
// hold a secret. The error of PostAlerts names every bad field of cfg.
func PostAlerts(cfg PostConfig) (AlertHandler, error) {
	var bad []error
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		bad = append(bad, errors.New("URL is not an http or https URL")) // it may hold a secret
	}
	if cfg.Secret != nil && len(cfg.Secret) < minSecret {
		bad = append(bad, errors.New("Secret is shorter than 16 bytes"))
	}
	count := func(name string, v *int, zero int) {
		if *v == 0 {
			*v = zero
		}
		if *v < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", name))
		}
	}
	count("Attempts", &cfg.Attempts, 6)
	count("Transitions", &cfg.Transitions, 100)
	if err := errors.Join(bad...); err != nil {
		return nil, fmt.Errorf("health: post alerts: %w", err)
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{
			Timeout:       10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	cfg.Secret = bytes.Clone(cfg.Secret)
	p := &poster{cfg: cfg, host: u.Host}
	return AlertFunc(p.handle), nil // a func, since it prints neither URL nor secret
}

type poster struct {
	cfg  PostConfig
	host string
}

const (
	firstRetry    = time.Second
	longestRetry  = 5 * time.Minute
	longestWait   = 10 * time.Minute // that a server may ask for; else it is given up
	maxAnswerRead = 64 << 10
)

func (p *poster) handle(ctx context.Context, a Alert) error {
	if len(a.Transitions) > p.cfg.Transitions {
		// How it ended says more than how it began.
		a.Transitions = a.last()
	}
	if len(a.Transitions) > p.cfg.Transitions {
		slices.SortStableFunc(a.Transitions, func(t, u Transition) int { return cmp.Compare(u.To, t.To) })
		a.Transitions = a.Transitions[:p.cfg.Transitions]
	}
	body, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("post alert: %w", err)
	}
	wait := firstRetry
	for attempt := 1; ; attempt++ {
		again, after, err := p.post(ctx, a.ID, body)
		if err == nil {
			return nil
		}
		if !again || attempt >= p.cfg.Attempts {
			return fmt.Errorf("post alert to %s, attempt %d: %w", p.host, attempt, err)
		}
		// What the server says is a floor; half of our own wait is chance.
		pause := max(after, wait/2+rand.N(wait/2+1))
		wait = min(2*wait, longestRetry)
		select {
		case <-ctx.Done():
			return fmt.Errorf("post alert to %s: %w after: %w", p.host, context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

// post sends once.
func (p *poster) post(ctx context.Context, id string, body []byte) (again bool, after time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return false, 0, errors.New("the request can't be made")
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "tgfleet")
	r.Header.Set("Webhook-Id", id)
	r.Header.Set("Webhook-Timestamp", now)
	if p.cfg.Secret != nil {
		r.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(sign(p.cfg.Secret, id, now, body)))
	}
	answer, err := p.cfg.Client.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL
		}
		return ctx.Err() == nil, 0, err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswerRead)) // so that the connection is used again
	switch code := answer.StatusCode; {
	case code >= 200 && code < 300:
		return false, 0, nil
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code >= 500:
		after := retryAfter(answer.Header.Get("Retry-After"))
		return after <= longestWait, after, fmt.Errorf("answered with status %d", code)
	default:
		return false, 0, fmt.Errorf("answered with status %d", code)
	}
}

// retryAfter reads the header, which is seconds or a date.
func retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Duration(min(max(seconds, 0), 1<<31)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

func sign(secret []byte, id, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	_, _ = fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	_, _ = mac.Write(body)
	return mac.Sum(nil)
}

// minSecret is how long a secret must be, in bytes.
const minSecret = 16

// maxSkew is how old or how far ahead a signed alert may be, as the
// specification suggests.
const maxSkew = 5 * time.Minute

// VerifyAlert reports whether a request's header and body were signed with the
// secret within 5 min of now, in constant time. A receiver then keeps the
// webhook-id for as long, to drop what it has had. A secret that is shorter
// than 16 bytes, such as one that is missing in a configuration, verifies
// nothing.
func VerifyAlert(secret []byte, header http.Header, body []byte, now time.Time) error {
	refuse := func(why string) error {
		return &errors.Error{Kind: errors.Forbidden, Op: "verify alert", Err: errors.New(why), Delivery: errors.NotDelivered}
	}
	if len(secret) < minSecret {
		return refuse("secret is shorter than 16 bytes") // anybody could sign with none
	}
	id, timestamp := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if id == "" || err != nil {
		return refuse("id or timestamp is missing")
	}
	if skew := now.Sub(time.Unix(seconds, 0)); skew > maxSkew || skew < -maxSkew {
		return refuse("timestamp is too far from now")
	}
	want := sign(secret, id, timestamp, body)
	for _, part := range strings.Fields(header.Get("Webhook-Signature")) {
		version, text, _ := strings.Cut(part, ",")
		got, err := base64.StdEncoding.DecodeString(text)
		if version == "v1" && err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return refuse("no signature fits")
}
