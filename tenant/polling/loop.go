package polling

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
)

const (
	// answerGrace is how long after the end of a long poll its answer may come
	// before the connection is taken for dead.
	answerGrace = 10 * time.Second
	// startPatience is for how long a tenant that is held back may keep others
	// from starting. Mostly it is what lets bots start that holds it back, and
	// then no other would come through either.
	startPatience = 2 * time.Minute
	// confirmTimeout bounds the last call of a loop. Telegram confirms when it
	// arrives; the answer may come 3 s later, and tells nothing.
	confirmTimeout = time.Second
)

// loop polls one tenant. Nothing of it is shared but its entry.
type loop struct {
	*Supervisor
	entry *entry
	began time.Time

	bot     *gotgbot.Bot
	token   session.Token
	rejects bool // Telegram rejected the token when last called
	stale   bool // the record is to be read again
	offset  offset
	// ask says that allowed_updates is to be said, which Telegram remembers.
	ask     bool
	waits   bool      // for updates; false until the first answer
	limit   int       // of updates in an answer
	fails   time.Time // since when the network fails; zero while it does not
	quick   int       // empty answers in a row that came at once
	trouble trouble
}

// ending is how a loop ends.
type ending struct {
	next time.Time // when to try again
	// confirm says that the lease is ours, so that what is in the inbox may be
	// confirmed.
	confirm bool
}

// poll runs a loop to its end.
func (s *Supervisor) poll(ctx context.Context, e *entry) {
	l := &loop{Supervisor: s, entry: e, began: time.Now(), ask: true, limit: s.cfg.Batch}
	end := ending{next: l.began.Add(spread(networkPause.most))}
	defer func() { // also when an inbox or a hook ends the goroutine
		s.mu.Lock()
		l.started()
		s.loops--
		e.cancel(nil)
		e.cancel, e.poke, e.until = nil, nil, time.Time{}
		s.settle(e, time.Now(), end.next, true)
		s.mu.Unlock()
		s.wake()
	}()
	end = l.run(ctx)
	if end.confirm {
		l.confirm()
	}
}

func (l *loop) run(ctx context.Context) ending {
	l.tell(ctx)
	for {
		round, cancel := context.WithCancel(ctx)
		reload := l.begin(cancel)
		v := l.round(round, reload || l.stale || l.bot == nil)
		switch {
		case ctx.Err() != nil:
			cancel()
			return l.over(ctx)
		case round.Err() != nil: // poked
			cancel()
			continue
		}
		if v.leave { // as by Remove
			cancel()
			return ending{confirm: l.bot != nil && !l.rejects}
		}
		l.conclude(ctx, v)
		if v.stop {
			cancel()
			return ending{}
		}
		if l.yields(v) {
			cancel()
			// Those who stand by look about once in a TTL.
			return ending{next: time.Now().Add(max(v.wait, spread(2*l.cfg.LeaseTTL)))}
		}
		if l.surplus(v) {
			cancel()
			return ending{next: time.Now().Add(v.wait)}
		}
		l.rest(round, v.wait)
		cancel()
		if ctx.Err() != nil {
			return l.over(ctx)
		}
	}
}

// begin lets others end the round, and returns whether somebody wants the
// record read again.
func (l *loop) begin(cancel context.CancelFunc) (reload bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	reload = l.entry.reload
	l.entry.reload, l.entry.poke = false, cancel
	return reload
}

// over is the end of a loop whose context has ended.
func (l *loop) over(ctx context.Context) ending {
	now := time.Now()
	lost := errors.Is(context.Cause(ctx), errLost)
	l.mu.Lock()
	e := l.entry
	switch {
	case lost && e.status.Holder != "":
		e.change(Standby, now)
		e.status.Reason = "another process polls it"
	case lost: // nobody says who has it
		e.change(Waiting, now)
		e.status.Kind, e.status.Reason = errors.Internal, "the lease could not be extended in time"
	case e.wanted:
		e.change(Waiting, now)
	}
	next := now
	if errors.Is(context.Cause(ctx), errGiven) {
		next = now.Add(2 * l.cfg.LeaseTTL / beatsPerTTL)
	}
	l.mu.Unlock()
	if lost {
		l.log.WarnContext(ctx, "lease lost", slog.String("tenant", e.id))
		l.tell(ctx)
		// Whoever has it now is left alone for as long as it may have it.
		return ending{next: now.Add(spread(l.cfg.LeaseTTL))}
	}
	return ending{next: next, confirm: l.bot != nil && !l.rejects}
}

// round makes one call and puts what it brings.
func (l *loop) round(ctx context.Context, reload bool) (v verdict) {
	defer func() {
		if p := recover(); p != nil {
			v = l.failed(panicked("a round", p))
		}
	}()
	if reload {
		if v, ok := l.load(ctx); !ok {
			return v
		}
	}
	if v, held := l.held(); held {
		return v
	}
	sent := l.offset.say(time.Now())
	start := time.Now()
	updates, err := l.get(ctx, sent, l.waits, l.limit)
	l.rejects = rejectsToken(errors.KindOf(err))
	if ctx.Err() != nil && err != nil {
		return verdict{}
	}
	l.counted(err)
	if err != nil {
		if errors.KindOf(err) == errors.BadReply {
			l.limit = max(1, l.limit/2) // it may be more than the session takes
		}
		return l.judge(ctx, err)
	}
	l.limit = min(2*l.limit, l.cfg.Batch)
	l.offset.said(sent)
	waited := l.waits
	l.ask, l.waits = false, true
	if len(updates) == 0 {
		return l.empty(waited, time.Since(start))
	}
	l.quick = 0
	return l.take(ctx, updates, sent)
}

