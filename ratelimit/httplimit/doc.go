// Package httplimit limits how often each client may call an HTTP handler.
//
//	limiter, err := httplimit.New(httplimit.Config{
//		Routes: []httplimit.Route{{Pattern: "POST /api/bots", Limit: ratelimit.Per(5, time.Minute)}},
//	})
//	...
//	http.ListenAndServe(":8080", limiter.Handler(mux))
//
// A client is an IPv4 address or the /64 network of an IPv6 address, since
// that is what one customer of a provider gets. Some get more, for next to
// nothing, so all clients of one /48 together have the limits of 16 of them; see
// [Config].PerNetwork. The one decision to make is
// which proxies to trust: behind a proxy all requests come from its address,
// and in front of none everybody can write what they like into
// X-Forwarded-For. Name the proxies in [Config].TrustedProxies, and only them.
//
// Every answer of a limited route tells the client how it stands, in the
// RateLimit and RateLimit-Policy fields
// (draft-ietf-httpapi-ratelimit-headers), and a refusal says in Retry-After
// when to come back.
//
// Clients are counted in this process, each instance of a service by itself.
package httplimit
