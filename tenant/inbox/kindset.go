package inbox

import (
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/PaulSonOfLars/gotgbot/v2/ext"
	"github.com/PaulSonOfLars/gotgbot/v2/ext/handlers"
)

// Kinded is what a [Handler] may be besides: one that knows which kinds of
// updates it wants. Sources ask Telegram for those and no others.
type Kinded interface {
	// Kinds returns the kinds, sorted, as allowed_updates has them. Nil is a
	// handler that does not know, or has none; empty is the same, since
	// Telegram can't be asked for nothing: it takes an empty list for its usual
	// kinds.
	Kinds() []string
}

// KindsOf returns the kinds that a handler wants; nil where it does not say,
// which sources take for Telegram's usual ones: all but chat_member,
// message_reaction and message_reaction_count. It is never empty without being
// nil.
func KindsOf(h Handler) []string {
	if k, ok := h.(Kinded); ok && !isNil(h) {
		if kinds := k.Kinds(); len(kinds) > 0 {
			return kinds
		}
	}
	return nil
}

// kindSet collects the kinds that gotgbot's handlers can handle.
type kindSet struct {
	mu    sync.Mutex // guards what follows
	kinds map[string]bool
	blind bool // there is a handler that nobody knows the kinds of
	told  bool // somebody has said which they are
}

func (s *kindSet) want(kinds ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = true
	s.put(kinds...)
}

func (s *kindSet) put(kinds ...string) {
	if s.kinds == nil {
		s.kinds = make(map[string]bool)
	}
	for _, k := range kinds {
		s.kinds[k] = true
	}
}

func (s *kindSet) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kinds) == 0 || s.blind && !s.told {
		return nil
	}
	return slices.Sorted(maps.Keys(s.kinds))
}

func (s *kindSet) add(h ext.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.see(h)
}

// see notes what a handler can handle; what that is, its CheckUpdate says.
func (s *kindSet) see(h ext.Handler) {
	if k, ok := h.(Kinded); ok {
		kinds := k.Kinds()
		s.put(kinds...)
		s.blind = s.blind || len(kinds) == 0
		return
	}
	if p, ok := pointee(h); ok {
		h = p
	}
	switch h := h.(type) {
	case handlers.Message:
		s.put("message")
		s.puts(map[string]bool{
			"edited_message": h.AllowEdited, "channel_post": h.AllowChannel, "edited_channel_post": h.AllowChannel && h.AllowEdited,
			"business_message": h.AllowBusiness, "edited_business_message": h.AllowBusiness && h.AllowEdited,
			"guest_message": h.AllowGuestMessage,
		})
	case handlers.Command:
		s.put("message")
		s.puts(map[string]bool{
			"edited_message": h.AllowEdited, "channel_post": h.AllowChannel, "edited_channel_post": h.AllowChannel && h.AllowEdited,
		})
	case handlers.BusinessConnection:
		s.put("business_connection")
	case handlers.CallbackQuery:
		s.put("callback_query")
	case handlers.ChatJoinRequest:
		s.put("chat_join_request")
	case handlers.ChatMember:
		s.put("chat_member")
	case handlers.ChosenInlineResult:
		s.put("chosen_inline_result")
	case handlers.InlineQuery:
		s.put("inline_query")
	case handlers.ManagedBot:
		s.put("managed_bot")
	case handlers.MyChatMember:
		s.put("my_chat_member")
	case handlers.Poll:
		s.put("poll")
	case handlers.PollAnswer:
		s.put("poll_answer")
	case handlers.PreCheckoutQuery:
		s.put("pre_checkout_query")
	case handlers.PurchasedPaidMedia:
		s.put("purchased_paid_media")
	case handlers.Reaction:
		s.put("message_reaction")
	case handlers.ShippingQuery:
		s.put("shipping_query")
	case handlers.Named:
		s.see(h.Handler)
	case handlers.Conversation:
		all := slices.Concat(h.EntryPoints, h.Exits, h.Fallbacks)
		for _, state := range h.States {
			all = append(all, state...)
		}
		for _, inner := range all {
			s.see(inner)
		}
	default:
		s.blind = true
	}
}

func (s *kindSet) puts(kinds map[string]bool) {
	for k, ok := range kinds {
		if ok {
			s.put(k)
		}
	}
}

// pointee returns what a pointer to one of gotgbot's handlers points to.
func pointee(h ext.Handler) (ext.Handler, bool) {
	v := reflect.ValueOf(h)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Type().Elem().PkgPath() != gotgbotHandlers {
		return nil, false
	}
	inner, ok := v.Elem().Interface().(ext.Handler)
	return inner, ok
}

var gotgbotHandlers = reflect.TypeFor[handlers.Message]().PkgPath()