// load reads the tenant's record. ok is false where it can't be polled.
func (l *loop) load(ctx context.Context) (v verdict, ok bool) {
	r, err := l.record(ctx)
	l.mu.Lock()
	if err == nil {
		l.entry.version = r.Version
	}
	l.mu.Unlock()
	switch {
	case errors.Is(err, errors.NotFound):
		return stopped(errors.NotFound, "there is no such tenant"), false
	case err != nil && l.bot != nil:
		l.stale = true // what is known will do until then
		return verdict{}, true
	case err != nil:
		return l.failed(err), false
	case r.Status != tenant.Active:
		return stopped(errors.Suspended, "the tenant is "+r.Status.String()), false
	case !l.wants(r):
		l.mu.Lock()
		defer l.mu.Unlock()
		// Who has changed the record since has it read again.
		if !l.entry.reload {
			l.entry.wanted = false
		}
		return verdict{leave: true}, false
	case r.Token.IsZero():
		return stopped(errors.InvalidToken, "the tenant has no token"), false
	}
	l.stale = false
	if l.bot != nil && l.bot.Id != r.BotID {
		// Ids are a bot's own. Those of one that was here before would confirm
		// what nobody has seen.
		l.offset, l.trouble = offset{}, trouble{}
	}
	if l.bot == nil || !l.token.Equal(r.Token) {
		l.bot = l.session.Bot(r.ID, r.Token, gotgbot.User{Id: r.BotID, IsBot: true, Username: r.Username})
		l.token = r.Token
		l.ask, l.waits = true, false // whether it works is to be known soon
	}
	return verdict{}, true
}

func (l *loop) record(ctx context.Context) (tenant.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.PutTimeout)
	defer cancel()
	return l.records.Get(ctx, l.entry.id)
}

// get calls getUpdates.
func (l *loop) get(ctx context.Context, offset int64, wait bool, limit int) ([]json.RawMessage, error) {
	params := make(map[string]any, 4)
	params["limit"] = int64(limit)
	if offset != 0 {
		params["offset"] = offset
	}
	timeout := answerGrace
	if wait {
		params["timeout"] = int64(l.cfg.PollTimeout / time.Second)
		timeout += l.cfg.PollTimeout
	}
	if l.ask && l.cfg.AllowedUpdates != nil {
		params["allowed_updates"] = l.cfg.AllowedUpdates
	}
	result, err := l.bot.RequestWithContext(ctx, "getUpdates", params, &gotgbot.RequestOpts{Timeout: timeout})
	if err != nil {
		return nil, err
	}
	var updates []json.RawMessage
	if err := json.Unmarshal(result, &updates); err != nil {
		// The text of err may quote the answer.
		return nil, fail("getUpdates", l.entry.id, errors.BadReply, fmt.Errorf("result is no list: %T", err))
	}
	return updates, nil
}

// empty judges an answer without updates. Some servers and proxies do not
// wait, and would be asked thousands of times a second.
func (l *loop) empty(waited bool, took time.Duration) verdict {
	if !waited || took >= time.Second {
		l.quick = 0
		return l.well()
	}
	l.quick++
	v := l.well()
	v.wait = emptyPause.after(l.quick)
	return v
}

// confirm tells Telegram of what is in the inbox, before somebody else polls.
func (l *loop) confirm() {
	sent := l.offset.say(time.Now())
	if _, held := l.held(); held || sent == 0 {
		return
	}
	ctx, hangUp := context.WithCancel(l.hard)
	defer hangUp()
	// To hang up is nobody's failure. A deadline would be the bot's, of each bot
	// that is polled, whenever a process ends.
	timer := time.AfterFunc(confirmTimeout, hangUp)
	defer timer.Stop()
	defer func() {
		if p := recover(); p != nil {
			l.log.ErrorContext(ctx, "panic in a loop's last call", slog.String("tenant", l.entry.id), slog.String("panic", brief(panicked("a call", p))))
		}
	}()
	// What it returns is not taken, and so not confirmed. When it fails, the
	// updates come again and the inbox knows them.
	_, err := l.get(ctx, sent, false, 1)
	if ctx.Err() == nil {
		l.counted(err)
	}
}

// yields reports whether another process should try, since this one has not
// reached Telegram for long.
func (l *loop) yields(v verdict) bool {
	switch {
	case v.network:
	case v.kind == errors.BreakerOpen && !l.fails.IsZero():
		// The breaker opened because of the same.
	default:
		l.fails = time.Time{}
		return false
	}
	now := time.Now()
	if l.fails.IsZero() {
		l.fails = now
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Where nothing has come through since others were yielded, it is not waited
	// for again.
	if l.cfg.YieldAfter < 0 || now.Sub(l.fails) < l.cfg.YieldAfter && l.distrust.count == 0 {
		return false
	}
	l.yielded(now)
	return true
}

// surplus reports whether a tenant that may not start yet should go back and
// wait without a goroutine and a lease, since more try than can.
func (l *loop) surplus(v verdict) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.entry.slot || v.state != Delayed || l.starting <= l.allowed {
		return false
	}
	l.entry.change(Waiting, time.Now())
	return true
}

// started lets the next tenant start. The lock is held.
func (l *loop) started() {
	if l.entry.slot {
		l.entry.slot = false
		l.starting--
	}
}

// rest waits. One that is to start and has to wait for too long lets others
// start meanwhile.
func (l *loop) rest(ctx context.Context, d time.Duration) {
	l.mu.Lock()
	held := l.entry.slot
	l.mu.Unlock()
	if left := startPatience - time.Since(l.began); held && d > left {
		left = max(left, 0)
		sleep(ctx, left)
		d -= left
		l.mu.Lock()
		l.started()
		l.mu.Unlock()
		l.wake()
	}
	sleep(ctx, d)
}

// sleep waits, and returns sooner when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
