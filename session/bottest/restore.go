package bottest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// RestoreBot makes a bot that has that token, as one of an earlier server had
// it: for programs that keep tokens and are started again, with a new server.
// A token that is malformed, or of a bot that is there, is an error.
func (s *Server) RestoreBot(username, token string) (*Bot, error) {
	digits, secret, _ := strings.Cut(token, ":")
	id, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || id <= 0 || secret == "" {
		return nil, errors.New("bottest: not a token")
	}
	b := &Bot{srv: s, username: username, name: username, id: id, token: token}
	b.dialogs = make(map[int64]*chat)
	b.met = make(map[int64]bool)
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	if s.world.bots[b.id] != nil {
		return nil, fmt.Errorf("bottest: there is a bot %d already", b.id)
	}
	s.world.lastBot = max(s.world.lastBot, b.id)
	s.world.bots[b.id] = b
	s.world.tokens[token] = b
	s.world.take(b.username, b)
	return b, nil
}
