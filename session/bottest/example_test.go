package bottest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// echo answers every message it gets by one long poll.
func echo(b *gotgbot.Bot) {
	updates, err := b.GetUpdates(&gotgbot.GetUpdatesOpts{Timeout: 10, RequestOpts: &gotgbot.RequestOpts{Timeout: 15 * time.Second}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, u := range updates {
		if _, err := b.SendMessage(u.Message.Chat.Id, "You said: "+u.Message.Text, nil); err != nil {
			fmt.Println(err)
		}
	}
}

// newEcho connects the real gotgbot to a server, in memory.
func newEcho(srv *bottest.Server, bot *bottest.Bot) *gotgbot.Bot {
	b, err := gotgbot.NewBot(bot.Token(), &gotgbot.BotOpts{
		BotClient: &gotgbot.BaseBotClient{Client: http.Client{Transport: srv.Transport()}},
	})
	if err != nil {
		panic(err)
	}
	return b
}

// A bot is tested in memory: a user writes, the bot runs, and the chat is
// looked at.
func Example() {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	bot, ann := srv.NewBot("echo_bot"), srv.NewUser("Ann")

	ann.Write(bot, "hello")
	echo(newEcho(srv, bot))

	for _, m := range srv.Messages(ann.ID) {
		fmt.Printf("%s: %s\n", m.From.FirstName, m.Text)
	}
	// Output:
	// Ann: hello
	// echo_bot: You said: hello
}

// The message arrives, but its sender is not told: the case in which a bot
// that simply tries again says everything twice.
func ExampleServer_Fail() {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	bot, ann := srv.NewBot("echo_bot"), srv.NewUser("Ann")
	b := newEcho(srv, bot)
	ann.Write(bot, "hello")

	srv.Fail(bottest.Fault{Method: "sendMessage", Times: 1, Do: bottest.ResetAfter()})
	_, err := b.SendMessage(ann.ID, "Your order is on its way.", nil)
	fmt.Println("failed:", err != nil)
	fmt.Println("in the chat:", srv.Messages(ann.ID)[1].Text)
	// Output:
	// failed: true
	// in the chat: Your order is on its way.
}

// A bot can be told to slow down for as long as the test likes.
func ExampleTooManyRequests() {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	bot := srv.NewBot("echo_bot")
	b := newEcho(srv, bot)

	srv.Fail(bottest.Fault{Bot: bot, Do: bottest.TooManyRequests(90 * time.Minute)})
	_, err := b.GetMe(nil)
	fmt.Println(err)
	// Output: unable to getMe: Too Many Requests: retry after 5400
}

// A webhook's handler gets its updates in memory, and its answer may call a
// method, as on the real server.
func ExampleHandlerTransport() {
	done := make(chan bool)
	hook := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var u gotgbot.Update
		_ = json.NewDecoder(r.Body).Decode(&u)
		fmt.Println(r.Header.Get("X-Telegram-Bot-Api-Secret-Token"), "brings:", u.Message.Text)
		close(done)
	})
	srv := bottest.New(bottest.Config{WebhookTransport: bottest.HandlerTransport(hook)})
	defer srv.Close()
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")

	_, err := newEcho(srv, bot).SetWebhook("https://example.com/hook", &gotgbot.SetWebhookOpts{SecretToken: "s3cret"})
	fmt.Println("set:", err == nil)
	ann.Write(bot, "one pizza, please")
	<-done
	// Output:
	// set: true
	// s3cret brings: one pizza, please
}

// Any client in any language can use the server over a socket.
func ExampleServer_Start() {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	bot := srv.NewBot("shop_bot")
	url, err := srv.Start()
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := http.Get(url + "/bot" + bot.Token() + "/getMe")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

// A group that becomes a supergroup changes its id under its bots.
func ExampleGroup_Upgrade() {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	bot, ann := srv.NewBot("team_bot"), srv.NewUser("Ann")
	team := srv.NewGroup("team", ann, bot)
	b := newEcho(srv, bot)

	super := team.Upgrade()
	_, err := b.SendMessage(team.ID, "hello", nil)
	fmt.Println(err)
	if e, ok := err.(*gotgbot.TelegramError); ok {
		fmt.Println("it moved:", e.ResponseParams.MigrateToChatId == super.ID)
	}
	// Output:
	// unable to sendMessage: Bad Request: group chat was upgraded to a supergroup chat
	// it moved: true
}
