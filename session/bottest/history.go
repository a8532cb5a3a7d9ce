package bottest

import (
	"encoding/json"
	"slices"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// entry is a message as the chat keeps it.
type entry struct {
	id  int64
	seq int64 // grows over all chats
	bot int64 // who sent it, 0 for a user
	raw json.RawMessage

	invoice *invoice // nil for what is none

	first json.RawMessage // raw before its sender edited it, nil if it was not
}

func (e *entry) message() *gotgbot.Message {
	var m gotgbot.Message
	_ = json.Unmarshal(e.raw, &m) // it is our own
	return &m
}

// history is what is in a chat, by growing id. The chat's lock guards it.
type history struct {
	entries []entry
	last    int64
}

func (h *history) next() int64 {
	h.last++
	return h.last
}

func (h *history) add(e entry, keep int) {
	if len(h.entries) >= keep {
		h.entries[0] = entry{}
		h.entries = h.entries[1:]
	}
	h.entries = append(h.entries, e)
}

func (h *history) find(id int64) *entry {
	i, ok := h.index(id)
	if !ok {
		return nil
	}
	return &h.entries[i]
}

func (h *history) remove(id int64) {
	if i, ok := h.index(id); ok {
		h.entries = slices.Delete(h.entries, i, i+1)
	}
}

func (h *history) index(id int64) (int, bool) {
	return slices.BinarySearchFunc(h.entries, id, func(e entry, id int64) int {
		switch {
		case e.id < id:
			return -1
		case e.id > id:
			return 1
		}
		return 0
	})
}
