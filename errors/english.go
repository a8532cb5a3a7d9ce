package errors

import (
	"strconv"
	"strings"
	"time"
)

// English is the built-in [Catalogue], with a text for every kind. Embed it in
// a type of your own to change a few of its texts.
type English struct{}

// somethingWrong is for kinds that a person can do nothing about.
const somethingWrong = "Something went wrong. Please try again or contact support."

// waitMark stands in a text where the wait goes.
const waitMark = "{wait}"

// phrase is a text without a known wait, and one with it.
type phrase struct{ text, timed string }

// Text returns the English text. It has one for every kind.
func (English) Text(k Kind, s Scope, wait time.Duration) (string, bool) {
	p := englishPhrase(k, s)
	if p.text == "" {
		p.text = somethingWrong
	}
	if wait <= 0 || p.timed == "" {
		return p.text, true
	}
	return strings.Replace(p.timed, waitMark, englishWait(wait), 1), true
}

func englishPhrase(k Kind, s Scope) phrase {
	if k == RateLimited || k == Throttled {
		if int(s) < len(englishLimits) {
			return englishLimits[s]
		}
		return englishLimits[ScopeUnknown]
	}
	if k < kinds {
		return englishTexts[k]
	}
	return phrase{}
}

func englishWait(wait time.Duration) string {
	n, unit := RoundUp(wait)
	name := "second"
	switch unit {
	case time.Minute:
		name = "minute"
	case time.Hour:
		name = "hour"
	case 24 * time.Hour:
		name = "day"
	}
	if n != 1 {
		name += "s"
	}
	return strconv.Itoa(n) + " " + name
}

var englishLimits = [...]phrase{
	ScopeUnknown: {
		"Too many requests. Please wait a moment and try again.",
		"Too many requests. Please try again in {wait}.",
	},
	ScopeChat: {
		"Too many messages to this chat. Please wait a moment and try again.",
		"Too many messages to this chat. Please try again in {wait}.",
	},
	ScopeTenant: {
		"This bot is sending too much at once. Please wait a moment and try again.",
		"This bot is sending too much at once. Please try again in {wait}.",
	},
	ScopeAll: {
		"System is busy. Please try again in a few seconds.",
		"System is busy. Please try again in {wait}.",
	},
}

var englishTexts = [kinds]phrase{
	Internal: {text: somethingWrong},
	Canceled: {text: "The request was canceled. Please try again if you still need it."},
	Closed: {
		"The service is restarting. Please try again in a few seconds.",
		"The service is restarting. Please try again in {wait}.",
	},

	InvalidToken: {text: "This is not a valid bot token. Please copy the whole token from @BotFather and try again."},
	Unauthorized: {text: "Telegram does not accept this bot's token. Please copy it from @BotFather once more, or get a new token from @BotFather, and enter it."},
	LoggedOut: {
		"This bot has just been logged out of Telegram. Please try again in about 10 minutes.",
		"This bot has just been logged out of Telegram. Please try again in {wait}.",
	},
	TokenTaken: {text: "This bot is already connected to another account. Please disconnect it there first, or use another bot."},
	Exists:     {text: "This account already has a bot. To change its token, please use the option to replace it."},
	WrongBot:   {text: "This token belongs to another bot. Please enter the token of the bot you are changing."},
	NotFound:   {text: "We could not find this. Please check that it still exists, and try again."},
	Stale:      {text: "This was changed by someone else in the meantime. Please reload it and try again."},
	Suspended:  {text: "This bot is suspended. Please contact support to have it resumed."},
	Unverified: {text: "Please confirm first that this bot is yours. Open the confirmation link in Telegram and press Start."},

	BreakerOpen: {
		"This is paused for a moment because the last requests failed. Please try again in a minute.",
		"This is paused for a moment because the last requests failed. Please try again in {wait}.",
	},
	PoolFull: {
		"System is busy. Please try again in a few seconds.",
		"System is busy. Please try again in {wait}.",
	},
	StoreUnavailable: {
		text: "We can't save or read your data right now. Please try again in a few minutes.",
	},

	Timeout:          {text: "Telegram took too long to answer. Please try again."},
	ConnectionFailed: {text: "Failed to connect to Telegram. Please try again later."},
	OutcomeUnknown:   {text: "We could not confirm whether this was done. Please check in Telegram before you try again."},
	Unavailable: {
		"Telegram has problems at the moment. Please try again in a few minutes.",
		"Telegram has problems at the moment. Please try again in {wait}.",
	},
	BadReply: {text: "Telegram's answer could not be understood. Please try again later."},

	Conflict:        {text: "This bot is in use by another program as well. Please stop the other program and try again."},
	BadRequest:      {text: "This was not accepted. Please check what you entered and try again."},
	NotModified:     {text: "Nothing has changed. Please make a change first if you want to save one."},
	ResultLost:      {text: "This was done, but Telegram can't show the result. Please check in Telegram, and do not send it again."},
	MessageNotFound: {text: "This message no longer exists. Please reload the chat and choose another one."},
	QueryExpired:    {text: "This took too long and has expired. Please press the button or send the request again."},
	MessageTooLong:  {text: "This text is too long. Please shorten it and try again."},
	BadMarkup:       {text: "The formatting of this text is not correct. Please check it and try again."},
	FileTooLarge:    {text: "This file is too large. Please choose a smaller one."},
	ChatNotFound:    {text: "The bot does not know this chat. Please check the chat, add the bot to it or start the bot there, and try again."},
	Migrated:        {text: "This group was upgraded by Telegram. Please choose the group again."},

	Forbidden:  {text: "The bot is not allowed to do this. Please check its rights in the chat and try again."},
	Blocked:    {text: "This user has blocked the bot. Please ask the user to unblock it."},
	NotStarted: {text: "This user has not started the bot yet. Please ask the user to open the bot and press Start."},
	Kicked:     {text: "The bot is not in this chat. Please add it to the chat and try again."},
	ChatGone:   {text: "This chat or account no longer exists. Please remove it from your list."},
}
