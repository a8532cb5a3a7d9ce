package session

import (
	"context"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
)

// Bot returns a gotgbot Bot that sends through the session, without asking
// Telegram anything. Its Token field holds the masked token, "123456:***", and
// its client the real one, so the Bot can be logged in any form; its methods
// work as ever. user is what getMe returned at some time; its Id may be zero.
func (s *Session) Bot(key string, token Token, user gotgbot.User) *gotgbot.Bot {
	if user.Id == 0 {
		user.Id = token.ID()
		user.IsBot = true
	}
	masked := token.String()
	return &gotgbot.Bot{
		Token:     masked,
		User:      user,
		BotClient: Client{session: s, bot: &identity{key: key, token: token, masked: masked}},
	}
}

// NewBot is [Session.Bot] after a getMe, which tells whether Telegram accepts
// the token and who the bot is. A token that it does not accept is an error of
// kind [errors.Unauthorized]; one that it does not know the form of, or the
// zero Token, is [errors.InvalidToken].
func (s *Session) NewBot(ctx context.Context, key string, token Token) (*gotgbot.Bot, error) {
	if token.IsZero() {
		return nil, &errors.Error{Kind: errors.InvalidToken, Op: "getMe", Key: key, Err: errors.New("zero token")}
	}
	bot := s.Bot(key, token, gotgbot.User{})
	user, err := bot.GetMeWithContext(findingOut(ctx), nil)
	if err != nil {
		return nil, s.typed("getMe", key, err)
	}
	if user.Id != token.ID() {
		return nil, &errors.Error{Kind: errors.BadReply, Op: "getMe", Key: key, Err: badReply("another bot's id")}
	}
	bot.User = *user
	return bot, nil
}

// typed makes sure that an error has a kind. What gotgbot adds after the call,
// a result of the wrong form, has none.
func (s *Session) typed(op, key string, err error) error {
	if _, ok := errors.AsType[*errors.Error](err); ok {
		return err
	}
	return &errors.Error{Kind: errors.BadReply, Op: op, Key: key, Err: badReply("result of another form")}
}
