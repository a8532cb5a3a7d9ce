package inbox

import (
	"slices"
	"time"
)

// seen remembers ids for a while. Telegram numbers a bot's updates one after
// the other, so it keeps spans of ids instead of ids: a busy day is some two
// dozen spans, however many updates it has.
type seen struct {
	spans []span // by ascending lo, none overlapping
	next  int64  // no span ends before this hour
}

// span is the ids from lo to hi, both included, all put within one hour.
type span struct{ lo, hi, hour int64 }

const never = 1<<63 - 1

// hours is the time in hours since 1970, rounded down.
func hours(t time.Time) int64 { return t.Unix() / 3600 }

// find returns the place of the first span that does not end before id.
func (s *seen) find(id int64) int {
	// The usual id is the greatest.
	if n := len(s.spans); n == 0 || s.spans[n-1].hi < id {
		return n
	}
	at, _ := slices.BinarySearchFunc(s.spans, id, func(p span, id int64) int {
		switch {
		case p.hi < id:
			return -1
		case p.lo > id:
			return 1
		}
		return 0
	})
	return at
}

func (s *seen) has(id int64) bool {
	at := s.find(id)
	return at < len(s.spans) && s.spans[at].lo <= id
}

// add remembers an id that it does not have.
func (s *seen) add(id, hour int64) {
	at := s.find(id)
	before := at > 0 && s.spans[at-1].hi == id-1 && s.spans[at-1].hour == hour
	after := at < len(s.spans) && s.spans[at].lo == id+1 && s.spans[at].hour == hour
	switch {
	case before && after:
		s.spans[at-1].hi = s.spans[at].hi
		s.spans = slices.Delete(s.spans, at, at+1)
	case before:
		s.spans[at-1].hi = id
	case after:
		s.spans[at].lo = id
	default:
		if len(s.spans) == 0 {
			s.next = hour
		}
		s.next = min(s.next, hour)
		s.spans = slices.Insert(s.spans, at, span{id, id, hour})
	}
}

// forget drops what was put before an hour.
func (s *seen) forget(before int64) {
	if len(s.spans) == 0 || s.next >= before {
		return
	}
	s.spans = slices.DeleteFunc(s.spans, func(p span) bool { return p.hour < before })
	s.next = never
	for _, p := range s.spans {
		s.next = min(s.next, p.hour)
	}
	if len(s.spans) == 0 {
		s.spans = nil
	}
}
