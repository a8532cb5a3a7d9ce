package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/tenant"
)

// ledger is what the servers have said.
type ledger struct {
	mu        sync.Mutex // guards what follows
	tenants   map[string]*account
	confirmed int // changes
	opened    int // tenants, after all restarts
	notOpened int
	active    int // tenants that the next server is to open; -1: not known
	asked     int // who they are, and answered
	wrong     int // of these

	bots string // the file with what Telegram knows
}

// account is what is known of one tenant.
type account struct {
	version int64 // confirmed; 0: not registered
	gone    bool  // its removal is confirmed
	pending string
	rotated bool // its new token is confirmed
	// stale says that Telegram had given out a token that was never stored: the
	// stored one is refused, and its tenant quarantined.
	stale bool
}

func newLedger(bots string) *ledger {
	return &ledger{tenants: map[string]*account{}, active: -1, bots: bots}
}

// account returns a tenant's, which is made where there is none.
func (l *ledger) account(id string) *account {
	a := l.tenants[id]
	if a == nil {
		a = &account{}
		l.tenants[id] = a
	}
	return a
}

// note reports whether the server says that it has opened its tenants.
func (l *ledger) note(words []string) (opened bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(words) == 4 && words[0] == "opened":
		n, _ := strconv.Atoi(words[1])
		of, _ := strconv.Atoi(words[3])
		if l.active >= 0 {
			of = max(of, l.active)
		}
		l.opened += n
		l.notOpened += of - n
		return true
	case len(words) == 3 && words[0] == "begin":
		l.account(words[2]).pending = words[1]
	case len(words) == 3 && words[0] == "me":
		l.asked++
		refused := "error:" + errors.Unauthorized.String()
		if a := l.tenants[words[1]]; words[2] != username(words[1]) && !(words[2] == refused && a != nil && a.stale) {
			l.wrong++
		}
	case len(words) == 4 && words[0] == "done":
		a := l.account(words[2])
		a.pending = ""
		switch words[1] {
		case "use":
			return false
		case "remove":
			a.gone = true
		default:
			if words[1] == "rotate" {
				a.rotated = true
			}
			a.version, _ = strconv.ParseInt(words[3], 10, 64)
		}
		l.confirmed++
	}
	return false
}

// verdict is what a comparison found.
type verdict struct{ stored, lost, half, wrong int }

func (v *verdict) add(w verdict) {
	v.lost += w.lost
	v.half += w.half
	v.wrong += w.wrong
}

func (v verdict) String() string {
	return fmt.Sprintf("%d tenants stored, %d lost, %d half-made, %d with a wrong token", v.stored, v.lost, v.half, v.wrong)
}

// check compares the ledger with the database. What was under way when the
// server died may have been done or not, but not by half; from then on what is
// stored counts.
func (l *ledger) check(ctx context.Context, where, keys string) (v verdict, err error) {
	db, err := database.Open(ctx, where, keys)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	stored, log, err := readAll(ctx, db.Tenants)
	if err != nil {
		return v, err
	}
	given, err := readBots(l.bots) // after what is stored, which can't be newer
	if err != nil {
		return v, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	v.stored, l.active = len(stored), 0
	for id, r := range stored {
		if r.Status == tenant.Active {
			l.active++
		}
		if r.TokenErr != nil || r.Validate() != nil || !matches(log[id], r.Version, false) {
			v.half++
		}
	}
	for id, a := range l.tenants {
		r, there := stored[id]
		quarantined := a.stale // as it may be by now
		switch {
		case there && a.gone:
			v.lost++ // the removal
		case there && r.Version != a.version && !((a.changing() || quarantined) && r.Version == a.next(log[id])):
			v.lost++
		case !there && !a.gone && a.version > 0 && a.pending != "remove":
			v.lost++
		case !there && len(log[id]) > 0 && !matches(log[id], log[id][len(log[id])-1].Version, true):
			v.half++
		}
		a.pending = ""
		if there {
			a.version = r.Version
		} else {
			a.gone = true
		}
	}
	if l.bots != "" {
		v.wrong = l.checkTokens(stored, given)
	}
	return v, nil
}

// checkTokens counts the tenants that have not the token that Telegram accepts
// as theirs. The lock is held.
func (l *ledger) checkTokens(stored map[string]tenant.Record, given map[string][]string) (wrong int) {
	for id, r := range stored {
		tokens, a := given[username(id)], l.tenants[id]
		n := slices.Index(tokens, r.Token.Reveal())
		// One that was given out and not confirmed need not be stored.
		stale := n >= 0 && n == len(tokens)-2 && a != nil && !a.rotated
		if a != nil {
			a.stale = stale
		}
		if n != len(tokens)-1 && !stale || n < 0 {
			wrong++
		}
	}
	return wrong
}

// username returns the name of a tenant's bot in the server's demo.
func username(id string) string {
	if n, ok := strings.CutPrefix(id, "tenant-"); ok {
		return "demo" + strings.TrimLeft(n, "0") + "_bot"
	}
	return id + "_bot"
}

// readBots returns the tokens that Telegram has given out, by the bot's name,
// the valid one last.
func readBots(path string) (map[string][]string, error) {
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	given := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if name, token, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			given[name] = append(given[name], token)
		}
	}
	return given, nil
}

// next is the version of the change that comes next, of a registration the one
// that the log has.
func (a *account) next(log []tenant.Entry) int64 {
	if a.version == 0 && len(log) > 0 {
		return log[0].Version
	}
	return a.version + 1
}

// changing reports whether a change was under way that moves the version.
func (a *account) changing() bool {
	return a.pending != "" && a.pending != "use" && a.pending != "remove"
}

// matches reports whether the log begins with a registration and has one entry for
// each version of a record, and one more for its removal. Versions begin above
// those of tenants that were removed.
func matches(log []tenant.Entry, version int64, removed bool) bool {
	if removed {
		if len(log) == 0 || log[len(log)-1].Action != tenant.ActionRemove {
			return false
		}
		log = log[:len(log)-1]
	}
	if len(log) == 0 || log[len(log)-1].Version != version {
		return false
	}
	for i, e := range log {
		if e.Version != log[0].Version+int64(i) || e.Action == tenant.ActionRemove || (e.Action == tenant.ActionRegister) != (i == 0) {
			return false
		}
	}
	return true
}

func readAll(ctx context.Context, s tenant.Store) (map[string]tenant.Record, map[string][]tenant.Entry, error) {
	records := map[string]tenant.Record{}
	for f := (tenant.Filter{Limit: 1000}); ; {
		page, err := s.List(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			records[r.ID] = r
		}
		f.After = page[len(page)-1].ID
	}
	log := map[string][]tenant.Entry{}
	for f := (tenant.LogFilter{Limit: 1000}); ; {
		page, err := s.Log(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			log[e.Tenant] = append(log[e.Tenant], e)
		}
		f.After = page[len(page)-1].Seq
	}
	return records, log, nil
}
