package bottest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// stars is the currency of Telegram Stars.
const stars = "XTR"

// keepCheckout is how long a bot may take to answer a pre-checkout query (Bot
// API, answerPreCheckoutQuery), though its update lives longer.
const keepCheckout = 10 * time.Second

// invoice is what a bot asks to be paid. It never changes.
type invoice struct {
	bot               *Bot
	currency, payload string
	total             int64
	flexible          bool  // the price depends on the shipping option
	tip               int64 // the largest
}

// checkout is an order that waits for its bot.
type checkout struct {
	chat    *chat // where the invoice is
	user    *User
	payment gotgbot.SuccessfulPayment // less its ids
}

// charge is what was paid, by its Telegram id.
type charge struct {
	checkout
	refunded bool
}

// parseInvoice reads the parameters of sendInvoice and createInvoiceLink.
func (q *request) parseInvoice() (*invoice, *apiError) {
	p := q.params
	for _, name := range []string{"title", "description", "payload", "currency", "prices"} {
		if p.get(name) == "" {
			return nil, required(name)
		}
	}
	prices, bad := parsePrices([]byte(p.get("prices")))
	if bad != nil {
		return nil, bad
	}
	inv := &invoice{
		bot: q.bot, currency: p.get("currency"), payload: p.get("payload"), total: sum(prices),
		flexible: p.bool("is_flexible"), tip: p.id("max_tip_amount"),
	}
	// What follows is said by Telegram itself (payments.exportInvoice).
	switch {
	case len(inv.payload) > 128:
		return nil, badRequest("INVOICE_PAYLOAD_INVALID")
	case inv.currency == stars && (len(prices) != 1 || inv.tip != 0):
		return nil, badRequest("STARS_INVOICE_INVALID")
	case inv.currency == stars:
		inv.flexible = false
	case p.get("provider_token") == "":
		return nil, badRequest("PAYMENT_PROVIDER_INVALID")
	}
	if inv.total <= 0 {
		return nil, badRequest("CURRENCY_TOTAL_AMOUNT_INVALID")
	}
	return inv, nil
}

func required(name string) *apiError {
	return badRequest("parameter " + strconv.Quote(name) + " is required")
}

func parsePrices(text []byte) ([]gotgbot.LabeledPrice, *apiError) {
	if !json.Valid(text) {
		return nil, badRequest("can't parse prices JSON object")
	}
	var raw []json.RawMessage
	if json.Unmarshal(text, &raw) != nil {
		return nil, badRequest("expected an Array of labeled prices")
	}
	prices := make([]gotgbot.LabeledPrice, len(raw))
	for i, one := range raw {
		switch err := json.Unmarshal(one, &prices[i]); {
		case err != nil:
			return nil, badRequest("can't parse labeled price: LabeledPrice must be an Object")
		case prices[i].Label == "":
			return nil, badRequest("can't parse labeled price: LabeledPrice label must be non-empty")
		}
	}
	if len(prices) == 0 {
		return nil, badRequest("there must be at least one price")
	}
	return prices, nil
}

func sum(prices []gotgbot.LabeledPrice) (total int64) {
	for _, p := range prices {
		total += p.Amount
	}
	return total
}

// sendInvoice sends an invoice with a button to pay.
func sendInvoice(q *request) (any, *apiError) {
	inv, bad := q.parseInvoice()
	if bad != nil {
		return nil, bad
	}
	q.invoice = inv
	p := q.params
	return q.send(&gotgbot.Message{Invoice: &gotgbot.Invoice{
		Title: p.get("title"), Description: p.get("description"), StartParameter: p.get("start_parameter"),
		Currency: inv.currency, TotalAmount: inv.total,
	}})
}

// payButton returns the keyboard of an invoice: the bot's, whose first button
// pays, or one with that button.
func (inv *invoice) payButton(markup *gotgbot.InlineKeyboardMarkup) (*gotgbot.InlineKeyboardMarkup, *apiError) {
	if markup == nil {
		text := fmt.Sprintf("Pay %s %d.%02d", inv.currency, inv.total/100, inv.total%100)
		if inv.currency == stars {
			text = fmt.Sprintf("Pay ⭐️%d", inv.total)
		}
		return &gotgbot.InlineKeyboardMarkup{InlineKeyboard: [][]gotgbot.InlineKeyboardButton{{{Text: text, Pay: true}}}}, nil
	}
	if !markup.InlineKeyboard[0][0].Pay {
		return nil, badRequest("REPLY_MARKUP_BUY_EMPTY")
	}
	return markup, nil
}

