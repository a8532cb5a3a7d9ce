package bottest

import "strings"

// methodTable holds every method the server knows, by its name in lower case.
func methodTable() map[string]method {
	all := []method{
		// the account
		{name: "getMe", run: getMe},
		{name: "logOut", run: logOut},
		{name: "close", run: closeBot},
		{name: "setMyCommands", run: setMyCommands},
		{name: "getMyCommands", run: getMyCommands},
		{name: "deleteMyCommands", run: deleteMyCommands},
		{name: "getManagedBotToken", run: getManagedBotToken},
		{name: "replaceManagedBotToken", run: replaceManagedBotToken},
		// receiving
		{name: "getUpdates", run: getUpdates},
		{name: "setWebhook", run: setWebhook},
		{name: "deleteWebhook", run: deleteWebhook},
		{name: "getWebhookInfo", run: getWebhookInfo},
		// sending
		{name: "sendMessage", run: sendMessage, sent: true},
		{name: "sendPhoto", run: sendMedia("photo"), sent: true},
		{name: "sendDocument", run: sendMedia("document"), sent: true},
		{name: "sendVideo", run: sendMedia("video"), sent: true},
		{name: "sendAudio", run: sendMedia("audio"), sent: true},
		{name: "sendVoice", run: sendMedia("voice"), sent: true},
		{name: "sendAnimation", run: sendMedia("animation"), sent: true},
		{name: "sendVideoNote", run: sendMedia("video_note"), sent: true},
		{name: "sendSticker", run: sendMedia("sticker"), sent: true},
		{name: "sendMediaGroup", run: sendMediaGroup, sent: true},
		{name: "sendLocation", run: sendLocation, sent: true},
		{name: "sendVenue", run: sendVenue, sent: true},
		{name: "sendContact", run: sendContact, sent: true},
		{name: "sendPoll", run: sendPoll, sent: true},
		{name: "sendDice", run: sendDice, sent: true},
		{name: "sendInvoice", run: sendInvoice, sent: true},
		{name: "forwardMessage", run: forwardMessage, sent: true},
		{name: "forwardMessages", run: several(forwarded, "there are no messages to forward"), sent: true},
		{name: "copyMessage", run: copyMessage, sent: true},
		{name: "copyMessages", run: several(content, "there are no messages to copy"), sent: true},
		{name: "sendChatAction", run: sendChatAction},
		{name: "sendMessageDraft", run: sendMessageDraft},
		// changing what was sent
		{name: "editMessageText", run: editMessageText},
		{name: "editMessageCaption", run: editMessageCaption},
		{name: "editMessageMedia", run: editMessageMedia},
		{name: "editMessageReplyMarkup", run: editMessageReplyMarkup},
		{name: "stopPoll", run: stopPoll},
		{name: "deleteMessage", run: deleteMessage},
		{name: "deleteMessages", run: deleteMessages},
		// answering
		{name: "answerCallbackQuery", run: answerCallbackQuery},
		{name: "answerInlineQuery", run: answerInlineQuery},
		// payments
		{name: "createInvoiceLink", run: createInvoiceLink},
		{name: "answerShippingQuery", run: answerShippingQuery},
		{name: "answerPreCheckoutQuery", run: answerPreCheckoutQuery},
		{name: "refundStarPayment", run: refundStarPayment},
		// chats
		{name: "getChat", run: getChat},
		{name: "getChatMember", run: getChatMember},
		{name: "getChatMemberCount", run: getChatMemberCount},
		{name: "getChatMembersCount", run: getChatMemberCount}, // its old name
		{name: "getChatAdministrators", run: getChatAdministrators},
		{name: "leaveChat", run: leaveChat},
		{name: "pinChatMessage", run: pinChatMessage},
		{name: "unpinChatMessage", run: unpinChatMessage},
		{name: "unpinAllChatMessages", run: unpinAllChatMessages},
		// topics
		{name: "createForumTopic", run: createForumTopic},
		{name: "editForumTopic", run: editForumTopic},
		{name: "closeForumTopic", run: setClosed(true)},
		{name: "reopenForumTopic", run: setClosed(false)},
		{name: "deleteForumTopic", run: deleteForumTopic},
		// files
		{name: "getFile", run: getFile},
	}
	table := make(map[string]method, len(all))
	for _, m := range all {
		table[strings.ToLower(m.name)] = m
	}
	return table
}
