package bottest_test

import (
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

func price(amount int64) []gotgbot.LabeledPrice {
	return []gotgbot.LabeledPrice{{Label: "Tea", Amount: amount}}
}

// next is the bot's next update; those before it are confirmed.
func next(t *testing.T, b *gotgbot.Bot, offset *int64) gotgbot.Update {
	t.Helper()
	got, err := b.GetUpdates(&gotgbot.GetUpdatesOpts{Offset: *offset, Limit: 1})
	require.NoError(t, err)
	require.Len(t, got, 1)
	*offset = got[0].UpdateId + 1
	return got[0]
}

// nothing asserts that no update waits for the bot.
func nothing(t *testing.T, b *gotgbot.Bot, offset int64, why ...any) {
	t.Helper()
	got, err := b.GetUpdates(&gotgbot.GetUpdatesOpts{Offset: offset})
	require.NoError(t, err)
	assert.Empty(t, got, why...)
}

func TestAUserPaysAnInvoiceAndIsPaidBack(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		b := client(t, srv, bot)
		var offset int64
		ann.Start(bot, "")
		next(t, b, &offset)

		m, err := b.SendInvoice(ann.ID, "Tea", "A cup", "order-7", "XTR", price(50), nil)
		require.NoError(t, err)
		assert.Equal(t, &gotgbot.Invoice{Title: "Tea", Description: "A cup", Currency: "XTR", TotalAmount: 50}, m.Invoice)
		assert.True(t, m.ReplyMarkup.InlineKeyboard[0][0].Pay)

		asked := ann.Pay(m, bottest.Order{})
		u := next(t, b, &offset)
		assert.Equal(t, asked, u.PreCheckoutQuery)
		assert.Equal(t, "order-7", u.PreCheckoutQuery.InvoicePayload)
		assert.Equal(t, int64(50), u.PreCheckoutQuery.TotalAmount)
		assert.Equal(t, ann.ID, u.PreCheckoutQuery.From.Id)
		nothing(t, b, offset, "nothing is paid before the bot agrees")
		_, err = b.AnswerPreCheckoutQuery(asked.Id, true, nil)
		require.NoError(t, err)

		paid := next(t, b, &offset).Message
		require.NotNil(t, paid.SuccessfulPayment)
		assert.Equal(t, ann.ID, paid.From.Id)
		assert.Equal(t, ann.ID, paid.Chat.Id)
		assert.Equal(t, "order-7", paid.SuccessfulPayment.InvoicePayload)
		assert.Equal(t, int64(50), paid.SuccessfulPayment.TotalAmount)
		id := paid.SuccessfulPayment.TelegramPaymentChargeId
		assert.NotEmpty(t, id)
		assert.NotEmpty(t, paid.SuccessfulPayment.ProviderPaymentChargeId)

		_, err = b.AnswerPreCheckoutQuery(asked.Id, true, nil)
		assert.ErrorContains(t, err, "query is too old", "it is answered once")
		nothing(t, b, offset, "and paid once")

		_, err = b.RefundStarPayment(srv.NewUser("Ben").ID, id, nil)
		assert.ErrorContains(t, err, "CHARGE_ID_INVALID", "it is Ann's")
		_, err = b.RefundStarPayment(ann.ID, id, nil)
		require.NoError(t, err)
		refunded := next(t, b, &offset).Message.RefundedPayment
		require.NotNil(t, refunded)
		assert.Equal(t, id, refunded.TelegramPaymentChargeId)
		_, err = b.RefundStarPayment(ann.ID, id, nil)
		assert.ErrorContains(t, err, "CHARGE_ALREADY_REFUNDED")
		nothing(t, b, offset)
	})
}

