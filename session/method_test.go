package session

import (
	"reflect"
	"strings"
	"testing"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
)

// methods returns the Bot API methods that gotgbot has.
func methods() []string {
	var all []string
	bot := reflect.TypeFor[*gotgbot.Bot]()
	for i := range bot.NumMethod() {
		name, found := strings.CutSuffix(bot.Method(i).Name, "WithContext")
		if found && name != "Request" { // which is all of them
			all = append(all, strings.ToLower(name[:1])+name[1:])
		}
	}
	return all
}

func TestEveryMethodOfGotgbotIsClassed(t *testing.T) {
	known := make(map[string]bool)
	for _, method := range methods() {
		known[method] = true
		assert.NotZero(t, effects[method], "%s: say in effects what it does to carry it out twice", method)
	}
	assert.Greater(t, len(known), 150)
	for method, effect := range effects {
		assert.True(t, known[method], "%s is no method of gotgbot", method)
		assert.Equal(t, strings.HasPrefix(method, "get"), effect == reads, method)
	}
}

func TestWhatShowsTwiceIsNotRepeated(t *testing.T) {
	for method, want := range map[string]effect{
		"sendMessage": once, "SendMessage": once, "SENDMESSAGE": once, "copyMessages": once,
		"editMessageText": again, "setwebhook": again, "deleteMessage": again, "sendChatAction": again,
		"unpinChatMessage": once, "removeMyProfilePhoto": once,
		"getMe": reads, "getSomethingNew": reads, "sendSomethingNew": once, "setSomethingNew": once, "": once,
	} {
		assert.Equal(t, want, effectOf(method), method)
	}
}
