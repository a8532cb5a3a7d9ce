package ownership

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// Tenants is where managed bots become tenants; [tenant.Manager] is it.
type Tenants interface {
	// Each is as the tenant.Manager's method of that name.

	Register(ctx context.Context, id, token string, options ...tenant.Option) (tenant.Record, error)
	Rotate(ctx context.Context, id, token string) (tenant.Record, error)
	Get(ctx context.Context, id string) (tenant.Record, error)
}

// Records find the tenant of a bot; every [tenant.Store] does.
type Records interface {
	// ByBot returns the record of the tenant that a bot belongs to; an error of
	// kind [errors.NotFound] where there is none.
	ByBot(ctx context.Context, botID int64) (tenant.Record, error)
}

// ManagedConfig configures [Managed]. Only Manager is required.
type ManagedConfig struct {
	// Manager is the id of the tenant whose bot manages the others. Updates of
	// other tenants are not believed: any customer's bot may manage bots.
	Manager string
	// Name gives a new managed bot its tenant's id, and options of its record.
	// An error refuses the bot; of kind [errors.Forbidden] it is the end of it,
	// after any other the update may come again. Nil means "bot" and the bot's
	// id.
	Name func(ctx context.Context, m gotgbot.ManagedBotUpdated) (id string, options []tenant.Option, err error)
	// OnManaged hears of each managed bot that was registered or whose token
	// or owner changed. Nil hears nothing. To have its updates received is rather
	// for OnActive of tenant.ManagerConfig, which hears of new tokens by Fetch and
	// Replace too.
	OnManaged func(ctx context.Context, r tenant.Record, p Proof)
	// Logger hears of what was done. Nil discards.
	Logger *slog.Logger
}

// Managed makes tenants of bots that users create by a manager bot (Bot API
// 9.6). Telegram tells the manager who created a bot, which proves the
// ownership, and gives it the bot's token. It is safe for concurrent use.
type Managed struct {
	verifier *Verifier
	tenants  Tenants
	records  Records
	cfg      ManagedConfig
	log      *slog.Logger
}

