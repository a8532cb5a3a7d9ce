package inbox

import (
	"strconv"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Parse makes an [Update] of what Telegram sent, without decoding it: it reads
// the JSON once, checks that it is valid, and takes out what sorts the update.
// The update keeps raw, which must not be changed afterwards. now is when it
// was received.
//
// Chat is the id of the chat that the update is of. A callback query is of the
// chat of the message that its button is under. Where there is no chat it is
// the user's: inline queries, payments, callback queries of inline messages,
// poll answers, business connections, managed bots. A poll's state is in the
// poll's own order, since it does not say where the poll is, and a pre-checkout
// query in one of its user's payments, since Telegram waits for its answer for
// 10 s only, and not for what else the user has written. Kinds that are
// not known yet are read by the same rules; one that names no chat and no user
// keeps the order among its kind.
//
// What is no update (not JSON, not an object, no positive update_id) is an
// error of kind [errors.BadRequest], which quotes nothing of it.
func Parse(tenant string, raw []byte, now time.Time) (Update, error) {
	u := Update{Tenant: tenant, Raw: raw, ReceivedAt: now}
	s := scanner{data: raw}
	var best place
	known := false
	s.space()
	ok := s.object(1, func(key []byte) bool {
		if string(key) == "update_id" {
			id, found := s.integer()
			if !found || id <= 0 || u.ID != 0 {
				return false
			}
			u.ID = id
			return true
		}
		if s.peek() != '{' || known {
			return s.value(1)
		}
		kind, is := kindOf(key)
		if u.Kind != "" && !is {
			return s.value(1)
		}
		u.Kind, known, best = kind, is, place{}
		return s.sort(&best)
	})
	s.space()
	if !ok || u.ID == 0 || s.at != len(raw) {
		return Update{}, fail("parse update", tenant, errors.BadRequest, errNoUpdate)
	}
	if u.Kind == "" {
		u.Kind = Unknown
	}
	u.Chat = best.name(u.Kind)
	if keep := Keep(u.Kind); keep > 0 {
		u.ExpiresAt = now.Add(keep)
	}
	return u, nil
}

var errNoUpdate = errors.New("not an update of Telegram's")

// The rules by which an update's order is found, the best first.
const (
	byChat = iota + 1
	byMessage
	byVoter
	byFrom
	byUser
	byPoll
)

// place is what an update's order is known by.
type place struct {
	rule int // 0: nothing
	id   int64
	poll []byte
}

func (p *place) take(rule int, id int64, ok bool) {
	if ok && (p.rule == 0 || rule <= p.rule) {
		p.rule, p.id = rule, id
	}
}

func (p *place) name(kind string) string {
	switch {
	case p.rule == byPoll && kind == "poll":
		return "poll:" + string(p.poll)
	case p.rule == 0 || p.rule == byPoll:
		return "kind:" + kind
	case kind == "pre_checkout_query":
		return "checkout:" + strconv.FormatInt(p.id, 10)
	}
	return strconv.FormatInt(p.id, 10)
}

// sort reads the object that an update is in and notes what its order is known
// by.
func (s *scanner) sort(best *place) bool {
	return s.object(2, func(key []byte) bool {
		switch string(key) {
		case "chat":
			return s.idInto(best, byChat)
		case "message":
			if s.peek() != '{' {
				break
			}
			return s.object(3, func(key []byte) bool {
				if string(key) == "chat" {
					return s.idInto(best, byMessage)
				}
				return s.value(3)
			})
		case "voter_chat":
			return s.idInto(best, byVoter)
		case "from":
			return s.idInto(best, byFrom)
		case "user":
			return s.idInto(best, byUser)
		case "id":
			start := s.at
			if !s.value(2) {
				return false
			}
			if text := s.data[start:s.at]; best.rule == 0 && plainText(text) {
				best.rule, best.poll = byPoll, text[1:len(text)-1]
			}
			return true
		}
		return s.value(2)
	})
}

// idInto reads a value, and where it is an object with an id, notes that.
func (s *scanner) idInto(best *place, rule int) bool {
	if s.peek() != '{' {
		return s.value(2)
	}
	return s.object(3, func(key []byte) bool {
		if string(key) != "id" {
			return s.value(3)
		}
		start := s.at
		if id, ok := s.integer(); ok {
			best.take(rule, id, true)
			return true
		}
		s.at = start
		return s.value(3)
	})
}

// plainText reports whether JSON is a string that can be a part of a name as
// it stands.
func plainText(text []byte) bool {
	if len(text) < 3 || len(text) > 66 || text[0] != '"' {
		return false
	}
	for _, c := range text[1 : len(text)-1] {
		if c <= ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return true
}
