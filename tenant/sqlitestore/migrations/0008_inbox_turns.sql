-- A chat whose at is a time gets a place in the queue when the time has come, so
-- that those that are ready are found without passing by those that are not:
-- when nothing can be sent, every chat of every tenant waits for another try.
-- 1000000000000 is greater than any place, and a moment in January 1970.
DROP INDEX inbox_chats_by_turn;
CREATE INDEX inbox_chats_ready ON inbox_chats (tenant, at) WHERE at < 1000000000000;
CREATE INDEX inbox_chats_by_time ON inbox_chats (at) WHERE at >= 1000000000000;