// NewManaged returns a Managed. The error names all that is missing.
func NewManaged(v *Verifier, tenants Tenants, records Records, cfg ManagedConfig) (*Managed, error) {
	var bad []error
	if v == nil {
		bad = append(bad, errors.New("verifier is nil"))
	}
	if tenants == nil {
		bad = append(bad, errors.New("tenants are nil"))
	}
	if records == nil {
		bad = append(bad, errors.New("records are nil"))
	}
	if cfg.Manager == "" {
		bad = append(bad, errors.New("Manager is empty"))
	}
	if len(bad) > 0 {
		return nil, fail("configure managed bots", cfg.Manager, errors.Internal, errors.Join(bad...))
	}
	if cfg.Name == nil {
		cfg.Name = func(_ context.Context, m gotgbot.ManagedBotUpdated) (string, []tenant.Option, error) {
			return fmt.Sprint("bot", m.Bot.Id), nil, nil
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Managed{verifier: v, tenants: tenants, records: records, cfg: cfg, log: cfg.Logger}, nil
}

// Check takes in an update of the manager that says that a bot was created, or
// that its token or owner changed: it fetches the bot's token with manager,
// registers the tenant or rotates its token, and notes who owns it. ok is
// false where the update says nothing of the kind.
//
// After an error it may be called again with the same update, and so it may
// when it succeeded.
func (m *Managed) Check(ctx context.Context, manager *gotgbot.Bot, u inbox.Update) (p Proof, ok bool, err error) {
	const op = "take in managed bot"
	if u.Kind != "managed_bot" || u.Tenant != m.cfg.Manager {
		return Proof{}, false, nil
	}
	d, err := u.Decode()
	if err != nil {
		return Proof{}, false, err
	}
	if d.ManagedBot == nil || d.ManagedBot.Bot.Id <= 0 || d.ManagedBot.User.Id <= 0 {
		return Proof{}, false, fail(op, u.Tenant, errors.BadReply, errors.New("bot or user is missing"))
	}
	token, err := m.fetch(ctx, manager, d.ManagedBot.Bot.Id)
	if err != nil {
		return Proof{}, false, err
	}
	r, err := m.place(ctx, *d.ManagedBot, token)
	if err != nil {
		return Proof{}, false, err
	}
	p, err = m.verifier.prove(ctx, Proof{Tenant: r.ID, BotID: r.BotID, User: d.ManagedBot.User.Id, Method: ByManager})
	if err != nil {
		return Proof{}, false, err
	}
	m.log.InfoContext(ctx, "managed bot taken in", slog.String("tenant", r.ID), slog.String("bot", r.Username))
	if m.cfg.OnManaged != nil {
		m.cfg.OnManaged(ctx, r, p)
	}
	return p, true, nil
}

// place makes sure that the bot has a tenant with this token.
func (m *Managed) place(ctx context.Context, made gotgbot.ManagedBotUpdated, token session.Token) (tenant.Record, error) {
	r, err := m.records.ByBot(ctx, made.Bot.Id)
	switch {
	case err == nil:
		return m.rotate(ctx, r, token)
	case !errors.Is(err, errors.NotFound):
		return tenant.Record{}, err
	}
	id, options, err := m.cfg.Name(ctx, made)
	if err != nil {
		return tenant.Record{}, fail("name managed bot", m.cfg.Manager, errors.KindOf(err), err)
	}
	return m.tenants.Register(ctx, id, token.Reveal(), options...)
}

// rotate gives a tenant a token, also one that it has: an earlier call may have
// stored it without an answer, so that nobody has heard of it yet.
func (m *Managed) rotate(ctx context.Context, r tenant.Record, token session.Token) (tenant.Record, error) {
	return m.tenants.Rotate(ctx, r.ID, token.Reveal())
}

// Fetch gives a managed bot's tenant the token that Telegram has for it now,
// such as after the old one was refused. A new one has no webhook yet, and so it
// is after Replace: have OnActive of tenant.ManagerConfig set it.
func (m *Managed) Fetch(ctx context.Context, manager *gotgbot.Bot, id string) (tenant.Record, error) {
	r, err := m.tenants.Get(ctx, id)
	if err != nil {
		return tenant.Record{}, err
	}
	token, err := m.fetch(ctx, manager, r.BotID)
	if err != nil {
		return tenant.Record{}, err
	}
	return m.rotate(ctx, r, token)
}

// Replace has Telegram make a new token for a managed bot, and gives it to the
// bot's tenant. The old one is refused from then on. Where it is not known
// whether there is a new one, it is asked; where there is one that could not
// be stored, the error says why, and Fetch mends it.
func (m *Managed) Replace(ctx context.Context, manager *gotgbot.Bot, id string) (tenant.Record, error) {
	r, err := m.tenants.Get(ctx, id)
	if err != nil {
		return tenant.Record{}, err
	}
	text, err := manager.ReplaceManagedBotTokenWithContext(ctx, r.BotID, nil)
	if err != nil && !errors.SafeToRepeat(err) {
		token, asked := m.fetch(ctx, manager, r.BotID)
		if asked != nil || token.Equal(r.Token) {
			return tenant.Record{}, err
		}
		return m.rotate(ctx, r, token)
	}
	token, err := parse("replace token", id, r.BotID, text, err)
	if err != nil {
		return tenant.Record{}, err
	}
	return m.rotate(ctx, r, token)
}

// fetch asks Telegram for a managed bot's token.
func (m *Managed) fetch(ctx context.Context, manager *gotgbot.Bot, botID int64) (session.Token, error) {
	text, err := manager.GetManagedBotTokenWithContext(ctx, botID, nil)
	return parse("fetch token", m.cfg.Manager, botID, text, err)
}

// parse reads a token that Telegram returned.
func parse(op, tenant string, botID int64, text string, err error) (session.Token, error) {
	if err != nil {
		if _, typed := errors.AsType[*errors.Error](err); typed {
			return session.Token{}, err
		}
		// gotgbot's own error, whose text may quote the answer.
		return session.Token{}, fail(op, tenant, errors.BadReply, fmt.Errorf("%T", err))
	}
	token, err := session.ParseToken(text)
	if err != nil {
		return session.Token{}, fail(op, tenant, errors.BadReply, errors.New("the answer is no token"))
	}
	if token.ID() != botID {
		return session.Token{}, fail(op, tenant, errors.WrongBot, nil)
	}
	return token, nil
}

// Middleware returns the middleware of the manager's updates: what [Managed.Check]
// takes in goes on to the handler, which may greet the new owner. A bot that
// Name refuses with [errors.Forbidden] does not.
func (m *Managed) Middleware() inbox.Middleware {
	return func(next inbox.Handler) inbox.Handler {
		return inbox.HandlerFunc(func(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
			if u.Kind == "managed_bot" && u.Tenant == m.cfg.Manager {
				_, _, err := m.Check(ctx, t.Bot, u)
				if errors.Is(err, errors.Forbidden) {
					m.log.WarnContext(ctx, "managed bot refused", slog.String("error", session.Redact(err.Error())))
					return nil
				}
				if err != nil {
					return err
				}
			}
			return next.HandleUpdate(ctx, t, u)
		})
	}
}
