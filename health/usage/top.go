package usage

import (
	"cmp"
	"encoding/json"
	"math/bits"
	"slices"
	"strings"
)

// ChatCount is how much there was with a chat.
type ChatCount struct {
	Chat Chat `json:"chat"`
	// In is how many updates came from it, and Out how many calls went to it.
	// There may have been up to Missed more of both together, from before it
	// was among the most active.
	In     uint64 `json:"in"`
	Out    uint64 `json:"out"`
	Missed uint64 `json:"missed,omitempty"`
}

func (c *ChatCount) most() uint64 { return c.In + c.Out + c.Missed }

// Top finds the chats with which there is most, among any number of them, in
// the memory of 64: the Space-Saving algorithm (Metwally et al., 2005). With no
// more chats than that it counts exactly. Otherwise each chat that makes up
// more than 1/64 of all is among them. Two of them can be joined. The zero Top
// has none. A copy shares what is counted. It is not safe for concurrent use.
type Top struct {
	chats []ChatCount
	// most is the most that the chat at the same place may have had.
	most []uint64
	// prints are eight bits of the hash of the chat at the same place, eight
	// chats to a word, so that looking for one takes eight steps and not 64.
	prints [topMost / 8]uint64
	// floor is the most that a chat may have had which is not among them. No
	// chat that is has less when there is no more room.
	floor uint64
	last  int // where the last one was put
}

const topMost = 64

func (t *Top) add(chat Chat, hash uint64, in, out uint64) {
	at := t.find(chat, hash)
	if at < 0 {
		at = t.place(chat, hash)
	}
	c := &t.chats[at]
	c.In += in
	c.Out += out
	t.most[at] += in + out
}

const eachByte = 0x0101010101010101

// find returns where a chat is, -1 for nowhere.
func (t *Top) find(chat Chat, hash uint64) int {
	print := hash >> 56 * eachByte
	for w := range (len(t.chats) + 7) / 8 {
		// Bytes of x that are zero get their highest bit set in found, and some
		// others above one that is (see "Determine if a word has a zero byte" in
		// Bit Twiddling Hacks); so look.
		x := t.prints[w] ^ print
		for found := (x - eachByte) &^ x & (eachByte << 7); found != 0; found &= found - 1 {
			at := w*8 + bits.TrailingZeros64(found)/8
			if at < len(t.chats) && t.chats[at].Chat == chat {
				return at
			}
		}
	}
	return -1
}

// place makes room for a chat, if need be that of the least active one.
func (t *Top) place(chat Chat, hash uint64) int {
	chat.Username = strings.Clone(chat.Username) // don't keep a larger text alive
	at := len(t.chats)
	if at < topMost {
		t.chats, t.most = append(t.chats, ChatCount{}), append(t.most, 0)
	} else {
		at = t.least()
		t.floor = max(t.floor, t.most[at])
	}
	t.chats[at], t.most[at] = ChatCount{Chat: chat, Missed: t.floor}, t.floor
	t.print(at, hash)
	return at
}

func (t *Top) print(at int, hash uint64) {
	shift := uint(at % 8 * 8)
	w := &t.prints[at/8]
	*w = *w&^(0xff<<shift) | hash>>56<<shift
}

// least returns where the least active chat is. It is one that has no more
// than the floor, as a rule, and is looked for from where the last one was.
func (t *Top) least() int {
	at := t.last
	for range t.most {
		if at++; at >= len(t.most) {
			at = 0
		}
		if t.most[at] <= t.floor {
			t.last = at
			return at
		}
	}
	for i, n := range t.most {
		if n < t.most[at] {
			at = i
		}
	}
	t.last = at
	return at
}

// Merge joins another one.
func (t *Top) Merge(other *Top) { t.merge(other, topMost) }

