package polling

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
)

// How long to wait after each way to fail.
var (
	// networkPause is for the network, Telegram's server errors and the inbox:
	// mostly a moment, seldom long.
	networkPause = backoff{time.Second, time.Minute}
	// rivalPause is for another program that polls. It ends our call with each
	// of its own, and we end its; who comes back at once keeps both from
	// receiving.
	rivalPause = backoff{5 * time.Second, time.Minute}
	// webhookPause is for a webhook, which is gone only once somebody deletes
	// it.
	webhookPause = backoff{30 * time.Second, 10 * time.Minute}
	// logOutPause is for a bot that logged out of the server, which lets it in
	// again after 10 min (Bot API, logOut).
	logOutPause = backoff{time.Minute, 10 * time.Minute}
	// rejectPause is for a token that Telegram rejects. It is over within seconds,
	// minutes or never, and the last is for others to decide.
	rejectPause = backoff{time.Second, 2 * time.Minute}
	// emptyPause is for servers that do not wait for updates.
	emptyPause = backoff{time.Second, 5 * time.Second}
)

// fullPause is how long to wait for a full inbox that does not say.
const fullPause = 5 * time.Second

// conflictHold is how long nobody may have been in the way before a bot is
// well again. A poll that succeeds meanwhile was a race won, and Telegram
// holds a poll for up to 50 s without telling of a rival.
const conflictHold = 2 * time.Minute

// trouble is what a loop remembers of conflicts.
type trouble struct {
	count  int // in a row
	last   time.Time
	reason errors.ConflictReason
}

// well is the verdict of a call that succeeded.
func (l *loop) well() verdict {
	l.mu.Lock()
	l.entry.failures = 0
	l.mu.Unlock()
	if l.trouble.count == 0 {
		return verdict{state: Polling}
	}
	if time.Since(l.trouble.last) >= conflictHold {
		l.trouble = trouble{}
		return verdict{state: Polling}
	}
	return verdict{
		state: Conflicting, kind: errors.Conflict, conflict: l.trouble.reason,
		reason: "receives updates, but somebody else did a moment ago",
	}
}

// failed is the verdict of what may be better next time.
func (l *loop) failed(err error) verdict { return l.failing(err, networkPause) }

func (l *loop) failing(err error, pause backoff) verdict {
	l.mu.Lock()
	l.entry.failures++
	n := l.entry.failures
	l.mu.Unlock()
	return because(Failing, err, max(pause.after(n), soonAfter(errors.RetryAfter(err))))
}

// soonAfter is a moment after d, that others who were told the same do not
// choose.
func soonAfter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d + rand.N(min(d/2, 5*time.Second)+1)
}

// judge is the verdict of a call that failed.
func (l *loop) judge(ctx context.Context, err error) verdict {
	kind := errors.KindOf(err)
	if rejectsToken(kind) {
		return l.rejected(ctx, err)
	}
	switch kind {
	case errors.Conflict:
		return l.conflict(ctx, err)
	case errors.RateLimited:
		// It is an answer, and no failure that would make later ones wait longer.
		wait := max(errors.RetryAfter(err), time.Second)
		v := because(Delayed, err, soonAfter(wait))
		l.hold(wait, v)
		return v
	case errors.Throttled, errors.BreakerOpen:
		v := because(Delayed, err, soonAfter(max(errors.RetryAfter(err), time.Second)))
		if errors.RetryAfter(err) <= 0 {
			v = l.failed(err)
			v.state = Delayed
		}
		return l.stillRejected(v)
	case errors.LoggedOut:
		return l.failing(err, logOutPause)
	case errors.Closed:
		return stopped(errors.Closed, "the session is closed")
	}
	v := l.failed(err)
	v.network = kind.Fault() == errors.FaultPlatform
	return v
}

// rejectsToken reports whether Telegram rejected the token of a getUpdates.
func rejectsToken(kind errors.Kind) bool {
	return kind == errors.Unauthorized || kind == errors.InvalidToken
}

// rejected is the verdict of an answer that rejects the token. A moment later Telegram
// may accept it, so the loop does not decide that it is dead. It asks again for as
// long as the record says that the tenant is active.
func (l *loop) rejected(ctx context.Context, err error) verdict {
	rejected := l.token
	l.stale = true
	if v, ok := l.load(ctx); !ok {
		return v
	}
	if l.stale { // the record can't be read; the token may have been replaced
		return l.failed(err)
	}
	if !l.token.Equal(rejected) {
		return verdict{state: Starting}
	}
	l.stale = true  // whoever hears of it may change the record
	l.waits = false // whether the token works is to be known soon
	v := l.failing(err, rejectPause)
	v.state, v.rejected = Rejected, true
	return v
}

// stillRejected keeps a tenant Rejected that is held back here meanwhile, such as by the
// circuit breaker that its rejections opened.
func (l *loop) stillRejected(v verdict) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := &l.entry.status; s.State == Rejected {
		v.state, v.kind, v.reason = Rejected, s.Kind, s.Reason
	}
	return v
}

// conflict is for a 409, of which there are three.
func (l *loop) conflict(ctx context.Context, err error) verdict {
	now := time.Now()
	reason := errors.ConflictOf(err)
	if reason != l.trouble.reason || now.Sub(l.trouble.last) >= 2*max(conflictHold, webhookPause.most) {
		l.trouble.count = 0
	}
	l.trouble.count++
	l.trouble.last, l.trouble.reason = now, reason
	l.ask = true // somebody else may have changed what is asked for
	v := because(Conflicting, err, 0)
	v.conflict = reason
	switch reason {
	case errors.ConflictWebhook:
		v.wait = webhookPause.after(l.trouble.count)
		if l.cfg.DeleteWebhook {
			// It may be there since the tenant is not to be polled any more.
			l.stale = true
			if v, ok := l.load(ctx); !ok {
				return v
			}
			if l.stale { // the store is away
				return v
			}
			return l.deleteWebhook(ctx, v)
		}
	default:
		// Whether the rival is another process of ours that has taken the lease
		// is asked at once: after a pause of the whole machine our clock may
		// have stood still, and then we are the rival.
		l.mu.Lock()
		l.renewNow = true
		l.mu.Unlock()
		l.wake()
		v.wait = rivalPause.after(l.trouble.count)
	}
	return v
}

// deleteWebhook removes the webhook that is in the way, and keeps the updates
// that wait. Where it comes back, others set it, and each try waits longer.
func (l *loop) deleteWebhook(ctx context.Context, v verdict) verdict {
	_, err := l.bot.RequestWithContext(ctx, "deleteWebhook", nil, &gotgbot.RequestOpts{Timeout: answerGrace})
	if err == nil && l.trouble.count == 1 {
		v.wait = time.Second
	}
	return v
}