func TestAnOrderThatTheBotRefusesOrForgetsIsNotPaid(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		b := client(t, srv, bot)
		var offset int64
		ann.Start(bot, "")
		next(t, b, &offset)
		m, err := b.SendInvoice(ann.ID, "Tea", "A cup", "p", "EUR", price(250), &gotgbot.SendInvoiceOpts{ProviderToken: "provider"})
		require.NoError(t, err)
		assert.Equal(t, "Pay EUR 2.50", m.ReplyMarkup.InlineKeyboard[0][0].Text)

		asked := ann.Pay(m, bottest.Order{})
		next(t, b, &offset)
		_, err = b.AnswerPreCheckoutQuery(asked.Id, false, nil)
		assert.ErrorContains(t, err, `parameter "error_message" is required`)
		_, err = b.AnswerPreCheckoutQuery(asked.Id, false, &gotgbot.AnswerPreCheckoutQueryOpts{ErrorMessage: "sold out"})
		require.NoError(t, err)
		nothing(t, b, offset)

		asked = ann.Pay(m, bottest.Order{})
		next(t, b, &offset)
		time.Sleep(11 * time.Second)
		_, err = b.AnswerPreCheckoutQuery(asked.Id, true, nil)
		assert.ErrorContains(t, err, "query is too old", "a bot has 10 s")
		nothing(t, b, offset)

		asked = ann.Pay(m, bottest.Order{})
		next(t, b, &offset)
		_, err = client(t, srv, srv.NewBot("thief_bot")).AnswerPreCheckoutQuery(asked.Id, true, nil)
		assert.ErrorContains(t, err, "query is too old", "another bot's query")
		time.Sleep(9 * time.Second)
		_, err = b.AnswerPreCheckoutQuery(asked.Id, true, nil)
		require.NoError(t, err)
		paid := next(t, b, &offset).Message.SuccessfulPayment
		_, err = b.RefundStarPayment(ann.ID, paid.TelegramPaymentChargeId, nil)
		assert.ErrorContains(t, err, "CHARGE_ID_INVALID", "Telegram pays back Stars only")
	})
}

func TestAnOrderIsShippedAndTipped(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		b := client(t, srv, bot)
		var offset int64
		ann.Start(bot, "")
		next(t, b, &offset)
		m, err := b.SendInvoice(ann.ID, "Tea", "A box", "p", "EUR", price(1000), &gotgbot.SendInvoiceOpts{
			ProviderToken: "provider", IsFlexible: true, NeedShippingAddress: true, MaxTipAmount: 100,
		})
		require.NoError(t, err)
		home := gotgbot.ShippingAddress{CountryCode: "IE", City: "Dublin"}
		asked := ann.AskShipping(m, home)
		assert.Equal(t, asked, next(t, b, &offset).ShippingQuery)
		post := gotgbot.ShippingOption{Id: "post", Title: "Post", Prices: price(500)}
		_, err = b.AnswerShippingQuery(asked.Id, true, nil)
		assert.ErrorContains(t, err, "can't parse shipping options")
		_, err = b.AnswerShippingQuery(asked.Id, true, &gotgbot.AnswerShippingQueryOpts{ShippingOptions: []gotgbot.ShippingOption{post}})
		require.NoError(t, err)
		_, err = b.AnswerShippingQuery(asked.Id, false, &gotgbot.AnswerShippingQueryOpts{ErrorMessage: "no"})
		assert.ErrorContains(t, err, "query is too old")

		order := bottest.Order{Info: &gotgbot.OrderInfo{Name: "Ann", ShippingAddress: &home}, Shipping: post, Tip: 50}
		checkout := ann.Pay(m, order)
		u := next(t, b, &offset).PreCheckoutQuery
		assert.Equal(t, int64(1550), u.TotalAmount)
		assert.Equal(t, "post", u.ShippingOptionId)
		_, err = b.AnswerPreCheckoutQuery(checkout.Id, true, nil)
		require.NoError(t, err)
		paid := next(t, b, &offset).Message.SuccessfulPayment
		assert.Equal(t, int64(1550), paid.TotalAmount)
		assert.Equal(t, order.Info, paid.OrderInfo)
		assert.Equal(t, "post", paid.ShippingOptionId)

		assert.Panics(t, func() { ann.Pay(m, bottest.Order{}) }, "it must be shipped somehow")
		assert.Panics(t, func() { ann.Pay(m, bottest.Order{Shipping: post, Tip: 101}) })
		assert.Panics(t, func() { ann.Pay(ann.Write(bot, "no invoice"), bottest.Order{}) })
	})
}

