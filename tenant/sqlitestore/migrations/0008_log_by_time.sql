-- For those who remove old entries.
CREATE INDEX log_by_time ON log (time);
