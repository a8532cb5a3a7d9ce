package sqlitestore_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/PaulSonOfLars/gotgbot/v2/ext"
	"github.com/PaulSonOfLars/gotgbot/v2/ext/handlers"
	filter "github.com/PaulSonOfLars/gotgbot/v2/ext/handlers/filters/message"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// settings are what differs from one service to another.
type settings struct {
	database  string         // path of the file
	keys      *seal.Ring     // of seal.FromFile or FromEnv
	master    []byte         // 32 random bytes, the same at each start
	publicURL string         // "https://hooks.example.com", which leads to listen
	listen    net.Listener   // where the web server is
	telegram  session.Config // the zero Config is Telegram
}

// A whole service: customers register their bots, whose updates come by webhook
// and are answered, until a signal ends it. Started again on its file it goes on.
func Example_service() {
	telegram := bottest.New(bottest.Config{}) // stands for Telegram
	defer telegram.Close()
	shop, news, ann := telegram.NewBot("shop_bot"), telegram.NewBot("news_bot"), telegram.NewUser("Ann")
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	key, _ := seal.GenerateKey("2026-07")
	keys, _ := seal.New(key)
	status := func(r *http.Response, err error) any {
		if err != nil {
			return err
		}
		defer r.Body.Close()
		return r.Status
	}
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answered := answers{telegram.Transport(), make(chan struct{}, 10)}

	for run := range 2 {
		listener, _ := net.Listen("tcp", "127.0.0.1:0")
		at := "http://" + listener.Addr().String()
		ctx, interrupt := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() {
			ended <- serve(ctx, settings{
				database: filepath.Join(dir, "fleet.db"), keys: keys, master: make([]byte, 32),
				publicURL: at, listen: listener, telegram: session.Config{Transport: answered},
			})
		}()
		if run == 0 {
			for id, bot := range map[string]*bottest.Bot{"customer-7": shop, "customer-8": news} {
				fmt.Println("register:", status(web.PostForm(at+"/bots/"+id, url.Values{"token": {bot.Token()}})))
			}
		}
		ann.Write(shop, "two pizzas, please")
		ann.Start(news, "")
		<-answered.sent
		<-answered.sent
		for status(web.Get(at+"/readyz")) != "200 OK" { // what was stored is loaded meanwhile
			runtime.Gosched()
		}
		interrupt()
		fmt.Println("ended:", <-ended)
	}
	for _, bot := range []*bottest.Bot{shop, news} {
		messages := bot.Messages(ann.ID)
		fmt.Println(len(messages), messages[len(messages)-1].Text)
	}
	// Output:
	// register: 200 OK
	// register: 200 OK
	// ended: <nil>
	// ended: <nil>
	// 4 customer-7 heard: two pizzas, please
	// 4 welcome to @news_bot
}

// serve runs the service until ctx ends.
func serve(ctx context.Context, c settings) (err error) {
	// What is under way when ctx ends is finished. So what follows is started
	// with a context that outlives it, and ended in the reverse order in which it
	// was made: first what brings in work, then who does it, then what they use.
	running := context.WithoutCancel(ctx)
	end := func(stop func(context.Context) error) {
		ctx, cancel := context.WithTimeout(running, 10*time.Second)
		defer cancel()
		err = errors.Join(err, stop(ctx))
	}

	db, err := sqlitestore.Open(ctx, c.database, sqlitestore.Config{Keys: c.keys})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	monitor, err := health.New(health.Config{Store: db.Health(), Gone: tenant.Gone(db.Tenants())})
	if err != nil {
		return err
	}
	if err := monitor.Start(running); err != nil {
		return err
	}
	defer end(monitor.Stop)
	guard, err := session.NewGuard(session.GuardConfig{Health: monitor})
	if err != nil {
		return err
	}
	defer guard.Close()
	c.telegram.Guard = guard
	s, err := session.New(c.telegram)
	if err != nil {
		return err
	}
	defer end(s.Close)
	pool, err := tenant.NewPool(s, db.Tenants(), tenant.PoolConfig{Limiter: guard})
	if err != nil {
		return err
	}
	defer end(pool.Close)
	manager := tenant.NewManager(pool, tenant.ManagerConfig{Health: monitor, Forget: []tenant.Forgetter{db.Inbox()}})
	if err := manager.Start(running); err != nil {
		return err
	}
	defer manager.Stop()

	// Handlers are gotgbot's, the same for all bots.
	d := inbox.NewDispatcher(&ext.DispatcherOpts{Error: func(b *gotgbot.Bot, _ *ext.Context, err error) ext.DispatcherAction {
		slog.Warn("handler failed", "bot", b.Username, "kind", errors.KindOf(err))
		return ext.DispatcherActionNoop
	}})
	d.AddHandler(handlers.NewCommand("start", func(b *gotgbot.Bot, c *ext.Context) error {
		_, err := c.EffectiveMessage.Reply(b, "welcome to @"+b.Username, nil)
		return err
	}))
	d.AddHandler(handlers.NewMessage(filter.Text, func(b *gotgbot.Bot, c *ext.Context) error {
		_, err := c.EffectiveMessage.Reply(b, inbox.TenantOf(c).ID()+" heard: "+c.EffectiveMessage.Text, nil)
		return err
	}))
	workers, err := inbox.NewWorkers(db.Inbox(), pool, d, inbox.WorkersConfig{})
	if err != nil {
		return err
	}
	if err := workers.Start(running); err != nil {
		return err
	}
	defer end(workers.Stop)

	hookKeys, err := webhook.NewKeys(webhook.Key{Master: c.master, Generation: 1})
	if err != nil {
		return err
	}
	receiver, err := webhook.NewReceiver(db.Inbox(), hookKeys, webhook.Config{Tenants: db.Tenants()})
	if err != nil {
		return err
	}
	hooks, err := webhook.NewManager(pool, manager, hookKeys, webhook.ManagerConfig{
		URL: c.publicURL + "/webhook", AllowedUpdates: inbox.KindsOf(d),
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /webhook/{opaque}", receiver)
	mux.Handle("GET /healthz", health.LiveHandler())
	mux.Handle("GET /readyz", health.ReadyHandler(
		health.Check{Name: "health", Check: func(context.Context) error { return monitor.Ready() }},
	))
	mux.HandleFunc("POST /bots/{id}", func(w http.ResponseWriter, r *http.Request) { // in earnest: ask first who it is
		_, err := manager.Register(r.Context(), r.PathValue("id"), r.PostFormValue("token"))
		if err == nil {
			_, err = hooks.Ensure(r.Context(), r.PathValue("id"), webhook.Options{})
		}
		errors.WriteProblem(w, r, err) // nothing where all is well
	})
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	served := make(chan error, 1)
	go func() { served <- web.Serve(c.listen) }()
	defer end(web.Shutdown)

	// Of bots that were registered before, a webhook may be missing or wrong.
	reconciling, cancel := context.WithCancel(ctx)
	reconciled := make(chan struct{})
	go func() {
		defer close(reconciled)
		if _, err := hooks.Reconcile(reconciling, webhook.Reconcile{}); err != nil && ctx.Err() == nil {
			slog.Error("webhooks not reconciled", "err", err)
		}
	}()
	defer func() { cancel(); <-reconciled }()

	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		return err
	}
}

// answers tells of each message that was sent.
type answers struct {
	http.RoundTripper
	sent chan struct{}
}

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.RoundTripper.RoundTrip(r)
	if strings.HasSuffix(r.URL.Path, "/sendMessage") {
		a.sent <- struct{}{}
	}
	return resp, err
}
