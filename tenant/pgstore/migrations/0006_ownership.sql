-- Codes that were given out and not sent to their bots yet.
CREATE TABLE {schema}.ownership_challenges (
	tenant      text COLLATE "C" NOT NULL,
	telegram_id bigint      NOT NULL, -- the user's; 0: whoever sends it
	bot_id      bigint      NOT NULL,
	hash        bytea       NOT NULL, -- a keyed hash of the code
	attempts    integer     NOT NULL,
	expires_at  timestamptz NOT NULL,
	CONSTRAINT ownership_challenges_pkey PRIMARY KEY (tenant, telegram_id)
);
CREATE INDEX ownership_challenges_by_expiry ON {schema}.ownership_challenges (expires_at);

CREATE TABLE {schema}.ownership_proofs (
	tenant      text COLLATE "C" NOT NULL,
	bot_id      bigint      NOT NULL,
	telegram_id bigint      NOT NULL,
	method      text        NOT NULL,
	at          timestamptz NOT NULL,
	hash        bytea,
	CONSTRAINT ownership_proofs_pkey PRIMARY KEY (tenant)
);
