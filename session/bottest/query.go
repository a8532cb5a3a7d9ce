package bottest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

const queryTooOld = "query is too old and response timeout expired or query ID is invalid"

// query is one a user has asked and the bot may answer once, as long as its
// update lives.
type query struct {
	kind     string
	asked    time.Time
	keep     time.Duration
	checkout *checkout // of a pre-checkout query; its answer ends it
}

// ask remembers a query.
func (b *Bot) ask(id, kind string, keep time.Duration) { b.askFor(id, kind, &query{keep: keep}) }

func (b *Bot) askFor(id, kind string, asked *query) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for id, q := range b.queries {
		if now.Sub(q.asked) > q.keep {
			delete(b.queries, id)
		}
	}
	if b.queries == nil {
		b.queries = make(map[string]*query)
	}
	asked.kind, asked.asked = kind, now
	b.queries[id] = asked
}

// answer takes a query away, and returns nil if it may not be answered.
func (b *Bot) answer(id, kind string) *query {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queries[id]
	if q == nil || q.kind != kind {
		return nil
	}
	delete(b.queries, id)
	if time.Since(q.asked) > q.keep {
		return nil
	}
	return q
}

func answerCallbackQuery(q *request) (any, *apiError) {
	if utf16Len(q.params.get("text")) > 200 {
		return nil, badRequest("MESSAGE_TOO_LONG")
	}
	if q.bot.answer(q.params.get("callback_query_id"), "callback_query") == nil {
		return nil, badRequest(queryTooOld)
	}
	return true, nil
}

// maxInlineResults is how many results an answer may have (Bot API,
// answerInlineQuery).
const maxInlineResults = 50

func answerInlineQuery(q *request) (any, *apiError) {
	var results []json.RawMessage
	found, err := q.params.json("results", &results)
	switch {
	case err != nil || !found:
		return nil, badRequest("can't parse JSON encoded inline query results")
	case len(results) > maxInlineResults:
		return nil, badRequest("too many inline query results specified")
	}
	for _, raw := range results {
		p := make(params)
		if !p.addJSON(raw) || p.get("id") == "" || p.get("type") == "" {
			return nil, badRequest("can't parse inline query result: inline query result must have an id and a type")
		}
	}
	if q.bot.answer(q.params.get("inline_query_id"), "inline_query") == nil {
		return nil, badRequest(queryTooOld)
	}
	return true, nil
}

// Ask sends the bot an inline query, as a user does who types @bot and a text
// in some chat.
func (u *User) Ask(b *Bot, text string) *gotgbot.InlineQuery {
	iq := &gotgbot.InlineQuery{
		Id: strconv.FormatInt(b.srv.rand.between(1<<60, 1<<62), 10), From: u.profile(), Query: text, ChatType: "sender",
	}
	body, err := json.Marshal(iq)
	if err != nil {
		panic(fmt.Sprintf("bottest: Ask: %v", err)) // nothing in it can fail
	}
	b.ask(iq.Id, "inline_query", keepInlineQuery)
	b.push("inline_query", body, lane{kind: "inline", id: u.ID}, keepInlineQuery)
	return iq
}