func (t *Top) merge(other *Top, most int) {
	if most == 0 || other.IsZero() {
		return
	}
	if t.floor+other.floor == 0 && len(t.chats)+len(other.chats) <= topMost {
		for _, c := range other.chats { // as most hours are: all fit, and nothing was missed
			t.add(c.Chat, c.Chat.hash(), c.In, c.Out)
		}
		return
	}
	all := make(map[Chat]ChatCount, len(t.chats)+len(other.chats))
	for _, c := range t.chats {
		c.Missed += other.floor // unless it is there
		all[c.Chat] = c
	}
	for _, c := range other.chats {
		mine, both := all[c.Chat]
		if both {
			c.Missed += mine.Missed - other.floor
		} else {
			c.Missed += t.floor
		}
		c.In += mine.In
		c.Out += mine.Out
		all[c.Chat] = c
	}
	floor := t.floor + other.floor
	list := make([]ChatCount, 0, len(all))
	for _, c := range all {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b ChatCount) int {
		return cmp.Or(cmp.Compare(b.most(), a.most()), compareChats(a.Chat, b.Chat))
	})
	if len(list) > most {
		floor = max(floor, list[most].most())
		list = list[:most]
	}
	t.set(list, floor)
}

// set takes the place of what there is. Only a report has more than topMost, and
// adds no single ones.
func (t *Top) set(list []ChatCount, floor uint64) {
	*t = Top{chats: list, floor: floor, most: make([]uint64, len(list))}
	for i := range list {
		t.most[i] = list[i].most()
		if i < topMost {
			t.print(i, list[i].Chat.hash())
		}
	}
}

// topSum joins many of them at once: it is what Merge makes of all, but drops
// none and sorts once.
type topSum struct {
	chats map[Chat]ChatCount
	floor uint64
}

func (s *topSum) add(t *Top) {
	for _, c := range t.chats {
		sum := s.chats[c.Chat]
		sum.Chat = c.Chat
		sum.In += c.In
		sum.Out += c.Out
		// Where it is not among them it may have had the floor: so each counts
		// how it differs from that. The sum is right whatever wraps around.
		sum.Missed += c.Missed - t.floor
		s.chats[c.Chat] = sum
	}
	s.floor += t.floor
}

// most returns the n most active chats, the most active first.
func (s *topSum) most(n int) []ChatCount {
	all := Top{chats: make([]ChatCount, 0, len(s.chats))}
	for _, c := range s.chats {
		c.Missed += s.floor
		all.chats = append(all.chats, c)
	}
	return all.Chats(n)
}

func compareChats(a, b Chat) int {
	return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Username, b.Username))
}

// Chats returns the n most active chats, the most active first.
func (t *Top) Chats(n int) []ChatCount {
	list := slices.Clone(t.chats)
	slices.SortFunc(list, func(a, b ChatCount) int {
		return cmp.Or(cmp.Compare(b.In+b.Out, a.In+a.Out), compareChats(a.Chat, b.Chat))
	})
	return list[:min(max(n, 0), len(list))]
}

// IsZero reports whether there are none.
func (t Top) IsZero() bool { return len(t.chats) == 0 && t.floor == 0 }

// Clone returns a copy that shares nothing.
func (t Top) Clone() Top {
	t.chats, t.most = slices.Clone(t.chats), slices.Clone(t.most)
	return t
}

type topJSON struct {
	Chats []ChatCount `json:"chats"`
	Floor uint64      `json:"floor,omitempty"`
}

// MarshalJSON returns the stored form.
func (t Top) MarshalJSON() ([]byte, error) {
	list := t.Chats(len(t.chats))
	return json.Marshal(topJSON{list, t.floor})
}

// UnmarshalJSON reads what MarshalJSON returns.
func (t *Top) UnmarshalJSON(data []byte) error {
	// The chats are read as texts: what an older version wrote may hold a name
	// that is none, or one chat in two spellings, and one bad name must not
	// make all that is stored beside it unreadable.
	var read struct {
		Chats []struct {
			ChatCount
			Chat string `json:"chat"`
		} `json:"chats"`
		Floor uint64 `json:"floor"`
	}
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	at := make(map[Chat]int, len(read.Chats))
	list := make([]ChatCount, 0, min(len(read.Chats), topMost))
	for _, r := range read.Chats {
		c := r.ChatCount
		c.Chat = chatOf(r.Chat)
		if i, seen := at[c.Chat]; seen {
			list[i].In += c.In
			list[i].Out += c.Out
			list[i].Missed += c.Missed
			continue
		}
		if c.Chat.IsZero() || len(list) == topMost {
			read.Floor = max(read.Floor, c.most())
			continue
		}
		at[c.Chat] = len(list)
		list = append(list, c)
	}
	t.set(list, read.Floor)
	return nil
}
