package session

import "strings"

// checkMethod reports whether the text can be a method's name: letters and
// digits, so that it is one path segment and nothing else.
func checkMethod(method string) bool {
	if method == "" || len(method) > 64 {
		return false
	}
	for i := range len(method) {
		c := method[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// effect says what it does to carry out a method twice.
type effect uint8

const (
	// once: a second message, charge, link or photo. A method that is not
	// listed is one, since it is not known.
	once effect = iota + 1
	// again: the same as once, though the second answer may be an error such
	// as "message is not modified".
	again
	// reads: nothing.
	reads
)

// effectOf returns what is known of a method, in any spelling.
func effectOf(method string) effect {
	if e, found := effects[method]; found {
		return e
	}
	if e, found := effects[lowerFirst(method)]; found {
		return e
	}
	for name, e := range effects { // spelled in a way that gotgbot never does
		if strings.EqualFold(name, method) {
			return e
		}
	}
	if hasPrefixFold(method, "get") {
		return reads // of a later version of the Bot API
	}
	return once
}

// canonical returns a method's name as the Bot API spells it, and "_OTHER" for
// a method that is not known.
func canonical(method string) string {
	if _, known := effects[method]; known {
		return method
	}
	for name := range effects {
		if strings.EqualFold(name, method) {
			return name
		}
	}
	return "_OTHER"
}

func lowerFirst(s string) string {
	if s == "" || s[0] < 'A' || s[0] > 'Z' {
		return s
	}
	return string(s[0]|0x20) + s[1:]
}

// effects are those of the methods of Bot API 9.6 and later, as gotgbot has
// them; a test fails when gotgbot has one that is not here. Where the
// documentation leaves it open whether twice is the same as once, it is not.
//
// https://core.telegram.org/bots/api#available-methods
var effects = map[string]effect{
	// What sends, and so shows twice.
	"copyMessage":               once,
	"copyMessages":              once,
	"forwardMessage":            once,
	"forwardMessages":           once,
	"postStory":                 once,
	"repostStory":               once,
	"sendAnimation":             once,
	"sendAudio":                 once,
	"sendChatJoinRequestWebApp": once,
	"sendChecklist":             once,
	"sendContact":               once,
	"sendDice":                  once,
	"sendDocument":              once,
	"sendGame":                  once,
	"sendInvoice":               once,
	"sendLivePhoto":             once,
	"sendLocation":              once,
	"sendMediaGroup":            once,
	"sendMessage":               once,
	"sendPaidMedia":             once,
	"sendPhoto":                 once,
	"sendPoll":                  once,
	"sendRichMessage":           once,
	"sendSticker":               once,
	"sendVenue":                 once,
	"sendVideo":                 once,
	"sendVideoNote":             once,
	"sendVoice":                 once,

	// What is shown for some seconds, or replaces what it showed before.
	"sendChatAction":       again,
	"sendMessageDraft":     again,
	"sendRichMessageDraft": again,

	// What pays, gives or uses up.
	"convertGiftToStars":             once,
	"giftPremiumSubscription":        once,
	"refundStarPayment":              again, // of one charge, which is refunded once
	"sendGift":                       once,
	"transferBusinessAccountStars":   once,
	"transferGift":                   once,
	"upgradeGift":                    once,
	"setBusinessAccountGiftSettings": again,

	// What makes something new each time.
	"addStickerToSet":                  once,
	"createChatInviteLink":             once,
	"createChatSubscriptionInviteLink": once,
	"createForumTopic":                 once,
	"createInvoiceLink":                once,
	"createNewStickerSet":              once, // the second time the name is taken
	"exportChatInviteLink":             once, // revokes the one before
	"replaceManagedBotToken":           once, // likewise
	"savePreparedInlineMessage":        once,
	"savePreparedKeyboardButton":       once,
	"uploadStickerFile":                again, // a file that nobody sees

	// What answers a query, which can be done once.
	"answerCallbackQuery":        again,
	"answerChatJoinRequestQuery": again,
	"answerGuestQuery":           again,
	"answerInlineQuery":          again,
	"answerPreCheckoutQuery":     again,
	"answerShippingQuery":        again,
	"answerWebAppQuery":          again,

	// What changes a message to what is given.
	"deleteAllMessageReactions":       again,
	"deleteBusinessMessages":          again,
	"deleteEphemeralMessage":          again,
	"deleteMessage":                   again,
	"deleteMessageReaction":           again,
	"deleteMessages":                  again,
	"deleteStory":                     again,
	"editEphemeralMessageCaption":     again,
	"editEphemeralMessageMedia":       again,
	"editEphemeralMessageReplyMarkup": again,
	"editEphemeralMessageText":        again,
	"editMessageCaption":              again,
	"editMessageChecklist":            again,
	"editMessageLiveLocation":         again,
	"editMessageMedia":                again,
	"editMessageReplyMarkup":          again,
	"editMessageText":                 again,
	"editStory":                       again,
	"readBusinessMessage":             again,
	"setGameScore":                    again,
	"setMessageReaction":              again,
	"stopMessageLiveLocation":         again,
	"stopPoll":                        again,

	// Chats and their members.
	"approveChatJoinRequest":            again,
	"approveSuggestedPost":              again,
	"banChatMember":                     again,
	"banChatSenderChat":                 again,
	"closeForumTopic":                   again,
	"closeGeneralForumTopic":            again,
	"declineChatJoinRequest":            again,
	"declineSuggestedPost":              again,
	"deleteChatPhoto":                   again,
	"deleteChatStickerSet":              again,
	"deleteForumTopic":                  again,
	"editChatInviteLink":                again,
	"editChatSubscriptionInviteLink":    again,
	"editForumTopic":                    again,
	"editGeneralForumTopic":             again,
	"hideGeneralForumTopic":             again,
	"leaveChat":                         again,
	"pinChatMessage":                    again,
	"promoteChatMember":                 again,
	"removeChatVerification":            again,
	"removeUserVerification":            again,
	"reopenForumTopic":                  again,
	"reopenGeneralForumTopic":           again,
	"restrictChatMember":                again,
	"revokeChatInviteLink":              again,
	"setChatAdministratorCustomTitle":   again,
	"setChatDescription":                again,
	"setChatMemberTag":                  again,
	"setChatMenuButton":                 again,
	"setChatPermissions":                again,
	"setChatPhoto":                      once, // the chat is told of it each time
	"setChatStickerSet":                 again,
	"setChatTitle":                      again,
	"unbanChatMember":                   again,
	"unbanChatSenderChat":               again,
	"unhideGeneralForumTopic":           again,
	"unpinAllChatMessages":              again,
	"unpinAllForumTopicMessages":        again,
	"unpinAllGeneralForumTopicMessages": again,
	"unpinChatMessage":                  once, // without message_id it unpins the latest, and then the one before
	"verifyChat":                        again,
	"verifyUser":                        again,

	// The bot itself, business accounts, sticker sets.
	"close":                             once, // the second one is refused for ten minutes
	"deleteMyCommands":                  again,
	"deleteStickerFromSet":              again,
	"deleteStickerSet":                  again,
	"deleteWebhook":                     again,
	"editUserStarSubscription":          again,
	"logOut":                            once, // from then on this server knows the bot no more
	"removeBusinessAccountProfilePhoto": once, // and then the photo before it
	"removeMyProfilePhoto":              once,
	"replaceStickerInSet":               once, // the second time the old one is gone
	"setBusinessAccountBio":             again,
	"setBusinessAccountName":            again,
	"setBusinessAccountProfilePhoto":    once, // a second photo
	"setBusinessAccountUsername":        again,
	"setCustomEmojiStickerSetThumbnail": again,
	"setManagedBotAccessSettings":       again,
	"setMyCommands":                     again,
	"setMyDefaultAdministratorRights":   again,
	"setMyDescription":                  again,
	"setMyName":                         again,
	"setMyProfilePhoto":                 once, // a second photo
	"setMyShortDescription":             again,
	"setPassportDataErrors":             again,
	"setStickerEmojiList":               again,
	"setStickerKeywords":                again,
	"setStickerMaskPosition":            again,
	"setStickerPositionInSet":           again,
	"setStickerSetThumbnail":            again,
	"setStickerSetTitle":                again,
	"setUserEmojiStatus":                again,
	"setWebhook":                        again,

	"getAvailableGifts":               reads,
	"getBusinessAccountGifts":         reads,
	"getBusinessAccountStarBalance":   reads,
	"getBusinessConnection":           reads,
	"getChat":                         reads,
	"getChatAdministrators":           reads,
	"getChatGifts":                    reads,
	"getChatMember":                   reads,
	"getChatMemberCount":              reads,
	"getChatMenuButton":               reads,
	"getCustomEmojiStickers":          reads,
	"getFile":                         reads,
	"getForumTopicIconStickers":       reads,
	"getGameHighScores":               reads,
	"getManagedBotAccessSettings":     reads,
	"getManagedBotToken":              reads,
	"getMe":                           reads,
	"getMyCommands":                   reads,
	"getMyDefaultAdministratorRights": reads,
	"getMyDescription":                reads,
	"getMyName":                       reads,
	"getMyShortDescription":           reads,
	"getMyStarBalance":                reads,
	"getStarTransactions":             reads,
	"getStickerSet":                   reads,
	"getUpdates":                      reads, // what an offset confirms stays confirmed
	"getUserChatBoosts":               reads,
	"getUserGifts":                    reads,
	"getUserPersonalChatMessages":     reads,
	"getUserProfileAudios":            reads,
	"getUserProfilePhotos":            reads,
	"getWebhookInfo":                  reads,
}
