package bottest

import (
	"cmp"
	"slices"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// Messages returns what is in a chat now, oldest first: what users and bots
// have sent, after edits, without what was deleted, and at most
// [Config.KeepMessages]. For a user's id these are its private chats with all
// bots; [Bot.Messages] tells them apart.
func (s *Server) Messages(chatID int64) []gotgbot.Message {
	if chatID < 0 {
		if c := s.world.chat(chatID); c != nil {
			return decode(c.entries())
		}
		return nil
	}
	var all []entry
	for _, b := range s.world.allBots() {
		if c := b.dialog(chatID); c != nil {
			all = append(all, c.entries()...)
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.seq, b.seq) })
	return decode(all)
}

// Messages returns what is in a chat of the bot now, as [Server.Messages]
// does.
func (b *Bot) Messages(chatID int64) []gotgbot.Message {
	if chatID < 0 {
		return b.srv.Messages(chatID)
	}
	if c := b.dialog(chatID); c != nil {
		return decode(c.entries())
	}
	return nil
}

func (c *chat) entries() []entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.history.entries)
}

func decode(entries []entry) []gotgbot.Message {
	all := make([]gotgbot.Message, 0, len(entries))
	for _, e := range entries {
		all = append(all, *e.message())
	}
	return all
}
