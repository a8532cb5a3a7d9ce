package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// world is Telegram and those who write.
type world struct {
	o       options
	bots    []*bottest.Bot
	users   []*bottest.User
	written int
	said    []int // of each user
}

func tenantID(n int) string { return fmt.Sprintf("crash-%03d", n) }

// newWorld registers the tenants, and sets their webhooks.
func newWorld(ctx context.Context, srv *bottest.Server, o options) (_ *world, err error) {
	w := &world{o: o}
	db, err := database.Open(ctx, o.db, o.keys)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	d, err := db.Inbox.Depth(ctx, "")
	if err != nil {
		return nil, err
	}
	if d.Waiting+d.Leased+d.Dead > 0 {
		return nil, errors.New("the inbox is not empty")
	}
	keys, err := hookKeys()
	if err != nil {
		return nil, err
	}
	for i := range o.tenants {
		bot := srv.NewBot(fmt.Sprintf("crash%d_bot", i))
		token, err := session.ParseToken(bot.Token())
		if err != nil {
			return nil, err
		}
		r := tenant.Record{ID: tenantID(i), BotID: bot.ID(), Username: bot.Username(), Name: bot.Username(), Token: token, Status: tenant.Active}
		if old, err := db.Tenants.Get(ctx, r.ID); err == nil { // of an earlier run
			if err := db.Tenants.Delete(ctx, old.ID, old.Version); err != nil {
				return nil, err
			}
			if err := db.Inbox.Forget(ctx, old.ID); err != nil {
				return nil, err
			}
		}
		if _, err := db.Tenants.Put(ctx, r); err != nil {
			return nil, err
		}
		if o.source == "webhook" {
			if err := setWebhook(o, bot, keys.Path(r.ID), keys.Secret(r.ID)); err != nil {
				return nil, err
			}
		}
		w.bots = append(w.bots, bot)
	}
	for i := range o.chats {
		w.users = append(w.users, srv.NewUser("User"+strconv.Itoa(i)))
	}
	w.said = make([]int, len(w.users))
	return w, nil
}

// hookKeys are the same in each of the service's lives.
func hookKeys() (*webhook.Keys, error) {
	return webhook.NewKeys(webhook.Key{Master: bytes.Repeat([]byte("k"), 32), Generation: 1})
}

func setWebhook(o options, bot *bottest.Bot, path, secret string) error {
	answer, err := http.PostForm(o.api+"/bot"+bot.Token()+"/setWebhook", url.Values{
		"url": {"http://" + o.listen + "/webhook/" + path}, "secret_token": {secret},
	})
	if err != nil {
		return errors.New("set webhook: no answer")
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("set webhook: status %d", answer.StatusCode)
	}
	return nil
}

// write has the users write so many messages, in turn, each numbering its own.
func (w *world) write(n int) {
	for range n {
		u := w.written % len(w.users)
		w.said[u]++
		w.users[u].Write(w.bots[u%len(w.bots)], strconv.Itoa(w.said[u]))
		w.written++
	}
}

// left is how much there is in the inbox.
func (w *world) left(ctx context.Context) (n int, err error) {
	db, err := database.Open(ctx, w.o.db, w.o.keys)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	d, err := db.Inbox.Depth(ctx, "")
	return d.Waiting + d.Leased + d.Dead, err
}