func createInvoiceLink(q *request) (any, *apiError) {
	inv, bad := q.parseInvoice()
	if bad != nil {
		return nil, bad
	}
	link := "https://t.me/$" + q.srv.rand.text(22)
	q.srv.world.mu.Lock()
	defer q.srv.world.mu.Unlock()
	q.srv.world.invoices[link] = inv
	return link, nil
}

// An Order is how a user pays an invoice.
type Order struct {
	// Info is what the user has filled in; nil is nothing.
	Info *gotgbot.OrderInfo
	// Shipping is one of the options the bot has offered for the address; see
	// [User.AskShipping].
	Shipping gotgbot.ShippingOption
	// Tip is added to the price, up to the invoice's max_tip_amount.
	Tip int64
}

// Pay pays the invoice in a bot's message. The bot gets a pre-checkout query,
// which is returned. If it agrees within 10 s, the money is paid, and the bot
// gets a message with the successful payment; if not, nothing happens. Pay
// panics if there is no invoice.
func (u *User) Pay(m *gotgbot.Message, o Order) *gotgbot.PreCheckoutQuery {
	c, inv := u.invoiceIn("Pay", m)
	return u.checkOut(c, inv, o)
}

// PayLink is [User.Pay] for a link of createInvoiceLink. The payment's message is
// in the user's private chat with the bot.
func (u *User) PayLink(link string, o Order) *gotgbot.PreCheckoutQuery {
	u.srv.world.mu.RLock()
	inv := u.srv.world.invoices[link]
	u.srv.world.mu.RUnlock()
	if inv == nil {
		panic("bottest: PayLink: no bot has made this link")
	}
	return u.checkOut(u.dialog(inv.bot), inv, o)
}

// AskShipping tells the address to which an invoice's goods are to be sent. The
// bot gets a shipping query, which is returned, and answers with options, or
// that it does not deliver there. It panics if the message has no invoice with
// is_flexible.
func (u *User) AskShipping(m *gotgbot.Message, to gotgbot.ShippingAddress) *gotgbot.ShippingQuery {
	_, inv := u.invoiceIn("AskShipping", m)
	if !inv.flexible {
		panic("bottest: AskShipping: the invoice's price does not depend on shipping")
	}
	sq := &gotgbot.ShippingQuery{
		Id: u.srv.queryID(), From: u.profile(), InvoicePayload: inv.payload, ShippingAddress: to,
	}
	u.query(inv.bot, "shipping_query", sq.Id, sq, &query{keep: keepQuery})
	return sq
}

func (u *User) invoiceIn(what string, m *gotgbot.Message) (*chat, *invoice) {
	if c := u.chatOf(m); c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if e := c.history.find(m.MessageId); e != nil && e.invoice != nil {
			return c, e.invoice
		}
	}
	panic(fmt.Sprintf("bottest: %s: message %d in chat %d has no invoice", what, m.MessageId, m.Chat.Id))
}

func (u *User) checkOut(c *chat, inv *invoice, o Order) *gotgbot.PreCheckoutQuery {
	if inv.flexible != (o.Shipping.Id != "") {
		panic("bottest: an invoice with is_flexible is paid with a shipping option, and no other is")
	}
	if o.Tip < 0 || o.Tip > inv.tip {
		panic("bottest: more of a tip than the invoice takes")
	}
	pq := &gotgbot.PreCheckoutQuery{
		Id: u.srv.queryID(), From: u.profile(), Currency: inv.currency,
		TotalAmount: inv.total + sum(o.Shipping.Prices) + o.Tip, InvoicePayload: inv.payload,
		ShippingOptionId: o.Shipping.Id, OrderInfo: o.Info,
	}
	u.query(inv.bot, "pre_checkout_query", pq.Id, pq, &query{keep: keepCheckout, checkout: &checkout{
		chat: c, user: u, payment: gotgbot.SuccessfulPayment{
			Currency: pq.Currency, TotalAmount: pq.TotalAmount, InvoicePayload: pq.InvoicePayload,
			ShippingOptionId: pq.ShippingOptionId, OrderInfo: pq.OrderInfo,
		},
	}})
	return pq
}

