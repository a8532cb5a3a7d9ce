// Package health knows how each tenant's bot does, and tells before its owner
// notices.
//
//	m, err := health.New(health.Config{
//		Store: store,
//		Alerts: health.AlertConfig{Handlers: []health.AlertHandler{
//			health.LogAlerts(logger),
//			health.MessageAlerts(sendToOperators),
//		}},
//	})
//	...
//	err = m.Start(context.Background())
//	...
//	// When the process is asked to end, with a while of its own to save:
//	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
//	defer cancel()
//	err = m.Stop(ctx)
//
//	m.Observe("customer-7", health.Outcome{Latency: took, Kind: errors.KindOf(err)})
//
//	report, found := m.Get("customer-7") // "unhealthy: the last 5 calls failed, ..."
//	fleet := m.Fleet()
//
// A [Monitor] counts the outcomes of calls and makes of them a [Status]. A
// tenant becomes worse at once and better by degrees, so that its status does
// not flap; silence makes it neither. Package session's Guard reports every
// call and the circuit breakers, package tenant's Manager who is suspended, and
// a [Prober] asks after the bots that make no call.
//
// What counts against a bot is a failure of its token, of Telegram or of the
// way to it. A user who blocked the bot, or a bad parameter, is an answer and
// no failure. What this program itself held back is counted apart.
//
// # The decision to make
//
// Whom to tell. Transitions are told in alerts, by group: an outage of Telegram
// is one alert, however many bots it hits. Each transition is told once, and
// with a [Store] also those that waited when a process crashed: see [AlertConfig].
//
// # Where it is kept
//
// In memory, at most 1 KiB for each tenant, besides the id and the texts of
// reasons and errors; and, with a [Store], in a database, to which each replica
// adds what it has counted, every 5 min; what was decided on a suspension, and
// what handlers of alerts are to be told or were told, is saved at once. The context of Start is not that which a signal ends: its end
// is a crash, after which nothing is saved or told any more. Package healthtest has the suite for
// stores. A tenant that is removed is forgotten ([Monitor.Forget]), and where the
// process was killed before, later: see Gone of [Config].
//
// # What it does not do
//
// It does not keep a suspended bot from being used, which is package tenant's
// Manager, nor stop calls to one that fails, which is package breaker. It keeps
// no history: that is package usage.
package health