func TestALinkIsPaidInTheUsersOwnChat(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot, ben := srv.NewBot("shop_bot"), srv.NewUser("Ben")
		b := client(t, srv, bot)
		var offset int64
		link, err := b.CreateInvoiceLink("Tea", "A cup", "p", "XTR", price(1), nil)
		require.NoError(t, err)
		asked := ben.PayLink(link, bottest.Order{})
		next(t, b, &offset)
		_, err = b.AnswerPreCheckoutQuery(asked.Id, true, nil)
		require.NoError(t, err)
		assert.Equal(t, ben.ID, next(t, b, &offset).Message.Chat.Id)
		assert.Panics(t, func() { ben.PayLink(link+"x", bottest.Order{}) })
	})
}

// A bot in privacy mode hears of payments in a group, too.
func TestAPaymentInAGroup(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		b := client(t, srv, bot)
		group := srv.NewSupergroup("team", ann, bot)
		bot.SetPrivacy(true)
		m, err := b.SendInvoice(group.ID, "Tea", "A cup", "p", "XTR", price(1), &gotgbot.SendInvoiceOpts{
			ReplyMarkup: gotgbot.InlineKeyboardMarkup{InlineKeyboard: [][]gotgbot.InlineKeyboardButton{{{Text: "Buy", Pay: true}}}},
		})
		require.NoError(t, err)
		assert.Equal(t, "Buy", m.ReplyMarkup.InlineKeyboard[0][0].Text)
		asked := ann.Pay(m, bottest.Order{})
		_, err = b.AnswerPreCheckoutQuery(asked.Id, true, nil)
		require.NoError(t, err)
		updates, err := b.GetUpdates(nil)
		require.NoError(t, err)
		last := updates[len(updates)-1].Message
		require.NotNil(t, last)
		assert.Equal(t, group.ID, last.Chat.Id)
		assert.NotNil(t, last.SuccessfulPayment)
	})
}

func TestInvoicesThatTheServerRefuses(t *testing.T) {
	s := newScene(t)
	ok := []any{"chat_id", s.ann.ID, "title", "t", "description", "d", "payload", "p", "currency", "XTR", "prices", `[{"label":"a","amount":1}]`}
	for name, row := range map[string]struct {
		params []any
		want   string
	}{
		"no title":               {[]any{"title", ""}, `parameter "title" is required`},
		"no payload":             {[]any{"payload", ""}, `parameter "payload" is required`},
		"no JSON":                {[]any{"prices", "x"}, "can't parse prices JSON object"},
		"no list":                {[]any{"prices", "{}"}, "expected an Array of labeled prices"},
		"no price":               {[]any{"prices", "[]"}, "there must be at least one price"},
		"a price without a name": {[]any{"prices", `[{"amount":1}]`}, "can't parse labeled price: LabeledPrice label must be non-empty"},
		"nothing to pay":         {[]any{"prices", `[{"label":"a","amount":0}]`}, "CURRENCY_TOTAL_AMOUNT_INVALID"},
		"Stars for two things":   {[]any{"prices", `[{"label":"a","amount":1},{"label":"b","amount":1}]`}, "STARS_INVOICE_INVALID"},
		"money to no provider":   {[]any{"currency", "EUR"}, "PAYMENT_PROVIDER_INVALID"},
		"another button first": {
			[]any{"reply_markup", `{"inline_keyboard":[[{"text":"x","callback_data":"x"}]]}`}, "REPLY_MARKUP_BUY_EMPTY",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := call(t, s.srv, s.bot.Token(), "sendInvoice", append(append([]any{}, ok...), row.params...)...)
			assert.Equal(t, "Bad Request: "+row.want, r.Description)
		})
	}
	r := call(t, s.srv, s.bot.Token(), "sendInvoice", append([]any{}, ok...)...)
	assert.True(t, r.OK, r.Description)
}