// query sends a query about a payment.
func (u *User) query(b *Bot, kind, id string, value any, q *query) {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // nothing in it can fail
	}
	b.askFor(id, kind, q)
	b.push(kind, body, lane{kind: "payment", id: u.ID}, keepQuery)
}

func (s *Server) queryID() string { return strconv.FormatInt(s.rand.between(1<<60, 1<<62), 10) }

func answerShippingQuery(q *request) (any, *apiError) {
	if !q.params.bool("ok") {
		if q.params.get("error_message") == "" {
			return nil, required("error_message")
		}
	} else if bad := q.params.shippingOptions(); bad != nil {
		return nil, bad
	}
	if q.bot.answer(q.params.get("shipping_query_id"), "shipping_query") == nil {
		return nil, badRequest(queryTooOld)
	}
	return true, nil
}

func (p params) shippingOptions() *apiError {
	var options []struct {
		ID     string          `json:"id"`
		Title  string          `json:"title"`
		Prices json.RawMessage `json:"prices"`
	}
	if found, err := p.json("shipping_options", &options); !found || err != nil {
		return badRequest("can't parse shipping options JSON object")
	}
	for _, o := range options {
		switch {
		case o.ID == "":
			return badRequest("can't parse shipping option: ShippingOption identifier must be non-empty")
		case o.Title == "":
			return badRequest("can't parse shipping option: ShippingOption title must be non-empty")
		}
		if _, bad := parsePrices(o.Prices); bad != nil {
			return badRequest("can't parse shipping option: can't parse shipping option prices")
		}
	}
	return nil
}

func answerPreCheckoutQuery(q *request) (any, *apiError) {
	ok := q.params.bool("ok")
	if !ok && q.params.get("error_message") == "" {
		return nil, required("error_message")
	}
	asked := q.bot.answer(q.params.get("pre_checkout_query_id"), "pre_checkout_query")
	if asked == nil {
		return nil, badRequest(queryTooOld)
	}
	if ok {
		q.bot.charge(asked.checkout)
	}
	return true, nil
}

// charge takes a user's money, and tells the bot.
func (b *Bot) charge(o *checkout) {
	paid := &charge{checkout: *o}
	paid.payment.TelegramPaymentChargeId = "stx" + b.srv.rand.text(40)
	paid.payment.ProviderPaymentChargeId = strconv.FormatInt(o.user.ID, 10) + "_" + b.srv.rand.text(10)
	b.mu.Lock()
	if b.charges == nil {
		b.charges = make(map[string]*charge)
	}
	b.charges[paid.payment.TelegramPaymentChargeId] = paid
	b.mu.Unlock()
	payment := paid.payment
	o.user.post(o.chat, gotgbot.Message{SuccessfulPayment: &payment})
}

func refundStarPayment(q *request) (any, *apiError) {
	id := q.params.get("telegram_payment_charge_id")
	user := q.params.id("user_id")
	switch {
	case user <= 0:
		return nil, badRequest("invalid user_id specified")
	case id == "":
		return nil, required("telegram_payment_charge_id")
	}
	q.bot.mu.Lock()
	paid := q.bot.charges[id]
	switch {
	case paid == nil || paid.user.ID != user || paid.payment.Currency != stars:
		q.bot.mu.Unlock()
		return nil, badRequest("CHARGE_ID_INVALID")
	case paid.refunded:
		q.bot.mu.Unlock()
		return nil, badRequest("CHARGE_ALREADY_REFUNDED")
	}
	paid.refunded = true
	q.bot.mu.Unlock()
	p := paid.payment
	paid.user.post(paid.chat, gotgbot.Message{RefundedPayment: &gotgbot.RefundedPayment{
		Currency: p.Currency, TotalAmount: p.TotalAmount, InvoicePayload: p.InvoicePayload,
		TelegramPaymentChargeId: p.TelegramPaymentChargeId, ProviderPaymentChargeId: p.ProviderPaymentChargeId,
	}})
	return true, nil
}
