package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/ownership"
)

// startWorkers starts what takes updates out of the inbox and handles them.
func (f *fleet) startWorkers(ctx context.Context) (err error) {
	var updates inbox.Mux
	updates.HandleFunc("message", f.echo)
	f.updates = inbox.Chain(&updates, f.owners.Middleware(f.tellOwner))
	f.workers, err = inbox.NewWorkers(f.db.Inbox, f.pool, f.updates, inbox.WorkersConfig{Logger: f.log})
	if err != nil {
		return err
	}
	if err = f.workers.Start(ctx); err != nil {
		return err
	}
	f.closes(f.stopWorkers)
	return nil
}

// startSource begins to receive updates, by webhook or by polling.
func (f *fleet) startSource(ctx context.Context, o options) (err error) {
	ctx = context.WithoutCancel(ctx) // it ends when the fleet is closed
	if o.webhooks() {
		err = f.startWebhooks(ctx, o)
	} else {
		err = f.startPolling(ctx, o)
	}
	f.receiving.Store(err == nil)
	return err
}

// echo answers a text that is no command.
func (f *fleet) echo(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
	update, err := u.Decode()
	if err != nil {
		return inbox.Permanent(err)
	}
	m := update.Message
	if m == nil || m.Text == "" || strings.HasPrefix(m.Text, "/") {
		return nil
	}
	_, err = t.Bot.SendMessageWithContext(ctx, m.Chat.Id, m.Text, nil)
	return answered(err)
}

// answered says what an answer's error is to its update.
func answered(err error) error {
	switch errors.KindOf(err) {
	case errors.None:
		return nil
	case errors.Blocked, errors.NotStarted, errors.ChatGone:
		return nil // nobody is there to read it
	case errors.ResultLost:
		return nil // it was sent
	}
	if e, ok := errors.AsType[*errors.Error](err); ok && e.Delivery == errors.MaybeDelivered {
		return nil // the answer may be there, and two would be worse than none
	}
	if errors.Temporary(err) || errors.TenantFault(err) {
		return err // comes again, after a while or with a new token
	}
	return inbox.Permanent(err)
}

// drainTime is how long updates that only this process has may still be handled
// when it ends.
const drainTime = 5 * time.Second

// stopWorkers lets the handlers that run end. What waits in an inbox that is
// kept is handled after the next start. What waits in memory was confirmed to
// Telegram and is nowhere else, so it is handled now, as far as time allows.
func (f *fleet) stopWorkers(ctx context.Context) error {
	if _, ok := f.db.Inbox.(*inbox.Memory); ok {
		for begin := time.Now(); f.waiting(ctx) > 0 && time.Since(begin) < drainTime && ctx.Err() == nil; {
			pause(ctx, 10*time.Millisecond)
		}
	}
	err := f.workers.Stop(ctx)
	if n := f.waiting(ctx); n > 0 {
		f.log.Warn("updates are left in the inbox", "updates", n)
	}
	return err
}

// waiting counts the updates that are not handled yet.
func (f *fleet) waiting(ctx context.Context) int {
	depth, err := f.db.Inbox.Depth(ctx, "")
	if err != nil {
		f.log.Error("inbox not read", "err", err)
	}
	return depth.Waiting + depth.Leased
}

// counted is the inbox as sources see it. What it takes counts as received.
type counted struct{ *fleet }

// Put implements [webhook.Inbox] and [polling.Inbox].
func (c counted) Put(ctx context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
	outcomes, err := c.db.Inbox.Put(ctx, batch)
	if err != nil {
		return nil, err
	}
	for i, o := range outcomes {
		if u := &batch[i]; o.Err == nil && !o.Duplicate {
			chat, _ := strconv.ParseInt(u.Chat, 10, 64) // 0 is none
			c.monitor.Update(u.Tenant, u.ReceivedAt)
			c.recorder.Update(u.Tenant, usage.Update{At: u.ReceivedAt, Type: u.Kind, Chat: usage.Chat{ID: chat}})
		}
	}
	return outcomes, nil
}

// tellOwner answers who has sent a code to prove that the bot is theirs.
func (f *fleet) tellOwner(ctx context.Context, t *tenant.Tenant, r ownership.Result) error {
	text := "This code is not valid, or not any more. Please ask for a new one."
	switch {
	case r.Again:
		return nil
	case r.Outcome == ownership.Proved:
		f.log.Info("owner proved", "tenant", t.ID())
		text = "Thank you! This bot is yours."
	case !r.Link:
		return nil // a text that may be no code at all
	}
	_, err := t.Bot.SendMessageWithContext(ctx, r.User, text, nil)
	return answered(err)
}
